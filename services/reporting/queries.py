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
_DAYS = """
SELECT member, day AS date, revenue, payments AS count
FROM daily_rollups
WHERE tenant_id = $1 AND currency = $2 AND dimension = $3 AND day BETWEEN $4 AND $5
  AND ($6::text[] IS NULL OR member = ANY ($6)) AND payments <> 0
"""
_WEEKS_OR_MONTHS = f"""
SELECT member, date_trunc($11, date::timestamp)::date AS date, sum(revenue)::bigint AS revenue, sum(count)::bigint AS count
FROM ({_DAYS}) AS days
GROUP BY 1, 2
"""  # noqa: S608 - constants
# The rows are read once, as they lie far apart and finding them is what takes the time, and joined with nothing: of a
# tenant of whom PostgreSQL knows nothing yet, a join would hold each group against all periods. An array of each column is
# less to send and to read than a row for each period; they are in no order, which would be a sort of all of them. Who has
# no arrays is left to the next page.
_GROUPS = """
WITH groups AS (
    SELECT member, sum(revenue)::bigint AS revenue, sum(count)::bigint AS count, count(*) AS periods,
           array_agg(date) AS dates, array_agg(revenue) AS revenues, array_agg(count) AS counts
    FROM ({periods}) AS periods GROUP BY member
), ranked AS (
    SELECT *, row_number() OVER by_revenue AS place, sum(periods) OVER by_revenue AS periods_until_here
    FROM groups
    WHERE $7::bigint IS NULL OR revenue < $7 OR (revenue = $7 AND member > $8)
    WINDOW by_revenue AS (ORDER BY revenue DESC, member)
    ORDER BY place LIMIT $9 + 1
)
SELECT member, revenue, count, CASE WHEN is_shown THEN dates END AS dates, CASE WHEN is_shown THEN revenues END AS revenues,
       CASE WHEN is_shown THEN counts END AS counts
FROM ranked, LATERAL (SELECT place <= $9 AND (place = 1 OR periods_until_here <= $10) AS is_shown) AS page
ORDER BY place
"""
GROUPS_BY_DAY = _GROUPS.format(periods=_DAYS)
GROUPS_BY_PERIOD = _GROUPS.format(periods=_WEEKS_OR_MONTHS)
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
        """$1 to $5, and the `group_by`, of the statements above."""
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
    conn: Connection, wanted: Slice, dimension: str, *, after: tuple[int, str] | None, limit: int, periods_limit: int
) -> list[asyncpg.Record]:
    """member, revenue, count, and dates, revenues, counts of its periods in no order; most revenue first.

    At most `limit` members with `periods_limit` periods together, but at least one. Those without any are for the next page.
    """
    *which, group_by = wanted.arguments(dimension)
    revenue, member = after or (None, None)
    page = (wanted.members, revenue, member, limit, periods_limit)
    if group_by == "day":
        return await conn.fetch(GROUPS_BY_DAY, *which, *page)
    return await conn.fetch(GROUPS_BY_PERIOD, *which, *page, group_by)


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
