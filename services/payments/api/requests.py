"""Service requests: what must be paid."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from services.payments.queries import get_request
from services.payments.register_requests import NewRequest, Registered, register_requests
from shared.auth import Allow, Principal, Role, own_only
from shared.clocks import utc_now
from shared.db import LOCK_LIMIT_MS, Connection, Database
from shared.errors import DomainError
from shared.field_errors import FieldsInvalid
from shared.fields import Body, Currency, Due, Id, Instant, Items, PathId, Results, Text
from shared.idempotency import Key, once
from shared.ids import new_id
from shared.money import WHOLE_BP, equal_shares
from shared.routes import SAME_AGAIN, actor, parse_items, results, weave

Booking = Annotated[Principal, Depends(Allow(Role.SYSTEM, Role.ADMIN))]
READERS = (Role.SYSTEM, Role.ADMIN, Role.FINANCE, Role.MANAGER)


EXAMPLE: dict[str, Any] = {
    "id": "trip-1",
    "kind": "trip",
    "amount": 25000,
    "currency": "KES",
    "occurred_at": "2026-11-21T08:00:00+03:00",
    "client_id": "amina",
    "client": {"name": "Amina W.", "phone": "+254700000001"},
    "fleet_id": "line-7",
    "route_id": "cbd-rongai",
    "vehicle_id": "KDA 123A",
    "payees": [{"payee_id": "driver-1"}],
}


class Client(Body):
    """The passenger; stays in this service."""

    name: Text | None = None
    phone: Text | None = None


class Payee(Body):
    """Who earns from the request, and which share in basis points; all shares or none are given."""

    payee_id: Id
    share_bp: Annotated[int, Field(strict=True, ge=0, le=WHOLE_BP)] | None = None


class RequestIn(Body):
    """A trip, booking or appointment."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: PathId | None = None
    kind: Literal["trip", "booking", "appointment"]
    amount: Due
    currency: Currency
    occurred_at: Instant
    client_id: Id
    client: Client = Client()
    fleet_id: Id
    route_id: Id | None = None
    vehicle_id: Id | None = None
    platform: Id | None = None
    payees: Annotated[list[Payee], Field(max_length=100)]
    reference: Text | None = None

    @model_validator(mode="after")
    def _shares_are_whole(self) -> Self:
        shares = [payee.share_bp for payee in self.payees if payee.share_bp is not None]
        if shares and (len(shares) < len(self.payees) or sum(shares) != WHOLE_BP):
            raise ValueError("share_bp is given for all payees, summing to 10,000, or for none")
        if len({payee.payee_id for payee in self.payees}) < len(self.payees):
            raise ValueError("a payee is named twice")
        return self

    def to_new(self, tenant_id: str) -> NewRequest:
        """As the use case takes it."""
        given = [payee.share_bp for payee in self.payees]
        shares = given if None not in given else equal_shares(len(given))
        payees = [{"payee_id": p.payee_id, "share_bp": s} for p, s in zip(self.payees, shares, strict=True)]
        fields = self.model_dump(exclude={"id", "client", "payees"})
        return NewRequest(
            tenant_id=tenant_id,
            request_id=self.id or str(new_id()),
            client_name=self.client.name,
            client_phone=self.client.phone,
            payees=msgspec.json.encode(payees).decode(),
            **fields,
        )


class RequestOut(BaseModel):
    """A request and how far it is paid; amounts in minor units."""

    id: str
    kind: str
    amount: int
    paid: int
    currency: str
    occurred_at: datetime
    client_id: str
    client: dict[str, str | None]
    fleet_id: str
    route_id: str | None
    vehicle_id: str | None
    platform: str | None
    payees: list[dict[str, Any]]
    reference: str | None
    status: Literal["pending_payment", "partially_paid", "completed", "canceled"]
    flags: list[str]
    created_at: datetime
    updated_at: datetime


def router(db: Database) -> APIRouter:
    """The routes of requests."""
    routes = APIRouter(prefix="/api/v1/requests", tags=["requests"])
    adapter = TypeAdapter(RequestIn)

    async def register(
        conn: Connection, request: Request, caller: Principal, bodies: list[RequestIn]
    ) -> list[Registered | DomainError]:
        new = [body.to_new(caller.tenant) for body in bodies]
        return list(await register_requests(conn, new, actor=actor(request, caller), now=utc_now()))

    async def read(conn: Connection, caller: Principal, request_id: str) -> RequestOut:
        row = dict(await get_request(conn, caller.tenant, request_id, caller.fleets))
        client = {"name": row.pop("client_name"), "phone": row.pop("client_phone")}
        return RequestOut(**{**row, "payees": msgspec.json.decode(row["payees"])}, client=client)

    @routes.post("", status_code=201, response_model=RequestOut, responses={200: SAME_AGAIN | {"model": RequestOut}})
    async def create(request: Request, body: RequestIn, caller: Booking, key: Key = None) -> Response:
        """Register a request; the same id and body again is 200, another body 409."""

        async def effect(conn: Connection) -> tuple[int, BaseModel]:
            (outcome,) = await register(conn, request, caller, [body])
            if isinstance(outcome, DomainError):
                raise outcome
            return (201 if outcome.is_new else 200), await read(conn, caller, outcome.request_id)

        return await once(request, db, effect, caller=caller, key=key, now=utc_now())

    @routes.post("/batch")
    async def create_batch(request: Request, body: Items[RequestIn], caller: Booking) -> Results:
        """Register up to 1,000 requests, each on its own."""
        parsed = parse_items(body.items, adapter)
        good = [item for item in parsed if not isinstance(item, FieldsInvalid)]
        outcomes = await db.run(
            lambda conn: register(conn, request, caller, good), caller.tenant, lock_limit_ms=LOCK_LIMIT_MS
        )
        return results(weave(parsed, outcomes), lambda r: (201 if r.is_new else 200, r.request_id))

    @routes.get("/{request_id}")
    async def get(request_id: Id, caller: Annotated[Principal, Depends(Allow(*READERS, Role.CLIENT))]) -> RequestOut:
        """A request; a client sees their own, a manager those of own fleets."""
        async with db.transaction(caller.tenant) as conn:
            found = await read(conn, caller, request_id)
        own_only(caller, claim=caller.client_id, wanted=found.client_id, roles=READERS)
        return found

    return routes
