"""Accrue earnings: a completed payment becomes what its payees have earned, in a balanced journal, once."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from services.payouts.ledger import Earned, JournalKey, WalletKey, earn, open_journals, post
from services.payouts.models import Earning, Entry, Plan
from services.payouts.sharing import earnings_of, entries_of
from shared import outbox
from shared.db import Connection, as_rows
from shared.events import Received
from shared.events.payments import PaymentMatched
from shared.events.payouts import EarningAccrued
from shared.tenants import zones
from shared.writes import Write, write

PLANS = """
SELECT tenant_id, fleet_id, payee_id, commission_bp, delay_days, valid_from
FROM commission_plans
WHERE tenant_id = ANY ($1) AND (fleet_id IS NULL OR fleet_id = ANY ($2)) AND (payee_id IS NULL OR payee_id = ANY ($3))
"""
ACCRUE = """
INSERT INTO earnings (tenant_id, earning_id, payment_id, payee_id, fleet_id, currency, gross, commission, commission_bp,
                      net, cash_held, paid_at, available_at, accrued_at)
SELECT e.*, $2 FROM json_to_recordset($1) AS e (
    tenant_id text, earning_id uuid, payment_id uuid, payee_id text, fleet_id text, currency text, gross bigint,
    commission bigint, commission_bp integer, net bigint, cash_held bigint, paid_at timestamptz, available_at timestamptz
)
"""


async def accrue_earnings(conn: Connection, events: Sequence[Received], *, now: datetime) -> None:
    """Accrue the earnings of `payment-completed` and `payment-matched` events, of any tenants, in the open transaction.

    A receipt that has found no request yet goes to suspense as a whole; the match takes it out again.
    """
    by_journal: dict[JournalKey, Received] = {}
    for event in events:
        by_journal.setdefault(_journal(event), event)
    opened = await open_journals(conn, by_journal, now=now)
    if not opened:
        return
    fresh = {key: by_journal[key] for key in opened}
    plans = await _plans(conn, fresh.values())
    in_zone = await zones(conn, {event.tenant_id for event in fresh.values()})
    earnings: list[Earning] = []
    entries: list[Entry] = []
    for key, event in fresh.items():
        own = earnings_of(event.tenant_id, event.data, plans.get(event.tenant_id, []), in_zone[event.tenant_id])
        earnings += own
        entries += entries_of(event.tenant_id, event.data, own, journal_id=opened[key])
    await write(
        conn,
        Write(ACCRUE, (as_rows(earnings), now)) if earnings else None,
        post(entries),
        earn(_by_wallet(earnings)),
        outbox.add("payouts", [_accrued(earning) for earning in earnings], now=now),
    )


def _journal(event: Received) -> JournalKey:
    kind = "match" if event.type == PaymentMatched.TYPE else "payment"
    return (event.tenant_id, kind, UUID(event.data.payment_id))


async def _plans(conn: Connection, events: Iterable[Received]) -> dict[str, list[Plan]]:
    tenants: set[str] = set()
    fleets: set[str] = set()
    payees: set[str] = set()
    for event in events:
        tenants.add(event.tenant_id)
        fleets.add(event.data.fleet_id or "")
        payees.update(share.payee_id for share in event.data.payees)
    plans: dict[str, list[Plan]] = {}
    for row in await conn.fetch(PLANS, sorted(tenants), sorted(fleets), sorted(payees)):
        tenant_id, *fields = row
        plans.setdefault(tenant_id, []).append(Plan(*fields))
    return plans


def _by_wallet(earnings: Sequence[Earning]) -> list[Earned]:
    sums: dict[WalletKey, Earned] = {}
    for e in earnings:
        wallet = (e.tenant_id, e.payee_id, e.currency)
        earned = sums.setdefault(wallet, Earned(*wallet))
        earned.balance += e.net - e.cash_held
        earned.earned += e.net
        earned.commission += e.commission
        earned.cash_held += e.cash_held
    return list(sums.values())


def _accrued(e: Earning) -> outbox.Outgoing:
    event = EarningAccrued(
        earning_id=str(e.earning_id),
        payment_id=str(e.payment_id),
        payee_id=e.payee_id,
        fleet_id=e.fleet_id,
        currency=e.currency,
        gross=e.gross,
        commission=e.commission,
        amount=e.net,
        cash_held=e.cash_held,
        paid_at=e.paid_at,
    )
    return outbox.Outgoing(e.tenant_id, str(e.payment_id), event)
