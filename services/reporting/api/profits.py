"""GET /reports/profits: what the operator really has, and what it has earned."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from services.reporting.api.days import Range
from services.reporting.queries import Slice, read_profits
from shared import tenants
from shared.auth import Allow, Principal, Role
from shared.db import Database
from shared.fields import Currency

Reader = Annotated[Principal, Depends(Allow(Role.ADMIN, Role.FINANCE))]
EXAMPLE: JsonDict = {
    "currency": "KES",
    "date_from": "2026-03-01",
    "date_to": "2026-03-31",
    "count_payments": 2,
    "revenue": 20000,
    "refunds": 0,
    "payouts_disbursed": 9000,
    "cash_held": 10000,
    "fees": 0,
    "costs": 0,
    "net_profit": 1000,
    "payee_earnings": 18000,
    "commission_earned": 2000,
    "earned_profit": 2000,
    "owed_by_payees": 1000,
    "owed_to_payees": 0,
}


class Profits(BaseModel):
    """Minor units of one currency. Over all time, earned_profit - net_profit = owed_by_payees - owed_to_payees.

    net_profit = revenue - refunds - payouts_disbursed - cash_held - fees - costs: what the operator really has.
    earned_profit = revenue - refunds - payee_earnings - fees - costs: what it has earned.
    Earnings and cash count on the day of their payment, payouts on that of their disbursement; owed_* are of now.
    """

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    currency: str
    date_from: date | None
    date_to: date | None
    count_payments: int
    revenue: int
    refunds: int
    payouts_disbursed: int
    cash_held: int
    fees: int
    costs: int
    net_profit: int
    payee_earnings: int
    commission_earned: int
    earned_profit: int
    owed_by_payees: int
    owed_to_payees: int


def router(db: Database) -> APIRouter:
    """The route of profits."""
    routes = APIRouter(prefix="/api/v1/reports", tags=["reports"])

    @routes.get("/profits")
    async def profits(caller: Reader, days: Range, *, currency: Currency | None = None) -> Profits:
        """Profits of a range of days, or of all time."""
        async with db.transaction(caller.tenant, snapshot=True) as conn:
            tenant = await tenants.find(conn, caller.tenant)
            wanted = Slice(tenant.tenant_id, currency or tenant.currency, days.first, days.last, "day")
            sums = await read_profits(conn, wanted)
        kept = sums["revenue"] - sums["refunds"] - sums["fees"] - sums["costs"]
        return Profits(
            currency=wanted.currency,
            date_from=days.date_from,
            date_to=days.date_to,
            net_profit=kept - sums["payouts_disbursed"] - sums["cash_held"],
            earned_profit=kept - sums["payee_earnings"],
            **sums,
        )

    return routes
