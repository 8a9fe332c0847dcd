"""Read-only SQL behind the GET routes; the cost of revenue and profits depends on days and members, not on payments."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import asyncpg

from shared.db import Connection

# An ISO week begins on Monday, and so does date_trunc's; through timestamp, since a date alone would be cut in the
# session's time zone.
PERIODS = """
SELECT date_trunc($6, day::timestamp)::date AS date, sum(revenue)::bigint AS revenue, sum(payments)::bigint AS count
FROM daily_rollups
WHERE tenant_id = $1 AND currency = $2 AND dimension = $3 AND day BETWEEN $4 AND $5
  AND ($7::text[] IS NULL OR member = ANY ($7))
GROUP BY 1 HAVING sum(payments) <> 0
ORDER BY 1
"""
# `periods` is what a group has at most: counting them exactly would cost a sort of all its days. ($4 and $5 are dates
# first: were they of another type than `day`, the index would give all days.)
GROUPS = """
SELECT member, revenue, count, periods
FROM (
    SELECT member, sum(revenue)::bigint AS revenue, sum(payments)::bigint AS count,
           least(count(*), date_part('day', date_trunc($6, $5::date::timestamp) - date_trunc($6, $4::date::timestamp))
                           / CASE $6 WHEN 'day' THEN 1 WHEN 'week' THEN 7 ELSE 28 END + 1)::bigint AS periods
    FROM daily_rollups
    WHERE tenant_id = $1 AND currency = $2 AND dimension = $3 AND day BETWEEN $4 AND $5
      AND ($7::text[] IS NULL OR member = ANY ($7))
    GROUP BY member HAVING sum(payments) <> 0
) AS grouped
WHERE $8::bigint IS NULL OR revenue < $8 OR (revenue = $8 AND member > $9)
ORDER BY revenue DESC, member
LIMIT $10
"""
GROUP_PERIODS = """
SELECT member, date_trunc($6, day::timestamp)::date AS date, sum(revenue)::bigint AS revenue, sum(payments)::bigint AS count
FROM daily_rollups
WHERE tenant_id = $1 AND currency = $2 AND dimension = $3 AND day BETWEEN $4 AND $5 AND member = ANY ($7::text[])
GROUP BY 1, 2 HAVING sum(payments) <> 0
ORDER BY 2
"""
# Days need no sums, and no sort: half the time of the statement above.
GROUP_DAYS = """
SELECT member, day AS date, revenue, payments AS count
FROM daily_rollups
WHERE tenant_id = $1 AND currency = $2 AND dimension = $3 AND day BETWEEN $4 AND $5 AND member = ANY ($6::text[])
  AND payments <> 0
ORDER BY day, member
"""
PROFITS = """
SELECT coalesce(sum(revenue), 0)::bigint AS revenue, coalesce(sum(payments), 0)::bigint AS count_payments,
       coalesce(sum(refunds), 0)::bigint AS refunds, coalesce(sum(payouts), 0)::bigint AS payouts_disbursed,
       coalesce(sum(cash_held), 0)::bigint AS cash_held, coalesce(sum(fees), 0)::bigint AS fees,
       coalesce(sum(costs), 0)::bigint AS costs, coalesce(sum(earnings), 0)::bigint AS payee_earnings,
       coalesce(sum(commission), 0)::bigint AS commission_earned
FROM daily_rollups
WHERE tenant_id = $1 AND currency = $2 AND dimension = 'total' AND day BETWEEN $3 AND $4
"""
OWED = """
SELECT coalesce(sum(due) FILTER (WHERE due > 0), 0)::bigint AS owed_to_payees,
       coalesce(-sum(due) FILTER (WHERE due < 0), 0)::bigint AS owed_by_payees
FROM (
    SELECT earned - cash_held - disbursed AS due FROM payee_balances WHERE tenant_id = $1 AND currency = $2
) AS balances
"""
# The first page begins at ($3, '', ''), which is after everything earlier than $3.
HISTORY = """
SELECT * FROM (
    (SELECT 'payment' AS kind, payment_id AS id, at, amount, currency, status, method, request_id, transaction_id, client_id,
            fleet_id, route_id, vehicle_id, applied, fee, flags::text AS flags, NULL AS payee_id, NULL AS reference
     FROM payments
     WHERE tenant_id = $1 AND at >= $2 AND (at, payment_id) <= ($3, $4) AND (at, payment_id, 'payment') < ($3, $4, $5)
       AND ($6::text IS NULL OR currency = $6)
     ORDER BY at DESC, payment_id DESC LIMIT $7)
    UNION ALL
    (SELECT 'payout', payout_id, at, amount, currency, status, method, NULL, NULL, NULL,
            NULL, NULL, NULL, NULL, NULL, '[]', payee_id, reference
     FROM payouts
     WHERE tenant_id = $1 AND at >= $2 AND (at, payout_id) <= ($3, $4) AND (at, payout_id, 'payout') < ($3, $4, $5)
       AND ($6::text IS NULL OR currency = $6)
     ORDER BY at DESC, payout_id DESC LIMIT $7)
) AS both_kinds
ORDER BY at DESC, id DESC, kind DESC
LIMIT $7
"""


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of the roll-ups that a report is about; days inclusive, `members` None for all."""

    tenant_id: str
    currency: str
    first: date
    last: date
    group_by: str  # day, week, month
    members: Sequence[str] | None = None

    def arguments(self, dimension: str) -> tuple[object, ...]:
        """$1 to $6 of the statements above."""
        return (self.tenant_id, self.currency, dimension, self.first, self.last, self.group_by)


@dataclass(frozen=True, slots=True)
class HistoryPlace:
    """The row before which a page of the history begins: newest first."""

    at: datetime
    row_id: str = ""
    kind: str = ""


async def read_periods(conn: Connection, wanted: Slice, dimension: str) -> list[asyncpg.Record]:
    """date, revenue (minor units), count of each period that has payments."""
    return await conn.fetch(PERIODS, *wanted.arguments(dimension), wanted.members)


async def read_groups(
    conn: Connection, wanted: Slice, dimension: str, *, after: tuple[int, str] | None, limit: int
) -> list[asyncpg.Record]:
    """member, revenue, count and the number of periods of at most `limit` members, most revenue first."""
    revenue, member = after or (None, None)
    return await conn.fetch(GROUPS, *wanted.arguments(dimension), wanted.members, revenue, member, limit)


async def read_group_periods(
    conn: Connection, wanted: Slice, dimension: str, members: Sequence[str]
) -> list[asyncpg.Record]:
    """member, date, revenue, count of each period of `members` that has payments; a member's in the order of time."""
    *which, group_by = wanted.arguments(dimension)
    if group_by == "day":
        return await conn.fetch(GROUP_DAYS, *which, members)
    return await conn.fetch(GROUP_PERIODS, *which, group_by, members)


async def read_profits(conn: Connection, wanted: Slice) -> dict[str, int]:
    """The sums that profits are made of, in minor units; owed_* are of now, whatever the days."""
    sums = await conn.fetchrow(PROFITS, wanted.tenant_id, wanted.currency, wanted.first, wanted.last)
    owed = await conn.fetchrow(OWED, wanted.tenant_id, wanted.currency)
    return {**(sums or {}), **(owed or {})}


async def read_history(
    conn: Connection, tenant_id: str, *, start: datetime, before: HistoryPlace, currency: str | None, limit: int
) -> list[asyncpg.Record]:
    """At most `limit` payments and payouts from `start` on and before the place, newest first."""
    return await conn.fetch(HISTORY, tenant_id, start, before.at, before.row_id, before.kind, currency, limit)
