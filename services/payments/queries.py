"""Read-only SQL behind the GET routes."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.payments.models import RequestUnknown
from shared.db import Connection
from shared.errors import NotFound

REQUEST = """
SELECT request_id AS id, kind, amount, paid, currency, occurred_at, client_id, client_name, client_phone, fleet_id,
       route_id, vehicle_id, platform, payees::text AS payees, reference, status, flags, created_at, updated_at
FROM requests
WHERE tenant_id = $1 AND request_id = $2 AND status <> 'awaited'
"""
PAYMENT_COLUMNS = """
payment_id AS id, account_id, transaction_id, request_id, status, flags, amount, applied, fee, currency, method,
paid_at, reference, payer_name, payer_phone, failure_code, failure_text, client_id, fleet_id, route_id, vehicle_id,
platform, payees::text AS payees, recorded_at, updated_at
"""
PAYMENT = f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE tenant_id = $1 AND payment_id = $2"  # noqa: S608 - constant
PAYMENTS = f"""
SELECT {PAYMENT_COLUMNS}
FROM payments
WHERE tenant_id = $1
  AND paid_at >= $2 AND paid_at < $3
  AND ($4::timestamptz IS NULL OR (paid_at, payment_id) < ($4, $5::uuid))
  AND ($6::text IS NULL OR status = $6)
  AND ($7::text IS NULL OR fleet_id = $7)
  AND ($8::text IS NULL OR vehicle_id = $8)
  AND ($9::text IS NULL OR route_id = $9)
  AND ($10::text IS NULL OR method = $10)
  AND ($11::text IS NULL OR client_id = $11)
  AND ($12::text IS NULL OR payees @> jsonb_build_array(jsonb_build_object('payee_id', $12::text)))
  AND ($13::text[] IS NULL OR fleet_id = ANY ($13))
ORDER BY paid_at DESC, payment_id DESC
LIMIT $14
"""  # noqa: S608 - constant
ACCOUNTS = """
SELECT account_id AS id, gateway, name, created_at
FROM gateway_accounts WHERE tenant_id = $1 AND ($2::text IS NULL OR account_id > $2) ORDER BY account_id LIMIT $3
"""


class PaymentUnknown(NotFound):
    """No such payment in this tenant, or not one of the caller's fleets."""

    code = "payment-unknown"


class PaymentFilter(NamedTuple):
    """What a list of payments is narrowed to; None: everything. `fleets` confines a manager."""

    start: datetime
    end: datetime
    status: str | None = None
    fleet_id: str | None = None
    vehicle_id: str | None = None
    route_id: str | None = None
    method: str | None = None
    client_id: str | None = None
    payee_id: str | None = None
    fleets: Sequence[str] | None = None


async def get_request(
    conn: Connection, tenant_id: str, request_id: str, fleets: Sequence[str] | None
) -> asyncpg.Record:
    """The request. Raises RequestUnknown."""
    row = await conn.fetchrow(REQUEST, tenant_id, request_id)
    if row is None or (fleets is not None and row["fleet_id"] not in fleets):
        raise RequestUnknown(f"There is no request {request_id}.")
    return row


async def get_payment(
    conn: Connection, tenant_id: str, payment_id: UUID, fleets: Sequence[str] | None
) -> asyncpg.Record:
    """The payment. Raises PaymentUnknown."""
    row = await conn.fetchrow(PAYMENT, tenant_id, payment_id)
    if row is None or (fleets is not None and row["fleet_id"] not in fleets):
        raise PaymentUnknown(f"There is no payment {payment_id}.")
    return row


async def list_payments(
    conn: Connection,
    tenant_id: str,
    wanted: PaymentFilter,
    *,
    after: tuple[datetime, UUID] | tuple[None, None],
    limit: int,
) -> list[asyncpg.Record]:
    """Payments newest first, at most `limit`, those after the row `after`."""
    w = wanted
    return await conn.fetch(
        PAYMENTS, tenant_id, w.start, w.end, *after, w.status, w.fleet_id, w.vehicle_id, w.route_id, w.method,
        w.client_id, w.payee_id, w.fleets, limit,
    )  # fmt: skip


async def list_accounts(conn: Connection, tenant_id: str, *, after: str | None, limit: int) -> list[asyncpg.Record]:
    """The tenant's gateway accounts by their ids, at most `limit`, those after `after`; without their secrets."""
    return await conn.fetch(ACCOUNTS, tenant_id, after, limit)
