"""Read-only SQL behind the GET routes."""

from datetime import datetime
from uuid import UUID

import asyncpg

from services.payouts.models import PayoutUnknown
from shared.db import Connection
from shared.pages import RowPlace

# Free earnings are few (what is not yet in a payout), so the sums are made when they are asked for.
BALANCES = """
SELECT w.payee_id, w.currency,
       greatest(free.available, 0)  AS available,
       free.pending,
       w.locked,
       greatest(-free.available, 0) AS owed,
       w.earned     AS lifetime_earned,
       w.commission AS lifetime_commission,
       w.cash_held  AS lifetime_cash_held,
       w.paid       AS lifetime_paid
FROM wallets AS w
CROSS JOIN LATERAL (
    SELECT coalesce(sum(e.payable) FILTER (WHERE e.available_at <= $3 OR e.payable < 0), 0)::bigint AS available,
           coalesce(sum(e.payable) FILTER (WHERE e.available_at > $3 AND e.payable >= 0), 0)::bigint AS pending
    FROM earnings AS e
    WHERE e.tenant_id = w.tenant_id AND e.payee_id = w.payee_id AND e.currency = w.currency AND e.payout_id IS NULL
) AS free
WHERE w.tenant_id = $1 AND w.currency = $2 AND ($4::text IS NULL OR w.payee_id = $4)
  AND ($5::text IS NULL OR w.payee_id > $5)
ORDER BY w.payee_id
LIMIT $6
"""
PAYOUT_COLUMNS = """
payout_id AS id, payee_id, currency, amount, status, reason, method, reference, requested_by, requested_at, updated_at,
disbursed_at
"""
PAYOUT = f"SELECT {PAYOUT_COLUMNS} FROM payouts WHERE tenant_id = $1 AND payout_id = $2"  # noqa: S608 - constant
PAYOUTS = f"""
SELECT {PAYOUT_COLUMNS}
FROM payouts
WHERE tenant_id = $1
  AND requested_at >= $2 AND requested_at < $3
  AND ($4::timestamptz IS NULL OR (requested_at, payout_id) < ($4, $5::uuid))
  AND ($6::text IS NULL OR status = $6)
  AND ($7::text IS NULL OR payee_id = $7)
ORDER BY requested_at DESC, payout_id DESC
LIMIT $8
"""  # noqa: S608 - constant
EARNINGS = """
SELECT earning_id AS id, payment_id, part, fleet_id, gross, commission, commission_bp, net, cash_held, payable, paid_at
FROM earnings WHERE tenant_id = $1 AND payout_id = $2 ORDER BY paid_at, earning_id
"""
PLANS = """
SELECT plan_id AS id, fleet_id, payee_id, commission_bp, delay_days, valid_from
FROM commission_plans WHERE tenant_id = $1 AND ($2::uuid IS NULL OR plan_id > $2) ORDER BY plan_id LIMIT $3
"""


async def list_balances(
    conn: Connection,
    tenant_id: str,
    currency: str,
    *,
    now: datetime,
    payee_id: str | None = None,
    after: str | None = None,
    limit: int = 1,
) -> list[asyncpg.Record]:
    """Balances by payee, those after the payee `after`."""
    return await conn.fetch(BALANCES, tenant_id, currency, now, payee_id, after, limit)


async def get_payout(conn: Connection, tenant_id: str, payout_id: UUID) -> asyncpg.Record:
    """The payout. Raises PayoutUnknown."""
    row = await conn.fetchrow(PAYOUT, tenant_id, payout_id)
    if row is None:
        raise PayoutUnknown(f"There is no payout {payout_id}.")
    return row


async def list_payouts(
    conn: Connection,
    tenant_id: str,
    *,
    between: tuple[datetime, datetime],
    after: RowPlace,
    limit: int,
    status: str | None = None,
    payee_id: str | None = None,
) -> list[asyncpg.Record]:
    """Payouts newest first, at most `limit`, those after the row `after`."""
    return await conn.fetch(PAYOUTS, tenant_id, *between, *after, status, payee_id, limit)


async def list_earnings(conn: Connection, tenant_id: str, payout_id: UUID) -> list[asyncpg.Record]:
    """The earnings that a payout pays, debts included."""
    return await conn.fetch(EARNINGS, tenant_id, payout_id)


async def list_plans(conn: Connection, tenant_id: str, *, after: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Commission plans in the order they were set."""
    return await conn.fetch(PLANS, tenant_id, after, limit)
