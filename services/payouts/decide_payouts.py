"""Decide payouts: approve, reject, disburse, fail; each guarded by the status it comes from, so that one of two wins."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from services.payouts.ledger import Move, lock_wallets, move
from services.payouts.models import Account, PayoutStatus, PayoutUnknown
from shared import audit, outbox
from shared.db import Connection
from shared.errors import Conflict
from shared.events.payouts import PayoutApproved, PayoutDisbursed, PayoutEvent, PayoutFailed, PayoutRejected
from shared.writes import write

ALLOWED_FROM = {
    PayoutStatus.APPROVED: (PayoutStatus.REQUESTED,),
    PayoutStatus.REJECTED: (PayoutStatus.REQUESTED, PayoutStatus.APPROVED),
    PayoutStatus.DISBURSED: (PayoutStatus.APPROVED,),
    PayoutStatus.FAILED: (PayoutStatus.APPROVED,),
}
LOCKED_GOES_TO = {
    PayoutStatus.REJECTED: Account.WALLET,
    PayoutStatus.DISBURSED: Account.DISBURSED,
    PayoutStatus.FAILED: Account.WALLET,
}
LOCK = """
SELECT payout_id, payee_id, currency, amount, status FROM payouts
WHERE tenant_id = $1 AND payout_id = ANY ($2) ORDER BY payout_id FOR UPDATE
"""
DECIDE = """
UPDATE payouts
SET status = $3, reason = $4, method = coalesce($5, method), reference = coalesce($6, reference), updated_at = $7,
    disbursed_at = CASE WHEN $3 = 'disbursed' THEN $7 ELSE disbursed_at END
WHERE tenant_id = $1 AND payout_id = ANY ($2) AND status = ANY ($8)
"""
FREE_EARNINGS = "UPDATE earnings SET payout_id = NULL WHERE tenant_id = $1 AND payout_id = ANY ($2)"


class PayoutNotInState(Conflict):
    """The payout's status does not allow this step."""

    code = "payout-not-in-state"


@dataclass(frozen=True, slots=True)
class Decision:
    """The status that payouts shall have, and what goes with it."""

    status: PayoutStatus
    reason: str | None = None
    method: str | None = None
    reference: str | None = None


async def decide_payouts(
    conn: Connection,
    payout_ids: Sequence[UUID],
    decision: Decision,
    *,
    tenant_id: str,
    actor: audit.Actor,
    now: datetime,
) -> list[UUID | PayoutUnknown | PayoutNotInState]:
    """Carry out `decision` on each payout that its status allows; one result per id, in the order given."""
    rows = {row["payout_id"]: row for row in await conn.fetch(LOCK, tenant_id, sorted(set(payout_ids)))}
    taken: dict[UUID, asyncpg.Record] = {}
    results = [_check(payout_id, rows.get(payout_id), decision, taken) for payout_id in payout_ids]
    if not taken:
        return results
    target = LOCKED_GOES_TO.get(decision.status)
    moves = [Move(tenant_id, i, r["payee_id"], r["currency"], r["amount"]) for i, r in taken.items() if target]
    await lock_wallets(conn, [m.wallet for m in moves])
    await conn.execute(
        DECIDE,
        tenant_id,
        list(taken),
        decision.status,
        decision.reason,
        decision.method,
        decision.reference,
        now,
        list(ALLOWED_FROM[decision.status]),
    )
    if target is Account.WALLET:
        await conn.execute(FREE_EARNINGS, tenant_id, list(taken))
    after = {
        "status": decision.status,
        "reason": decision.reason,
        "method": decision.method,
        "reference": decision.reference,
    }
    changes = [audit.Change(str(i), {"status": r["status"]}, after) for i, r in taken.items()]
    events = [outbox.Outgoing(tenant_id, str(i), _event(r, decision, now)) for i, r in taken.items()]
    await write(
        conn,
        *(move(f"payout-{decision.status}", moves, Account.LOCKED, target, now=now) if target else ()),
        outbox.add("payouts", events, now=now),
        audit.record(actor, f"payout-{decision.status}", changes, tenant_id=tenant_id, now=now),
    )
    return results


def _check(
    payout_id: UUID, row: asyncpg.Record | None, decision: Decision, taken: dict[UUID, asyncpg.Record]
) -> UUID | PayoutUnknown | PayoutNotInState:
    if row is None:
        return PayoutUnknown(f"There is no payout {payout_id}.")
    if row["status"] not in ALLOWED_FROM[decision.status] or payout_id in taken:
        status = decision.status if payout_id in taken else row["status"]
        return PayoutNotInState(f"The payout is {status}; it cannot become {decision.status}.", field="status")
    taken[payout_id] = row
    return payout_id


def _event(row: asyncpg.Record, decision: Decision, now: datetime) -> PayoutEvent:
    common = {
        "payout_id": str(row["payout_id"]),
        "payee_id": row["payee_id"],
        "amount": row["amount"],
        "currency": row["currency"],
        "at": now,
    }
    match decision.status:
        case PayoutStatus.APPROVED:
            return PayoutApproved(**common)
        case PayoutStatus.REJECTED:
            return PayoutRejected(**common, reason=decision.reason or "")
        case PayoutStatus.DISBURSED:
            return PayoutDisbursed(**common, method=decision.method or "", reference=decision.reference)
        case PayoutStatus.FAILED:
            return PayoutFailed(**common, reason=decision.reason or "")
        case _:
            raise ValueError(f"{decision.status} is not a decision")
