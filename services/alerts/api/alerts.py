"""Alerts: listed, and acknowledged by whoever takes care of them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from services.alerts.acknowledge_alert import acknowledge_alert
from services.alerts.models import Kind
from services.alerts.queries import AlertFilter, list_alerts
from shared.auth import Allow, Principal, Role
from shared.clocks import utc_now
from shared.db import Connection, Database
from shared.pages import Cursor, Limit, Page, page, read_time_cursor, time_cursor
from shared.routes import actor

Watcher = Annotated[Principal, Depends(Allow(Role.ADMIN, Role.FINANCE, Role.MANAGER))]
Status = Literal["open", "acknowledged"]
EXAMPLE: JsonDict = {
    "id": "0190f2c4-7a51-7c3e-9b7a-3f6f0e6d2a11",
    "rule_id": "0190f2c4-6b00-7d11-8c22-000000000001",
    "kind": "high_value",
    "subject": "0190f2c4-5a00-7d11-8c22-000000000002",
    "fleet_id": "sacco-1",
    "summary": "High value payment of KES 12,500.00 by mobile: fleet sacco-1, payment 0190f2c4-5a00-7d11-8c22-000000000002",
    "status": "open",
    "raised_at": "2026-03-01T09:15:00Z",
    "acknowledged_at": None,
    "acknowledged_by": None,
    "mail": "sent",
}


class AlertOut(BaseModel):
    """An alert; `subject` is the payment or payout. `mail`: pending, sent, failed (given up), none (no recipients)."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    id: UUID
    rule_id: UUID
    kind: Kind
    subject: str
    fleet_id: str | None
    summary: str
    status: Status
    raised_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    mail: Literal["pending", "sent", "failed", "none"]


def router(db: Database) -> APIRouter:
    """The routes of alerts."""
    routes = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])

    @routes.get("")
    async def list_(
        caller: Watcher,
        *,
        status: Status | None = None,
        kind: Kind | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[AlertOut]:
        """Alerts, newest first; a manager's are those of the own fleets."""
        wanted = AlertFilter(status=status, kind=kind, fleets=caller.fleets)
        async with db.transaction(caller.tenant) as conn:
            rows = await list_alerts(conn, caller.tenant, wanted, after=read_time_cursor(cursor), limit=limit + 1)
        shown, next_cursor = page(rows, limit, lambda row: time_cursor(row["raised_at"], str(row["id"])))
        return Page(items=[AlertOut(**row) for row in shown], next_cursor=next_cursor)

    @routes.post("/{alert_id}/acknowledge")
    async def acknowledge(request: Request, alert_id: UUID, caller: Watcher) -> AlertOut:
        """Acknowledge an alert; again, it answers with who did so first."""

        async def effect(conn: Connection) -> AlertOut:
            await acknowledge_alert(
                conn,
                alert_id,
                tenant_id=caller.tenant,
                fleets=caller.fleets,
                actor=actor(request, caller),
                now=utc_now(),
            )
            (row,) = await list_alerts(conn, caller.tenant, AlertFilter(alert_id=alert_id), limit=1)
            return AlertOut(**row)

        return await db.run(effect, caller.tenant)

    return routes
