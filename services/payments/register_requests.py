"""Register service requests: trips, bookings, appointments that must be paid; money that came first joins them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from services.payments.books import Key, event, lock_requests, lock_unmatched, update_payments, update_requests
from services.payments.instants import NotYet, not_yet
from services.payments.models import Payment
from services.payments.settlement import settle, status_of
from shared import audit, outbox
from shared.db import ConcurrentWrite, Connection, as_rows
from shared.errors import Conflict
from shared.writes import write

REGISTER = """
INSERT INTO requests (tenant_id, request_id, kind, amount, currency, occurred_at, client_id, client_name, client_phone,
                      fleet_id, route_id, vehicle_id, platform, payees, reference, content_hash, status, created_at,
                      updated_at)
SELECT tenant_id, request_id, kind, amount, currency, occurred_at, client_id, client_name, client_phone,
       fleet_id, route_id, vehicle_id, platform, payees::jsonb, reference, content_hash, status, $4, $4
FROM ROWS FROM (
    json_to_recordset($1) AS (
        tenant_id text, request_id text, kind text, amount bigint, currency text, occurred_at timestamptz, client_id text,
        client_name text, client_phone text, fleet_id text, route_id text, vehicle_id text, platform text, payees text,
        reference text
    ),
    unnest($2::bytea[], $3::text[])
) AS r (tenant_id, request_id, kind, amount, currency, occurred_at, client_id, client_name, client_phone,
        fleet_id, route_id, vehicle_id, platform, payees, reference, content_hash, status)
ORDER BY tenant_id, request_id
ON CONFLICT (tenant_id, request_id) DO UPDATE
SET kind = excluded.kind, amount = excluded.amount, currency = excluded.currency, occurred_at = excluded.occurred_at,
    client_id = excluded.client_id, client_name = excluded.client_name, client_phone = excluded.client_phone,
    fleet_id = excluded.fleet_id, route_id = excluded.route_id, vehicle_id = excluded.vehicle_id,
    platform = excluded.platform, payees = excluded.payees, reference = excluded.reference,
    content_hash = excluded.content_hash, status = excluded.status, updated_at = excluded.updated_at
WHERE requests.status = 'awaited'
RETURNING tenant_id, request_id, xmax <> 0 AS was_awaited
"""
HASHES = """
SELECT tenant_id, request_id, content_hash
FROM requests JOIN unnest($1::text[], $2::text[]) AS wanted (tenant_id, request_id) USING (tenant_id, request_id)
WHERE status <> 'awaited'
"""


class RequestDiffers(Conflict):
    """The id is taken by a request with another content."""

    code = "request-differs"


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request to be registered; `amount` in minor units, `payees` as JSON [{"payee_id", "share_bp"}] summing to 10,000."""

    tenant_id: str
    request_id: str
    kind: Literal["trip", "booking", "appointment"]
    amount: int
    currency: str
    occurred_at: datetime
    client_id: str
    client_name: str | None
    client_phone: str | None
    fleet_id: str
    route_id: str | None
    vehicle_id: str | None
    platform: str | None
    payees: str
    reference: str | None


class Registered(NamedTuple):
    """What became of a request: new, or there already with the same content."""

    request_id: str
    is_new: bool


async def register_requests(
    conn: Connection, requests: Sequence[NewRequest], *, actor: audit.Actor, now: datetime
) -> list[Registered | RequestDiffers | NotYet]:
    """Register requests in the open transaction; one result each, in the order given.

    A trip that is still to come is refused; bookings and appointments may lie ahead. Raises ConcurrentWrite in a race with
    another registration of the same id: run it again.
    """
    refusals = [_refusal(request, now) for request in requests]
    taken = [request for request, refusal in zip(requests, refusals, strict=True) if refusal is None]
    registered = iter(await _register(conn, taken, actor, now) if taken else [])
    return [refusal or next(registered) for refusal in refusals]


def _refusal(request: NewRequest, now: datetime) -> NotYet | None:
    return not_yet(request.occurred_at, field="occurred_at", now=now) if request.kind == "trip" else None


async def _register(
    conn: Connection, requests: Sequence[NewRequest], actor: audit.Actor, now: datetime
) -> list[Registered | RequestDiffers]:
    keys = [(request.tenant_id, request.request_id) for request in requests]
    hashes = [content_hash(request) for request in requests]
    first: dict[Key, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    new = [requests[place] for place in first.values()]
    statuses = [status_of(request.amount, 0) for request in new]
    rows = await conn.fetch(REGISTER, as_rows(new), [hashes[place] for place in first.values()], statuses, now)
    created = {(row["tenant_id"], row["request_id"]) for row in rows}
    awaited = [(row["tenant_id"], row["request_id"]) for row in rows if row["was_awaited"]]
    await _join_waiting_money(conn, awaited, actor, now)
    others = first.keys() - created
    found = await conn.fetch(HASHES, [tenant_id for tenant_id, _ in others], [request_id for _, request_id in others])
    stored = {(row["tenant_id"], row["request_id"]): row["content_hash"] for row in found}
    if len(created) + len(stored) < len(first):
        raise ConcurrentWrite("a request appeared just now")
    stored |= {key: hashes[first[key]] for key in created}
    return [_result(key, stored[key] == content, created) for key, content in zip(keys, hashes, strict=True)]


def _result(key: Key, is_same: bool, created: set[Key]) -> Registered | RequestDiffers:
    _, request_id = key
    if not is_same:
        return RequestDiffers(f"There is another request {request_id} with a different content.", field="id")
    is_new = key in created
    created.discard(key)  # the same request twice in one batch: new, then known
    return Registered(request_id, is_new)


def content_hash(request: NewRequest) -> bytes:
    """Tells whether a request sent again is the same."""
    return hashlib.sha256(msgspec.json.encode(request)).digest()


async def _join_waiting_money(conn: Connection, keys: Sequence[Key], actor: audit.Actor, now: datetime) -> None:
    if not keys:
        return
    requests = await lock_requests(conn, keys)
    payments = await lock_unmatched(conn, keys)
    joined = []
    for payment in payments:
        before = _whose(payment)
        settle(payment, requests[payment.tenant_id, payment.request_id or ""])
        payment.updated_at = now
        change = audit.Change(str(payment.payment_id), before, _whose(payment))
        joined.append(audit.Done(payment.tenant_id, actor, change))
    await write(
        conn,
        update_payments(payments),
        update_requests(list(requests.values()), now=now),
        outbox.add("payments", [event(payment, matched=True) for payment in payments], now=now),
        audit.record_all("match-payment", joined, now=now),
    )


def _whose(payment: Payment) -> dict[str, object]:
    """What a registration decides about money that was there before it."""
    return {
        "request_id": payment.request_id,
        "applied": payment.applied,
        "flags": list(payment.flags),
        "fleet_id": payment.fleet_id,
        "payees": payment.payees,
    }
