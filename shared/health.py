"""Health and metrics, the routes that every service has."""

import asyncio
from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from shared import telemetry
from shared.auth import public
from shared.db import Database

# By metric. A red service still takes requests: whether it can is what /health/ready says.
ALARM_AFTER_S = {"takings_unhandled_callback_oldest_seconds": 600, "takings_outbox_oldest_seconds": 600}
RED: dict[int | str, dict[str, Any]] = {
    503: {"description": "Not so: the answer says why", "content": {"application/json": {"schema": {"type": "object"}}}}
}


def add_health(api: FastAPI, db: Database) -> None:
    """Add `/health`, `/health/live`, `/health/ready` and `/metrics`."""

    @api.get("/health/live", tags=["operations"], dependencies=[public])
    async def live() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @api.get("/health/ready", tags=["operations"], dependencies=[public], responses=RED)
    async def ready(response: Response) -> dict[str, Any]:
        """The database answers, and no topic is missing from the start that the broker does not make.

        A broker that is down delays events but refuses no one.
        """
        try:
            async with asyncio.timeout(2), db.transaction() as conn:
                await conn.fetchval("SELECT 1")
        except Exception as error:  # noqa: BLE001 - any failure is the answer
            response.status_code = 503
            return {"status": "unavailable", "database": type(error).__name__}
        if missing := telemetry.missing_topics():
            response.status_code = 503
            return {"status": "unavailable", "database": "ok", "missing_topics": missing}
        return {"status": "ok", "database": "ok"}

    @api.get("/health", tags=["operations"], dependencies=[public], responses=RED)
    async def health(response: Response) -> dict[str, Any]:
        """Whether a person should look: red while something waits too long that normally takes moments."""
        waiting_s = {name: REGISTRY.get_sample_value(name) or 0.0 for name in ALARM_AFTER_S}
        red = {name: round(age_s) for name, age_s in waiting_s.items() if age_s > ALARM_AFTER_S[name]}
        response.status_code = 503 if red else 200
        return {"status": "red" if red else "green", "waiting_s": red}

    @api.get("/metrics", tags=["operations"], dependencies=[public], response_class=Response)
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
