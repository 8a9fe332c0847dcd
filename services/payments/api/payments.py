"""Payments: cash and manual ones recorded, all of them read."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, TypeAdapter

from services.payments.models import MANUAL_ACCOUNT, PaymentStatus, Receipt
from services.payments.queries import PaymentFilter, get_payment, list_payments
from services.payments.record_payments import Recorded, record_payments
from shared import tenants
from shared.audit import Actor
from shared.auth import Allow, Principal, Role, own_only
from shared.batch import Gather
from shared.clocks import utc_now
from shared.db import Connection, Database
from shared.errors import DomainError
from shared.field_errors import FieldsInvalid
from shared.fields import Amount, Body, Currency, Id, Instant, Items, Method, Results, Text
from shared.idempotency import Key, once
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
from shared.routes import SAME_AGAIN, actor, parse_items, results, weave

READERS = (Role.ADMIN, Role.FINANCE, Role.SYSTEM)
Recorder = Annotated[Principal, Depends(Allow(Role.SYSTEM, Role.ADMIN, Role.FINANCE))]
Reader = Annotated[Principal, Depends(Allow(*READERS, Role.MANAGER))]
Filter = Annotated[Id | None, Query()]


EXAMPLE: dict[str, Any] = {
    "request_id": "trip-1",
    "transaction_id": "cash-trip-1",
    "amount": 25000,
    "currency": "KES",
    "method": "cash",
    "paid_at": "2026-11-21T08:30:00+03:00",
}


class PaymentIn(Body):
    """Money that somebody has seen: cash, a transfer, a card machine."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    request_id: Id
    transaction_id: Id
    amount: Amount
    currency: Currency
    method: Method
    paid_at: Instant
    partial: bool = False
    reference: Text | None = None

    def to_receipt(self, tenant_id: str, who: Actor) -> Receipt:
        """As the use case takes it."""
        return Receipt(
            tenant_id=tenant_id,
            account_id=MANUAL_ACCOUNT,
            status=PaymentStatus.COMPLETED,
            must_fit=True,
            actor=who,
            **self.model_dump(),
        )


class PaymentOut(BaseModel):
    """A payment; amounts in minor units. `applied` is what of it counts towards the request."""

    id: UUID
    account_id: str
    transaction_id: str
    request_id: str | None
    status: Literal["pending", "completed", "failed"]
    flags: list[str]
    amount: int
    applied: int
    fee: int
    currency: str
    method: str
    paid_at: datetime
    reference: str | None
    payer: dict[str, str | None]
    failure: dict[str, str | None] | None
    client_id: str | None
    fleet_id: str | None
    route_id: str | None
    vehicle_id: str | None
    platform: str | None
    payees: list[dict[str, Any]]
    recorded_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> "PaymentOut":
        """As it goes out."""
        fields = dict(row)
        payer = {"name": fields.pop("payer_name"), "phone": fields.pop("payer_phone")}
        code, message = fields.pop("failure_code"), fields.pop("failure_text")
        failure = {"code": code, "message": message} if code or message else None
        return cls(**{**fields, "payees": msgspec.json.decode(fields["payees"])}, payer=payer, failure=failure)


def router(db: Database, bulk: Gather[Receipt, Recorded | DomainError]) -> APIRouter:
    """The routes of payments; `bulk` records those of many batches in one transaction."""
    routes = APIRouter(prefix="/api/v1/payments", tags=["payments"])
    adapter = TypeAdapter(PaymentIn)

    @routes.post("", status_code=201, response_model=PaymentOut, responses={200: SAME_AGAIN | {"model": PaymentOut}})
    async def create(request: Request, body: PaymentIn, caller: Recorder, key: Key = None) -> Response:
        """Record a payment; the same again is 200 and the payment that is there.

        With another request, amount, currency or method, a transaction_id that is there is 409.
        """
        receipt = body.to_receipt(caller.tenant, actor(request, caller))

        async def effect(conn: Connection) -> tuple[int, BaseModel]:
            (outcome,) = await record_payments(conn, [receipt], now=utc_now())
            if isinstance(outcome, DomainError):
                raise outcome
            row = await get_payment(conn, caller.tenant, outcome.payment.payment_id, None)
            return (201 if outcome.result == "recorded" else 200), PaymentOut.of(row)

        return await once(request, db, effect, caller=caller, key=key, now=utc_now())

    @routes.post("/batch", response_model=Results)
    async def create_batch(request: Request, body: Items[PaymentIn], caller: Recorder, key: Key = None) -> Response:
        """Record up to 1,000 payments, each on its own."""
        parsed = parse_items(body.items, adapter)
        who = actor(request, caller)
        receipts = [item.to_receipt(caller.tenant, who) for item in parsed if not isinstance(item, FieldsInvalid)]

        def answer(outcomes: Sequence[Recorded | DomainError]) -> Results:
            return results(
                weave(parsed, outcomes), lambda r: (201 if r.result == "recorded" else 200, str(r.payment.payment_id))
            )

        async def effect(conn: Connection) -> tuple[int, BaseModel]:
            return 200, answer(await record_payments(conn, receipts, now=utc_now()))

        if key is None:  # else the answer is stored in the transaction of its effect, which is then the call's own
            return Response(answer(await bulk.submit_all(receipts)).model_dump_json(), media_type="application/json")
        return await once(request, db, effect, caller=caller, key=key, now=utc_now())

    async def listed(caller: Principal, wanted: PaymentFilter, limit: int, cursor: str | None) -> Page[PaymentOut]:
        async with db.transaction(caller.tenant) as conn:
            rows = await list_payments(conn, caller.tenant, wanted, after=read_time_cursor(cursor), limit=limit + 1)
        shown, next_cursor = page(rows, limit, lambda row: time_cursor(row["paid_at"], str(row["id"])))
        return Page(items=[PaymentOut.of(row) for row in shown], next_cursor=next_cursor)

    @routes.get("")
    async def list_(
        caller: Reader,
        date_from: date | None = None,
        date_to: date | None = None,
        status: PaymentStatus | None = None,
        fleet_id: Filter = None,
        vehicle_id: Filter = None,
        route_id: Filter = None,
        payee_id: Filter = None,
        method: Filter = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[PaymentOut]:
        """Payments newest first; days are cut in the tenant's time zone; a manager sees own fleets."""
        async with db.transaction(caller.tenant) as conn:
            tenant = await tenants.find(conn, caller.tenant)
        start, end = day_range(date_from, date_to, tenant.zone)
        wanted = PaymentFilter(
            start, end, status, fleet_id, vehicle_id, route_id, method, payee_id=payee_id, fleets=caller.fleets
        )
        return await listed(caller, wanted, limit, cursor)

    @routes.get("/client/{client_id}")
    async def of_client(
        client_id: Id,
        caller: Annotated[Principal, Depends(Allow(*READERS, Role.CLIENT))],
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[PaymentOut]:
        """A client's payments, newest first; a client sees their own."""
        own_only(caller, claim=caller.client_id, wanted=client_id, roles=READERS)
        wanted = PaymentFilter(DISTANT_PAST, DISTANT_FUTURE, client_id=client_id)
        return await listed(caller, wanted, limit, cursor)

    @routes.get("/{payment_id}")
    async def get(payment_id: UUID, caller: Reader) -> PaymentOut:
        """A payment."""
        async with db.transaction(caller.tenant) as conn:
            return PaymentOut.of(await get_payment(conn, caller.tenant, payment_id, caller.fleets))

    return routes
