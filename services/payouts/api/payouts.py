"""Payouts, as they are read."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from services.payouts.models import PayoutStatus
from services.payouts.queries import get_payout, list_earnings, list_payouts
from shared import tenants
from shared.auth import Allow, Principal, Role, own_only
from shared.db import Database
from shared.fields import Id
from shared.pages import (
    DISTANT_FUTURE,
    DISTANT_PAST,
    Cursor,
    Limit,
    Page,
    day_range,
    page,
    read_time_cursor,
    time_cursor,
)

READERS = (Role.ADMIN, Role.FINANCE, Role.SYSTEM)
Reader = Annotated[Principal, Depends(Allow(*READERS))]
ReaderOrSelf = Annotated[Principal, Depends(Allow(*READERS, Role.DRIVER))]


class PayoutOut(BaseModel):
    """A payout; the amount in minor units."""

    id: UUID
    payee_id: str
    currency: str
    amount: int
    status: PayoutStatus
    reason: str | None
    method: str | None
    reference: str | None
    requested_by: str
    requested_at: datetime
    updated_at: datetime
    disbursed_at: datetime | None


class EarningOut(BaseModel):
    """An earning that a payout pays: gross = commission + net; payable = net - cash_held, below zero for a debt."""

    id: UUID
    payment_id: UUID
    part: int
    fleet_id: str | None
    gross: int
    commission: int
    commission_bp: int
    net: int
    cash_held: int
    payable: int
    paid_at: datetime


class PayoutWithEarnings(PayoutOut):
    """A payout with what it pays; the earnings' `payable` sums to its amount."""

    earnings: list[EarningOut]


def router(db: Database) -> APIRouter:
    """The routes of payouts that read."""
    routes = APIRouter(prefix="/api/v1/payouts", tags=["payouts"])

    def shown(rows: Sequence[asyncpg.Record], limit: int) -> Page[PayoutOut]:
        items, next_cursor = page(rows, limit, lambda row: time_cursor(row["requested_at"], str(row["id"])))
        return Page(items=[PayoutOut(**row) for row in items], next_cursor=next_cursor)

    @routes.get("")
    async def list_(
        caller: Reader,
        status: PayoutStatus | None = None,
        payee_id: Annotated[Id | None, Query()] = None,
        date_from: date | None = None,
        date_to: date | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[PayoutOut]:
        """Payouts newest first; days are those of the request, in the tenant's time zone."""
        async with db.transaction(caller.tenant) as conn:
            zone = (await tenants.find(conn, caller.tenant)).zone
            rows = await list_payouts(
                conn, caller.tenant, between=day_range(date_from, date_to, zone),
                after=read_time_cursor(cursor), limit=limit + 1, status=status, payee_id=payee_id,
            )  # fmt: skip
        return shown(rows, limit)

    @routes.get("/driver/{driver_id}")
    async def of_driver(
        driver_id: Id, caller: ReaderOrSelf, limit: Limit = 100, cursor: Cursor = None
    ) -> Page[PayoutOut]:
        """A driver's payouts, newest first; a driver sees their own."""
        own_only(caller, claim=caller.driver_id, wanted=driver_id, roles=READERS)
        async with db.transaction(caller.tenant) as conn:
            rows = await list_payouts(
                conn, caller.tenant, between=(DISTANT_PAST, DISTANT_FUTURE),
                after=read_time_cursor(cursor), limit=limit + 1, payee_id=driver_id,
            )  # fmt: skip
        return shown(rows, limit)

    @routes.get("/{payout_id}")
    async def get(payout_id: UUID, caller: ReaderOrSelf) -> PayoutWithEarnings:
        """A payout with the earnings that it pays."""
        async with db.transaction(caller.tenant) as conn:
            payout = await get_payout(conn, caller.tenant, payout_id)
            own_only(caller, claim=caller.driver_id, wanted=payout["payee_id"], roles=READERS)
            earnings = await list_earnings(conn, caller.tenant, payout_id)
        return PayoutWithEarnings(**payout, earnings=[EarningOut(**row) for row in earnings])

    return routes
