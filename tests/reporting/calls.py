"""Calls of reporting: events projected, reports asked for."""

import httpx

from services.reporting.project_events import project_events
from shared.db import Database
from shared.events import Received


async def project(db: Database, *events: Received) -> None:
    """One batch, as the worker applies it."""
    async with db.transaction(*{event.tenant_id for event in events}) as conn:
        await project_events(conn, events)


TABLES = {
    "payments": "tenant_id, payment_id",
    "earnings": "tenant_id, earning_id",
    "payouts": "tenant_id, payout_id",
    "daily_rollups": "tenant_id, currency, dimension, day, member",
    "payee_balances": "tenant_id, currency, payee_id",
}


async def contents(db):
    async with db.transaction("acme", "other") as conn:
        return {
            table: [tuple(row) for row in await conn.fetch(f"SELECT * FROM {table} ORDER BY {key}")]  # noqa: S608
            for table, key in TABLES.items()
        }


class Caller:
    """Calls the API of a running service; no role: no token."""

    def __init__(self, running) -> None:
        self._running = running

    async def __call__(self, method: str, path: str, *roles: str, tenant="acme", claims=None, **more) -> httpx.Response:
        headers = self._running.as_(*roles, tenant=tenant, **(claims or {})) if roles else {}
        return await self._running.http.request(method, f"/api/v1{path}", headers=headers, **more)
