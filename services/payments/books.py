"""Reading and writing the rows of requests and payments for the use cases, always in the order requests, then payments."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

import asyncpg
import msgspec

from services.payments.models import Payment, PaymentStatus, Request, TransactionKey
from shared.db import ConcurrentWrite, Connection, as_rows
from shared.events.payments import (
    PaymentCompleted,
    PaymentEvent,
    PaymentFailed,
    PaymentMatched,
    PaymentPending,
    Share,
)
from shared.outbox import Outgoing
from shared.writes import Write

Key = tuple[str, str]  # tenant_id, request_id

# Sorted by key, like every statement that locks many rows: two batches then wait for each other in line, never crosswise.
LOCK_REQUESTS = """
SELECT r.tenant_id, r.request_id, r.status, r.flags, coalesce(r.amount, 0) AS amount, r.paid, r.currency, r.client_id,
       r.fleet_id, r.route_id, r.vehicle_id, r.platform, coalesce(r.payees, '[]'::jsonb)::text AS payees
FROM requests AS r
JOIN unnest($1::text[], $2::text[]) AS wanted (tenant_id, request_id) USING (tenant_id, request_id)
ORDER BY r.tenant_id, r.request_id
FOR UPDATE OF r
"""
AWAIT_REQUESTS = """
INSERT INTO requests (tenant_id, request_id, status, created_at, updated_at)
SELECT tenant_id, request_id, 'awaited', $3, $3
FROM unnest($1::text[], $2::text[]) AS named (tenant_id, request_id)
ORDER BY tenant_id, request_id
ON CONFLICT (tenant_id, request_id) DO NOTHING
RETURNING request_id
"""
UPDATE_REQUESTS = """
UPDATE requests AS r SET status = u.status, flags = u.flags, paid = u.paid, updated_at = $2
FROM json_to_recordset($1) AS u (tenant_id text, request_id text, status text, flags text[], paid bigint)
WHERE r.tenant_id = u.tenant_id AND r.request_id = u.request_id
"""
# As `Payment` has them, but for the last one, `payees`.
_COLUMNS = """
tenant_id, payment_id, account_id, transaction_id, request_id, status, amount, currency, method, paid_at, recorded_at,
updated_at, flags, applied, fee, reference, payer_name, payer_phone, failure_code, failure_text, client_id, fleet_id,
route_id, vehicle_id, platform
"""
LOCK_PAYMENTS = f"""
SELECT {_COLUMNS}, payees::text AS payees
FROM payments AS p
JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (tenant_id, account_id, transaction_id)
     USING (tenant_id, account_id, transaction_id)
ORDER BY p.tenant_id, p.account_id, p.transaction_id
FOR UPDATE OF p
"""  # noqa: S608 - a constant's columns
LOCK_UNMATCHED = f"""
SELECT {_COLUMNS}, payees::text AS payees
FROM payments AS p
JOIN unnest($1::text[], $2::text[]) AS wanted (tenant_id, request_id) USING (tenant_id, request_id)
WHERE p.status = 'completed' AND p.flags @> '{{unmatched}}'
ORDER BY p.tenant_id, p.paid_at, p.payment_id
FOR UPDATE OF p
"""  # noqa: S608 - a constant's columns
NAMED_REQUESTS = """
SELECT p.tenant_id, p.account_id, p.transaction_id, p.request_id
FROM payments AS p
JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (tenant_id, account_id, transaction_id)
     USING (tenant_id, account_id, transaction_id)
WHERE p.request_id IS NOT NULL
"""
_GIVEN = """
json_to_recordset($1) AS u (
    tenant_id text, payment_id uuid, account_id text, transaction_id text, request_id text, status text, amount bigint,
    currency text, method text, paid_at timestamptz, recorded_at timestamptz, updated_at timestamptz, flags text[],
    applied bigint, fee bigint, reference text, payer_name text, payer_phone text, failure_code text, failure_text text,
    client_id text, fleet_id text, route_id text, vehicle_id text, platform text, payees text
)
"""
INSERT_PAYMENTS = f"""
INSERT INTO payments ({_COLUMNS}, payees)
SELECT {_COLUMNS}, payees::jsonb
FROM {_GIVEN}
ORDER BY tenant_id, account_id, transaction_id
ON CONFLICT (tenant_id, account_id, transaction_id) DO NOTHING
RETURNING payment_id
"""  # noqa: S608 - a constant's columns
UPDATE_PAYMENTS = f"""
UPDATE payments AS p
SET request_id = u.request_id, status = u.status, amount = u.amount, currency = u.currency, method = u.method,
    paid_at = u.paid_at, updated_at = u.updated_at, flags = u.flags, applied = u.applied, fee = u.fee,
    reference = u.reference, payer_name = u.payer_name, payer_phone = u.payer_phone, failure_code = u.failure_code,
    failure_text = u.failure_text, client_id = u.client_id, fleet_id = u.fleet_id, route_id = u.route_id,
    vehicle_id = u.vehicle_id, platform = u.platform, payees = u.payees::jsonb
FROM {_GIVEN}
WHERE p.tenant_id = u.tenant_id AND p.payment_id = u.payment_id
"""  # noqa: S608 - a constant's columns

TOLD_AS_IT_IS = tuple(name for name in PaymentEvent.__struct_fields__ if name not in {"payment_id", "payees"})
_told_of = attrgetter(*TOLD_AS_IT_IS)

_shares = lru_cache(maxsize=4096)(
    msgspec.json.Decoder(tuple[Share, ...]).decode
)  # the same few people, trip after trip


async def lock_requests(conn: Connection, keys: Iterable[Key]) -> dict[Key, Request]:
    """The requests of `keys` that exist (also those only awaited), locked."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    rows = await conn.fetch(LOCK_REQUESTS, [k[0] for k in wanted], [k[1] for k in wanted])
    return {(row["tenant_id"], row["request_id"]): Request(*row) for row in rows}


async def await_requests(conn: Connection, keys: Iterable[Key], *, now: datetime) -> None:
    """Put a row where each of `keys` will stand, so that its registration meets the money. Raises ConcurrentWrite."""
    named = sorted(set(keys))
    if named:
        rows = await conn.fetch(AWAIT_REQUESTS, [k[0] for k in named], [k[1] for k in named], now)
        if len(rows) < len(named):
            raise ConcurrentWrite("a request was registered just now")


def update_requests(requests: Sequence[Request], *, now: datetime) -> Write | None:
    """What `settle` has changed."""
    return Write(UPDATE_REQUESTS, (as_rows(requests), now)) if requests else None


async def named_requests(conn: Connection, keys: Iterable[TransactionKey]) -> dict[TransactionKey, str]:
    """The requests that earlier news of the transactions `keys` has named."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    rows = await conn.fetch(NAMED_REQUESTS, *map(list, zip(*wanted, strict=True)))
    return {(row["tenant_id"], row["account_id"], row["transaction_id"]): row["request_id"] for row in rows}


async def lock_payments(conn: Connection, keys: Iterable[TransactionKey]) -> dict[TransactionKey, Payment]:
    """The payments of the transactions `keys` that are known, locked."""
    wanted = sorted(set(keys))
    rows = await conn.fetch(LOCK_PAYMENTS, *map(list, zip(*wanted, strict=True)))
    return {(row["tenant_id"], row["account_id"], row["transaction_id"]): _payment(row) for row in rows}


async def lock_unmatched(conn: Connection, keys: Sequence[Key]) -> list[Payment]:
    """Completed money that waits for the requests `keys`, locked, oldest first."""
    rows = await conn.fetch(LOCK_UNMATCHED, [k[0] for k in keys], [k[1] for k in keys])
    return [_payment(row) for row in rows]


def insert_payments(payments: Sequence[Payment]) -> Write | None:
    """New payments; another transaction may just have added one of them."""
    return Write(INSERT_PAYMENTS, (as_rows(payments),), rows=len(payments)) if payments else None


def update_payments(payments: Sequence[Payment]) -> Write | None:
    """Payments that were locked before."""
    return Write(UPDATE_PAYMENTS, (as_rows(payments),)) if payments else None


def event(payment: Payment, *, matched: bool = False) -> Outgoing:
    """The event that says what has become of `payment`."""
    common: dict[str, Any] = dict(zip(TOLD_AS_IT_IS, _told_of(payment), strict=True))
    common |= {"payment_id": str(payment.payment_id), "payees": _shares(payment.payees)}
    said: PaymentEvent
    match payment.status:
        case PaymentStatus.PENDING:
            said = PaymentPending(**common)
        case PaymentStatus.FAILED:
            said = PaymentFailed(**common, failure_code=payment.failure_code)
        case _:
            kind = PaymentMatched if matched else PaymentCompleted
            said = kind(**common, applied=payment.applied, fee=payment.fee, flags=tuple(payment.flags))
    return Outgoing(payment.tenant_id, str(payment.payment_id), said)


def _payment(row: asyncpg.Record) -> Payment:
    return Payment(*row)
