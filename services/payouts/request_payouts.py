"""Request payouts: what is available to a payee is locked for one payout, so that no other can pay it too."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.payouts.ledger import Move, lock_wallets, move
from services.payouts.models import Account, PayoutStatus
from shared import audit, outbox
from shared.db import ConcurrentWrite, Connection
from shared.errors import Conflict
from shared.events.payouts import PayoutRequested
from shared.ids import new_id
from shared.money import format_amount
from shared.writes import write

# What lowers the balance (the commission of a cash fare) counts at once, what raises it after its delay.
AVAILABLE = """
SELECT payee_id, sum(payable)::bigint AS available
FROM earnings
WHERE tenant_id = $1 AND payee_id = ANY ($2) AND currency = $3 AND payout_id IS NULL
  AND (available_at <= $4 OR payable < 0)
GROUP BY payee_id
"""
CREATE = """
INSERT INTO payouts (tenant_id, payout_id, payee_id, currency, amount, status, requested_by, requested_at, updated_at)
SELECT $1, payout_id, payee_id, $2, amount, 'requested', $3, $4, $4
FROM unnest($5::uuid[], $6::text[], $7::bigint[]) AS p (payout_id, payee_id, amount)
"""
# Debts first, then the oldest earnings until the amount is reached; the last of them may reach beyond it. They are named by an
# array: joined to a tenant that the table's statistics do not know yet, they were worked out anew for each of its earnings.
LOCK_EARNINGS = """
WITH free AS MATERIALIZED (
    SELECT e.earning_id, p.amount, e.payable,
           sum(e.payable) OVER (PARTITION BY e.payee_id ORDER BY e.payable > 0, e.paid_at, e.earning_id) AS running
    FROM earnings AS e
    JOIN unnest($4::text[], $5::bigint[]) AS p (payee_id, amount) USING (payee_id)
    WHERE e.tenant_id = $1 AND e.currency = $2 AND e.payout_id IS NULL AND (e.available_at <= $6 OR e.payable < 0)
)
UPDATE earnings AS e SET payout_id = p.payout_id
FROM unnest($3::uuid[], $4::text[]) AS p (payout_id, payee_id)
WHERE e.tenant_id = $1 AND e.payee_id = p.payee_id AND e.earning_id = ANY (
    ARRAY(SELECT earning_id FROM free WHERE payable <= 0 OR running - payable < amount)
)
"""
# An earning that reaches beyond is split: the first part is paid and carries the commission, the second stays free.
SPLIT = """
WITH excess AS (
    SELECT payout_id, sum(e.payable) - p.amount AS beyond
    FROM earnings AS e JOIN unnest($2::uuid[], $3::bigint[]) AS p (payout_id, amount) USING (payout_id)
    WHERE e.tenant_id = $1
    GROUP BY payout_id, p.amount
    HAVING sum(e.payable) > p.amount
), last AS (
    SELECT DISTINCT ON (e.payout_id) e.*, excess.beyond
    FROM earnings AS e JOIN excess USING (payout_id)
    WHERE e.tenant_id = $1 AND e.payable > 0
    ORDER BY e.payout_id, e.paid_at DESC, e.earning_id DESC
), shrunk AS (
    UPDATE earnings AS e SET gross = e.gross - last.beyond, net = e.net - last.beyond
    FROM last WHERE e.tenant_id = $1 AND e.earning_id = last.earning_id
)
INSERT INTO earnings (tenant_id, earning_id, payment_id, payee_id, part, fleet_id, currency, gross, commission,
                      commission_bp, net, cash_held, paid_at, accrued_at, available_at)
SELECT tenant_id, gen_random_uuid(), payment_id, payee_id,
       (SELECT max(part) + 1 FROM earnings AS e
        WHERE e.tenant_id = $1 AND e.payment_id = last.payment_id AND e.payee_id = last.payee_id),
       fleet_id, currency, beyond, 0, commission_bp, beyond, 0, paid_at, accrued_at, available_at
FROM last
"""

NOT_COVERED = """
SELECT EXISTS (
    SELECT FROM payouts AS p
    WHERE p.tenant_id = $1 AND p.payout_id = ANY ($2) AND p.amount IS DISTINCT FROM
          (SELECT sum(e.payable) FROM earnings AS e WHERE e.tenant_id = $1 AND e.payout_id = p.payout_id)
)
"""


class NothingAvailable(Conflict):
    """The payee has no money that could be paid now."""

    code = "nothing-available"


class MoreThanAvailable(Conflict):
    """The payee has less than was asked for."""

    code = "more-than-available"


class Ask(NamedTuple):
    """A payee's wish: `amount` minor units, or all that is available."""

    payee_id: str
    amount: int | None = None


class Requested(NamedTuple):
    """A payout that was created."""

    payout_id: UUID
    payee_id: str
    amount: int


async def request_payouts(
    conn: Connection, asks: Sequence[Ask], *, tenant_id: str, currency: str, actor: audit.Actor, now: datetime
) -> list[Requested | NothingAvailable | MoreThanAvailable]:
    """Lock what is asked for, a payout each, in the open transaction; one result per ask, in the order given."""
    # Whoever asks for the same payee waits until the other one's payout is there, or is not. Only what is locked counts: a
    # wallet that appears just now would be seen by two who both hold no lock on it.
    locked = await lock_wallets(conn, [(tenant_id, ask.payee_id, currency) for ask in asks])
    rows = await conn.fetch(AVAILABLE, tenant_id, [payee_id for _, payee_id, _ in locked], currency, now)
    available = {row["payee_id"]: row["available"] for row in rows}
    results = [_decide(ask, available, currency) for ask in asks]
    made = [result for result in results if isinstance(result, Requested)]
    if not made:
        return results
    ids, owners, amounts = [m.payout_id for m in made], [m.payee_id for m in made], [m.amount for m in made]
    await conn.execute(CREATE, tenant_id, currency, actor.subject, now, ids, owners, amounts)
    await conn.execute(LOCK_EARNINGS, tenant_id, currency, ids, owners, amounts, now)
    await conn.execute(SPLIT, tenant_id, ids, amounts)
    if await conn.fetchval(NOT_COVERED, tenant_id, ids):
        raise ConcurrentWrite("somebody else took some of these earnings")
    moves = [Move(tenant_id, m.payout_id, m.payee_id, currency, m.amount) for m in made]
    changes = [
        audit.Change(str(m.payout_id), None, {**m._asdict(), "currency": currency, "status": PayoutStatus.REQUESTED})
        for m in made
    ]
    await write(
        conn,
        *move("payout-requested", moves, Account.WALLET, Account.LOCKED, now=now),
        outbox.add("payouts", [_event(tenant_id, m, currency, now) for m in made], now=now),
        audit.record(actor, "request-payout", changes, tenant_id=tenant_id, now=now),
    )
    return results


def _decide(ask: Ask, available: dict[str, int], currency: str) -> Requested | NothingAvailable | MoreThanAvailable:
    there = available.get(ask.payee_id, 0)
    if there <= 0:
        owed = f"; {format_amount(-there, currency)} is owed" if there < 0 else ""
        return NothingAvailable(f"Nothing is available to {ask.payee_id}{owed}.")
    amount = there if ask.amount is None else ask.amount
    if amount > there:
        return MoreThanAvailable(f"{format_amount(there, currency)} is available to {ask.payee_id}.", field="amount")
    available[ask.payee_id] = 0  # named twice in one batch: the second finds nothing
    return Requested(new_id(), ask.payee_id, amount)


def _event(tenant_id: str, made: Requested, currency: str, now: datetime) -> outbox.Outgoing:
    event = PayoutRequested(
        payout_id=str(made.payout_id), payee_id=made.payee_id, amount=made.amount, currency=currency, at=now
    )
    return outbox.Outgoing(tenant_id, str(made.payout_id), event)
