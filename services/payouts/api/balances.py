"""Balances: what a payee may be paid, waits for, has in payouts, owes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from services.payouts.queries import list_balances
from shared import tenants
from shared.auth import Allow, Principal, Role, own_only
from shared.clocks import utc_now
from shared.db import Database
from shared.fields import Currency, Id
from shared.pages import Cursor, Limit, Page, page, read_text_cursor, write_cursor

READERS = (Role.ADMIN, Role.FINANCE, Role.SYSTEM)
InCurrency = Annotated[Currency | None, Query(description="The tenant's when absent")]


class Balance(BaseModel):
    """Minor units of one currency. `owed` is what the payee owes; then nothing is available."""

    payee_id: str
    currency: str
    available: int = 0
    pending: int = 0
    locked: int = 0
    owed: int = 0
    lifetime_earned: int = 0
    lifetime_commission: int = 0
    lifetime_cash_held: int = 0
    lifetime_paid: int = 0


def router(db: Database) -> APIRouter:
    """The routes of balances."""
    routes = APIRouter(prefix="/api/v1", tags=["balances"])

    @routes.get("/payees/{payee_id}/balance")
    async def one(
        payee_id: Id,
        caller: Annotated[Principal, Depends(Allow(*READERS, Role.DRIVER))],
        currency: InCurrency = None,
    ) -> Balance:
        """A payee's balance; a driver sees their own. A payee who has earned nothing has nothing."""
        own_only(caller, claim=caller.driver_id, wanted=payee_id, roles=READERS)
        async with db.transaction(caller.tenant) as conn:
            in_currency = currency or (await tenants.find(conn, caller.tenant)).currency
            rows = await list_balances(conn, caller.tenant, in_currency, now=utc_now(), payee_id=payee_id)
        return Balance(**rows[0]) if rows else Balance(payee_id=payee_id, currency=in_currency)

    @routes.get("/balances")
    async def all_(
        caller: Annotated[Principal, Depends(Allow(*READERS))],
        currency: InCurrency = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[Balance]:
        """All payees' balances, by payee."""
        after = read_text_cursor(cursor)
        async with db.transaction(caller.tenant) as conn:
            in_currency = currency or (await tenants.find(conn, caller.tenant)).currency
            rows = await list_balances(conn, caller.tenant, in_currency, now=utc_now(), after=after, limit=limit + 1)
        shown, next_cursor = page(rows, limit, lambda row: write_cursor(row["payee_id"]))
        return Page(items=[Balance(**row) for row in shown], next_cursor=next_cursor)

    return routes
