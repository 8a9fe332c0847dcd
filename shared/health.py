"""Health and metrics, the routes that every service has."""

import asyncio
from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.auth import public
from shared.db import Database


def add_health(api: FastAPI, db: Database) -> None:
    """Add `/health/live`, `/health/ready` and `/metrics`."""

    @api.get("/health/live", tags=["operations"], dependencies=[public])
    async def live() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @api.get("/health/ready", tags=["operations"], dependencies=[public])
    async def ready(response: Response) -> dict[str, Any]:
        """The database answers; a broker that is down delays events but refuses no one."""
        try:
            async with asyncio.timeout(2), db.transaction() as conn:
                await conn.fetchval("SELECT 1")
        except Exception as error:  # noqa: BLE001 - any failure is the answer
            response.status_code = 503
            return {"status": "unavailable", "database": type(error).__name__}
        return {"status": "ok", "database": "ok"}

    @api.get("/metrics", tags=["operations"], dependencies=[public], response_class=Response)
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
