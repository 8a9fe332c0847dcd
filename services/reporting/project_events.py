"""Project a batch of events onto facts and daily roll-ups: merge each fact, then add what its contribution changed by.

Nothing depends on the order of events or on how often one comes: a fact that an event does not change contributes nothing.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from services.reporting.facts import (
    EARNING_ACCRUED,
    PAYMENT_STATES,
    PAYOUT_STATES,
    EarningFact,
    PaymentFact,
    PayoutFact,
    earning_of,
    merge_payment,
    merge_payout,
)
from services.reporting.rollups import DaySums, Deltas, PayeeSums
from shared.db import ConcurrentWrite, Connection, columns
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
SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::timestamptz[], $15::date[], $16::text[],
    $17::text[], $18::text[], $19::text[], $20::jsonb[], $21::jsonb[]) AS fact (tenant_id, payment_id)
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
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::timestamptz[], $12::date[]) AS fact (tenant_id, earning_id)
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
SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::text[],
    $9::timestamptz[], $10::date[], $11::text[], $12::text[], $13::text[]) AS fact (tenant_id, payout_id)
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
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::date[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]) AS delta (tenant_id, currency, dimension, day, member)
ORDER BY tenant_id, currency, dimension, day, member
ON CONFLICT (tenant_id, currency, dimension, day, member) DO UPDATE
SET revenue = kept.revenue + excluded.revenue, payments = kept.payments + excluded.payments,
    fees = kept.fees + excluded.fees, earnings = kept.earnings + excluded.earnings,
    commission = kept.commission + excluded.commission, cash_held = kept.cash_held + excluded.cash_held,
    payouts = kept.payouts + excluded.payouts
"""
DROP_EMPTY_DAYS = """
DELETE FROM daily_rollups AS kept
USING unnest($1::text[], $2::text[], $3::text[], $4::date[], $5::text[]) AS delta (tenant_id, currency, dimension, day, member)
WHERE (kept.tenant_id, kept.currency, kept.dimension, kept.day, kept.member)
    = (delta.tenant_id, delta.currency, delta.dimension, delta.day, delta.member)
  AND (revenue, payments, fees, earnings, commission, cash_held, payouts, refunds, costs) = (0, 0, 0, 0, 0, 0, 0, 0, 0)
"""
ADD_TO_PAYEES = """
INSERT INTO payee_balances AS kept (tenant_id, currency, payee_id, earned, cash_held, disbursed)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS delta (tenant_id, currency, payee_id)
ORDER BY tenant_id, currency, payee_id
ON CONFLICT (tenant_id, currency, payee_id) DO UPDATE
SET earned = kept.earned + excluded.earned, cash_held = kept.cash_held + excluded.cash_held,
    disbursed = kept.disbursed + excluded.disbursed
"""
DROP_EMPTY_PAYEES = """
DELETE FROM payee_balances AS kept
USING unnest($1::text[], $2::text[], $3::text[]) AS delta (tenant_id, currency, payee_id)
WHERE (kept.tenant_id, kept.currency, kept.payee_id) = (delta.tenant_id, delta.currency, delta.payee_id)
  AND (earned, kept.cash_held, disbursed) = (0, 0, 0)
"""

_encode = msgspec.json.Encoder().encode
_decode_shares = msgspec.json.Decoder(tuple[Share, ...]).decode
_decode_flags = msgspec.json.Decoder(tuple[str, ...]).decode


async def project_events(conn: Connection, events: Sequence[Received]) -> None:
    """Project `events` of the topics `payments` and `payouts` in the open transaction of `conn`, bound to their tenants.

    Raises ConcurrentWrite when another projection wrote one of the facts first: run it again.
    """
    zone_of = await zones(conn, {event.tenant_id for event in events})
    deltas = Deltas()
    if payments := [event for event in events if event.type in PAYMENT_STATES]:
        await _project_payments(conn, payments, zone_of, deltas)
    if earnings := [event for event in events if event.type == EARNING_ACCRUED]:
        await _project_earnings(conn, earnings, zone_of, deltas)
    if payouts := [event for event in events if event.type in PAYOUT_STATES]:
        await _project_payouts(conn, payouts, zone_of, deltas)
    await _add(conn, deltas.days, ADD_TO_DAYS, DROP_EMPTY_DAYS)
    await _add(conn, deltas.payees, ADD_TO_PAYEES, DROP_EMPTY_PAYEES)


async def _project_payments(conn: Connection, events: list[Received], zone_of: dict[str, Any], deltas: Deltas) -> None:
    ids = sorted({(event.tenant_id, event.data.payment_id) for event in events})
    rows = await conn.fetch(READ_PAYMENTS, [i[0] for i in ids], [i[1] for i in ids])
    old = {(row["tenant_id"], row["payment_id"]): _payment(row) for row in rows}
    new = dict(old)
    for event in events:
        key = (event.tenant_id, event.data.payment_id)
        new[key] = merge_payment(new.get(key), event, zone_of[event.tenant_id])
    changed = [fact for key, fact in new.items() if fact is not old.get(key)]
    if not changed:
        return
    arguments = columns(changed, PaymentFact)
    arguments[-2:] = [[_encode(value).decode() for value in column] for column in arguments[-2:]]
    written = await conn.fetch(WRITE_PAYMENTS, *arguments)
    _refuse_unseen(written, expected_new=len(new) - len(old))
    for fact in changed:
        deltas.add_payment(old.get((fact.tenant_id, fact.payment_id)), -1)
        deltas.add_payment(fact, 1)


async def _project_earnings(conn: Connection, events: list[Received], zone_of: dict[str, Any], deltas: Deltas) -> None:
    facts = {(e.tenant_id, e.data.earning_id): earning_of(e, zone_of[e.tenant_id]) for e in events}
    for row in await conn.fetch(ADD_EARNINGS, *columns(list(facts.values()), EarningFact)):
        deltas.add_earning(facts[row["tenant_id"], row["earning_id"]])


async def _project_payouts(conn: Connection, events: list[Received], zone_of: dict[str, Any], deltas: Deltas) -> None:
    ids = sorted({(event.tenant_id, event.data.payout_id) for event in events})
    rows = await conn.fetch(READ_PAYOUTS, [i[0] for i in ids], [i[1] for i in ids])
    old = {(row["tenant_id"], row["payout_id"]): PayoutFact(**row) for row in rows}
    new = dict(old)
    for event in events:
        key = (event.tenant_id, event.data.payout_id)
        new[key] = merge_payout(new.get(key), event, zone_of[event.tenant_id])
    changed = [fact for key, fact in new.items() if fact is not old.get(key)]
    if not changed:
        return
    written = await conn.fetch(WRITE_PAYOUTS, *columns(changed, PayoutFact))
    _refuse_unseen(written, expected_new=len(new) - len(old))
    for fact in changed:
        deltas.add_payout(old.get((fact.tenant_id, fact.payout_id)), -1)
        deltas.add_payout(fact, 1)


def _payment(row: asyncpg.Record) -> PaymentFact:
    return PaymentFact(**{**row, "payees": _decode_shares(row["payees"]), "flags": _decode_flags(row["flags"])})


def _refuse_unseen(written: list[asyncpg.Record], *, expected_new: int) -> None:
    # A fact that was believed new and is not was replaced without being merged: the transaction must not stand.
    if sum(row["is_new"] for row in written) != expected_new:
        raise ConcurrentWrite


async def _add(conn: Connection, deltas: dict[Any, DaySums] | dict[Any, PayeeSums], add: str, drop_empty: str) -> None:
    rows = [(*key, *values) for key, sums in deltas.items() if any(values := sums.values())]
    if not rows:
        return
    arguments = [list(column) for column in zip(*rows, strict=True)]
    await conn.execute(add, *arguments)
    key_length = len(next(iter(deltas)))
    if any(value < 0 for column in arguments[key_length:] for value in column):
        await conn.execute(drop_empty, *arguments[:key_length])
