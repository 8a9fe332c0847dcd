"""Payouts: read, and asked for by the payee or by finance."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.payouts.models import PayoutStatus
from services.payouts.queries import get_payout, list_earnings, list_payouts
from services.payouts.request_payouts import Ask, Requested, request_payouts
from shared import tenants
from shared.auth import Allow, Principal, Role, own_only
from shared.db import Connection, Database
from shared.edge import actor, utc_now
from shared.errors import DomainError, Forbidden, Invalid
from shared.fields import Amount, Body, Currency, Id
from shared.idempotency import KEY_LIMIT, Key, once
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

SLICE = 100  # payees a transaction: with thousands of earnings each, more would take longer than a call may
READERS = (Role.ADMIN, Role.FINANCE, Role.SYSTEM)
Finance = Annotated[Principal, Depends(Allow(Role.FINANCE, Role.ADMIN))]
Reader = Annotated[Principal, Depends(Allow(*READERS))]
ReaderOrSelf = Annotated[Principal, Depends(Allow(*READERS, Role.DRIVER))]


class PayoutRequest(Body):
    """A driver's wish: all that is available, or an amount up to it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"amount": 50000, "currency": "KES"}]})

    amount: Amount | None = None
    currency: Currency | None = None


class PayoutRequests(Body):
    """Finance asks for many payees at once: all that is available to each."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"payee_ids": ["driver-1", "driver-2"]}]})

    payee_ids: Annotated[list[Id], Field(max_length=1_000)]
    currency: Currency | None = None


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


class RequestResult(BaseModel):
    """What became of one payee's payout."""

    index: int
    status: int
    payee_id: str
    id: UUID | None = None
    amount: int | None = None
    problem: dict[str, object] | None = None


class RequestResults(BaseModel):
    """One result per payee, in the order given."""

    results: list[RequestResult]


def _result(index: int, ask: Ask, outcome: Requested | DomainError) -> RequestResult:
    if isinstance(outcome, DomainError):
        return RequestResult(index=index, status=outcome.status, payee_id=ask.payee_id, problem=outcome.problem())
    return RequestResult(index=index, status=201, payee_id=ask.payee_id, id=outcome.payout_id, amount=outcome.amount)


def _suffix(start: int) -> str:
    return f"#{start}" if start else ""


def _refuse_key_without_room(key: str | None, payees: int) -> None:
    # Before the first slice: when a later one is refused, what the earlier ones requested stays.
    room = KEY_LIMIT - len(_suffix(max(0, payees - 1) // SLICE * SLICE))
    if key is not None and len(key) > room:
        raise Invalid(f"An Idempotency-Key for {payees} payees is at most {room} characters.", field="Idempotency-Key")


def router(db: Database) -> APIRouter:
    """The routes of payouts that read or request."""
    routes = APIRouter(prefix="/api/v1/payouts", tags=["payouts"])

    async def request_(
        conn: Connection, request: Request, caller: Principal, asks: Sequence[Ask], currency: str | None
    ) -> Sequence[Requested | DomainError]:
        tenant = await tenants.find(conn, caller.tenant)
        return await request_payouts(
            conn, asks, tenant_id=tenant.tenant_id, currency=currency or tenant.currency,
            actor=actor(request, caller), now=utc_now(),
        )  # fmt: skip

    @routes.post("/request", status_code=201, response_model=PayoutOut)
    async def request_own(
        request: Request,
        body: PayoutRequest,
        caller: Annotated[Principal, Depends(Allow(Role.DRIVER))],
        key: Key = None,
    ) -> Response:
        """A driver asks for their own money; 409 with the reason when there is none."""
        payee_id = caller.driver_id
        if payee_id is None:
            raise Forbidden("This token names no driver.")

        async def effect(conn: Connection) -> tuple[int, BaseModel]:
            (outcome,) = await request_(conn, request, caller, [Ask(payee_id, body.amount)], body.currency)
            if isinstance(outcome, DomainError):
                raise outcome
            return 201, PayoutOut(**await get_payout(conn, caller.tenant, outcome.payout_id))

        return await once(request, db, effect, caller=caller, key=key, now=utc_now())

    @routes.post("/request-batch", response_model=RequestResults)
    async def request_many(request: Request, body: PayoutRequests, caller: Finance, key: Key = None) -> Response:
        """Request a payout of all that is available for each payee, each on its own."""
        _refuse_key_without_room(key, len(body.payee_ids))
        merged = RequestResults(results=[])
        for start in range(0, len(body.payee_ids), SLICE):
            asks = [Ask(payee_id) for payee_id in body.payee_ids[start : start + SLICE]]
            slice_key = f"{key}{_suffix(start)}" if key is not None else None

            async def effect(conn: Connection, asks: Sequence[Ask] = asks, start: int = start) -> tuple[int, BaseModel]:
                outcomes = await request_(conn, request, caller, asks, body.currency)
                pairs = enumerate(zip(asks, outcomes, strict=True), start)
                return 200, RequestResults(results=[_result(i, ask, outcome) for i, (ask, outcome) in pairs])

            answer = await once(request, db, effect, caller=caller, key=slice_key, now=utc_now())
            if answer.status_code != 200:
                return answer
            merged.results += RequestResults.model_validate_json(bytes(answer.body)).results
        return Response(merged.model_dump_json(), media_type="application/json")

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
