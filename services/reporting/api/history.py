"""GET /reports/history: every payment and payout, newest first."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from services.reporting.api.days import Range
from services.reporting.queries import HistoryPlace, read_history
from shared import tenants
from shared.auth import Allow, Principal, Role
from shared.db import Database
from shared.fields import Currency
from shared.pages import BadCursor, Cursor, Limit, Page, day_range, page, read_cursor, write_cursor

Reader = Annotated[Principal, Depends(Allow(Role.ADMIN, Role.FINANCE))]
EXAMPLE: JsonDict = {
    "kind": "payment",
    "id": "0190f2c4-7a51-7c3e-9b7a-3f6f0e6d2a11",
    "at": "2026-03-01T09:15:00Z",
    "amount": 12500,
    "currency": "KES",
    "status": "completed",
    "method": "mobile",
    "request_id": "trip-1",
    "transaction_id": "QK7A1B2C3D",
    "client_id": "client-1",
    "fleet_id": "sacco-1",
    "route_id": "CBD→Rongai",
    "vehicle_id": "KDA 123A",
    "applied": 12500,
    "fee": 125,
    "flags": [],
    "payee_id": None,
    "reference": None,
}


class Happening(BaseModel):
    """A payment (`at`: when it was paid) or a payout (`at`: when it was requested); amounts in minor units."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    kind: Literal["payment", "payout"]
    id: str
    at: datetime
    amount: int
    currency: str
    status: str
    method: str | None
    request_id: str | None
    transaction_id: str | None
    client_id: str | None
    fleet_id: str | None
    route_id: str | None
    vehicle_id: str | None
    applied: int | None
    fee: int | None
    flags: list[str]
    payee_id: str | None
    reference: str | None


def router(db: Database) -> APIRouter:
    """The route of the history."""
    routes = APIRouter(prefix="/api/v1/reports", tags=["reports"])

    @routes.get("/history")
    async def history(
        caller: Reader, days: Range, *, currency: Currency | None = None, limit: Limit = 100, cursor: Cursor = None
    ) -> Page[Happening]:
        """Payments and payouts of every status in a range of days, in every currency unless one is named."""
        async with db.transaction(caller.tenant) as conn:
            tenant = await tenants.find(conn, caller.tenant)
            start, end = day_range(days.date_from, days.date_to, tenant.zone)
            before = _place(cursor, end)
            rows = await read_history(
                conn, tenant.tenant_id, start=start, before=before, currency=currency, limit=limit + 1
            )
        shown, next_cursor = page(rows, limit, _cursor_after)
        items = [Happening(**{**row, "flags": msgspec.json.decode(row["flags"])}) for row in shown]
        return Page(items=items, next_cursor=next_cursor)

    return routes


def _cursor_after(row: Any) -> str:
    return write_cursor(row["at"].isoformat(), row["id"], row["kind"])


def _place(cursor: str | None, end: datetime) -> HistoryPlace:
    if cursor is None:
        return HistoryPlace(end)
    parts = read_cursor(cursor, 3)
    try:
        at = datetime.fromisoformat(parts[0])
    except (ValueError, TypeError):
        at = None
    if at is None or at.tzinfo is None or not all(isinstance(part, str) and "\0" not in part for part in parts):
        raise BadCursor
    return HistoryPlace(at, parts[1], parts[2]) if at < end else HistoryPlace(end)
