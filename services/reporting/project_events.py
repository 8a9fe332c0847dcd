"""Project a batch of events onto facts and daily roll-ups: merge each fact, then add what its contribution changed by.

Nothing depends on the order of events or on how often one comes: a fact that an event does not change contributes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg
import msgspec

from services.reporting.facts import (
    EARNING_ACCRUED,
    PAYMENT_STATES,
    PAYOUT_STATES,
    PaymentFact,
    PayoutFact,
    earning_of,
    merge_payment,
    merge_payout,
)
from services.reporting.rollups import DaySums, Deltas, PayeeSums
from shared.db import ConcurrentWrite, Connection, as_rows
from shared.events import Received
from shared.events.payments import Share
from shared.tenants import zones

# Every write is ordered by its key, so that two batches at once wait for each other and never deadlock.
READ_PAYMENTS = """
SELECT tenant_id, payment_id, rank, event_id, status, request_id, transaction_id, client_id, amount, applied, fee, currency,
    method, at, day, fleet_id, route_id, vehicle_id, platform, payees, flags
FROM unnest($1::text[], $2::text[]) AS wanted (tenant_id, payment_id) JOIN payments USING (tenant_id, payment_id)
ORDER BY tenant_id, payment_id FOR UPDATE OF payments
"""
# xmax is 0 on a row that was inserted and not updated.
WRITE_PAYMENTS = """
INSERT INTO payments (tenant_id, payment_id, rank, event_id, status, request_id, transaction_id, client_id, amount, applied,
    fee, currency, method, at, day, fleet_id, route_id, vehicle_id, platform, payees, flags)
SELECT * FROM json_to_recordset($1) AS fact (
    tenant_id text, payment_id text, rank smallint, event_id uuid, status text, request_id text, transaction_id text,
    client_id text, amount bigint, applied bigint, fee bigint, currency text, method text, at timestamptz, day date,
    fleet_id text, route_id text, vehicle_id text, platform text, payees jsonb, flags jsonb
)
ORDER BY tenant_id, payment_id
ON CONFLICT (tenant_id, payment_id) DO UPDATE
SET rank = excluded.rank, event_id = excluded.event_id, status = excluded.status, request_id = excluded.request_id,
    transaction_id = excluded.transaction_id, client_id = excluded.client_id, amount = excluded.amount,
    applied = excluded.applied, fee = excluded.fee, currency = excluded.currency, method = excluded.method,
    at = excluded.at, day = excluded.day, fleet_id = excluded.fleet_id, route_id = excluded.route_id,
    vehicle_id = excluded.vehicle_id, platform = excluded.platform, payees = excluded.payees, flags = excluded.flags
RETURNING xmax = 0 AS is_new
"""
ADD_EARNINGS = """
INSERT INTO earnings (tenant_id, earning_id, payment_id, payee_id, fleet_id, currency, gross, commission, amount, cash_held,
    at, day)
SELECT * FROM json_to_recordset($1) AS fact (
    tenant_id text, earning_id text, payment_id text, payee_id text, fleet_id text, currency text, gross bigint,
    commission bigint, amount bigint, cash_held bigint, at timestamptz, day date
)
ORDER BY tenant_id, earning_id
ON CONFLICT (tenant_id, earning_id) DO NOTHING
RETURNING tenant_id, earning_id
"""
READ_PAYOUTS = """
SELECT tenant_id, payout_id, rank, event_id, status, payee_id, amount, currency, at, disbursed_on, method, reference, reason
FROM unnest($1::text[], $2::text[]) AS wanted (tenant_id, payout_id) JOIN payouts USING (tenant_id, payout_id)
ORDER BY tenant_id, payout_id FOR UPDATE OF payouts
"""
WRITE_PAYOUTS = """
INSERT INTO payouts (tenant_id, payout_id, rank, event_id, status, payee_id, amount, currency, at, disbursed_on, method,
    reference, reason)
SELECT * FROM json_to_recordset($1) AS fact (
    tenant_id text, payout_id text, rank smallint, event_id uuid, status text, payee_id text, amount bigint, currency text,
    at timestamptz, disbursed_on date, method text, reference text, reason text
)
ORDER BY tenant_id, payout_id
ON CONFLICT (tenant_id, payout_id) DO UPDATE
SET rank = excluded.rank, event_id = excluded.event_id, status = excluded.status, payee_id = excluded.payee_id,
    amount = excluded.amount, currency = excluded.currency, at = excluded.at, disbursed_on = excluded.disbursed_on,
    method = excluded.method, reference = excluded.reference, reason = excluded.reason
RETURNING xmax = 0 AS is_new
"""
ADD_TO_DAYS = """
INSERT INTO daily_rollups AS kept (tenant_id, currency, dimension, day, member, revenue, payments, fees, earnings, commission,
    cash_held, payouts)
SELECT * FROM json_to_recordset($1) AS delta (
    tenant_id text, currency text, dimension text, day date, member text, revenue bigint, payments bigint, fees bigint,
    earnings bigint, commission bigint, cash_held bigint, payouts bigint
)
ORDER BY tenant_id, currency, dimension, day, member
ON CONFLICT (tenant_id, currency, dimension, day, member) DO UPDATE
SET revenue = kept.revenue + excluded.revenue, payments = kept.payments + excluded.payments,
    fees = kept.fees + excluded.fees, earnings = kept.earnings + excluded.earnings,
    commission = kept.commission + excluded.commission, cash_held = kept.cash_held + excluded.cash_held,
    payouts = kept.payouts + excluded.payouts
"""
DROP_EMPTY_DAYS = """
DELETE FROM daily_rollups AS kept
USING json_to_recordset($1) AS delta (tenant_id text, currency text, dimension text, day date, member text)
WHERE (kept.tenant_id, kept.currency, kept.dimension, kept.day, kept.member)
    = (delta.tenant_id, delta.currency, delta.dimension, delta.day, delta.member)
  AND (revenue, payments, fees, earnings, commission, cash_held, payouts, refunds, costs) = (0, 0, 0, 0, 0, 0, 0, 0, 0)
"""
ADD_TO_PAYEES = """
INSERT INTO payee_balances AS kept (tenant_id, currency, payee_id, earned, cash_held, disbursed)
SELECT * FROM json_to_recordset($1) AS delta (
    tenant_id text, currency text, payee_id text, earned bigint, cash_held bigint, disbursed bigint
)
ORDER BY tenant_id, currency, payee_id
ON CONFLICT (tenant_id, currency, payee_id) DO UPDATE
SET earned = kept.earned + excluded.earned, cash_held = kept.cash_held + excluded.cash_held,
    disbursed = kept.disbursed + excluded.disbursed
"""
DROP_EMPTY_PAYEES = """
DELETE FROM payee_balances AS kept
USING json_to_recordset($1) AS delta (tenant_id text, currency text, payee_id text)
WHERE (kept.tenant_id, kept.currency, kept.payee_id) = (delta.tenant_id, delta.currency, delta.payee_id)
  AND (earned, kept.cash_held, disbursed) = (0, 0, 0)
"""

_decode_shares = msgspec.json.Decoder(tuple[Share, ...]).decode
_decode_flags = msgspec.json.Decoder(tuple[str, ...]).decode


def _payment(row: asyncpg.Record) -> PaymentFact:
    return PaymentFact(**{**row, "payees": _decode_shares(row["payees"]), "flags": _decode_flags(row["flags"])})


class _Kind(NamedTuple):
    """Facts that several events tell, and how each of them is read, merged, written and added up."""

    id_of: Callable[[Any], str]
    read: str  # tenant and id come first
    write: str
    fact_of: Callable[[asyncpg.Record], Any]
    merge: Callable[[Any, Received, ZoneInfo], Any]
    add: Callable[[Deltas, Any, int], None]


PAYMENTS = _Kind(attrgetter("payment_id"), READ_PAYMENTS, WRITE_PAYMENTS, _payment, merge_payment, Deltas.add_payment)
PAYOUTS = _Kind(
    attrgetter("payout_id"), READ_PAYOUTS, WRITE_PAYOUTS, lambda row: PayoutFact(**row), merge_payout, Deltas.add_payout
)


async def project_events(conn: Connection, events: Sequence[Received]) -> None:
    """Project `events` of the topics `payments` and `payouts` in the open transaction of `conn`, bound to their tenants.

    Raises ConcurrentWrite when another projection wrote one of the facts first: run it again.
    """
    zone_of = await zones(conn, {event.tenant_id for event in events})
    deltas = Deltas()
    if payments := [event for event in events if event.type in PAYMENT_STATES]:
        await _project(conn, PAYMENTS, payments, zone_of, deltas)
    if earnings := [event for event in events if event.type == EARNING_ACCRUED]:
        await _project_earnings(conn, earnings, zone_of, deltas)
    if payouts := [event for event in events if event.type in PAYOUT_STATES]:
        await _project(conn, PAYOUTS, payouts, zone_of, deltas)
    await _add(conn, deltas.days.values(), ADD_TO_DAYS, DROP_EMPTY_DAYS)
    await _add(conn, deltas.payees.values(), ADD_TO_PAYEES, DROP_EMPTY_PAYEES)


async def _project(
    conn: Connection, kind: _Kind, events: list[Received], zone_of: dict[str, ZoneInfo], deltas: Deltas
) -> None:
    keys = [(event.tenant_id, kind.id_of(event.data)) for event in events]
    wanted = sorted(set(keys))
    rows = await conn.fetch(kind.read, [tenant_id for tenant_id, _ in wanted], [id_ for _, id_ in wanted])
    old = {(row[0], row[1]): kind.fact_of(row) for row in rows}
    new = dict(old)
    for key, event in zip(keys, events, strict=True):
        new[key] = kind.merge(new.get(key), event, zone_of[event.tenant_id])
    changed = {key: fact for key, fact in new.items() if fact is not old.get(key)}
    if not changed:
        return
    written = await conn.fetch(kind.write, as_rows(list(changed.values())))
    # A fact that was believed new and is not was replaced without being merged: the transaction must not stand.
    if sum(row["is_new"] for row in written) != len(new) - len(old):
        raise ConcurrentWrite
    for key, fact in changed.items():
        kind.add(deltas, old.get(key), -1)
        kind.add(deltas, fact, 1)


async def _project_earnings(
    conn: Connection, events: list[Received], zone_of: dict[str, ZoneInfo], deltas: Deltas
) -> None:
    facts = {(e.tenant_id, e.data.earning_id): earning_of(e, zone_of[e.tenant_id]) for e in events}
    for row in await conn.fetch(ADD_EARNINGS, as_rows(list(facts.values()))):
        deltas.add_earning(facts[row["tenant_id"], row["earning_id"]])


async def _add(conn: Connection, deltas: Iterable[DaySums] | Iterable[PayeeSums], add: str, drop_empty: str) -> None:
    changes = [sums for sums in deltas if any(sums.amounts)]
    if not changes:
        return
    rows = as_rows(changes)
    await conn.execute(add, rows)
    if any(amount < 0 for sums in changes for amount in sums.amounts):
        await conn.execute(drop_empty, rows)
