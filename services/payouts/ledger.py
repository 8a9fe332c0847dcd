"""The double-entry ledger: journals that sum to zero, and the wallets that are the sums of their entries."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from services.payouts.models import Account, Entry
from shared.db import Connection, as_rows
from shared.ids import new_id
from shared.writes import Write

# A journal's kind and source are claimed once: an event that comes again finds them taken and changes nothing.
OPEN_JOURNALS = """
INSERT INTO journals (tenant_id, journal_id, kind, source_id, posted_at)
SELECT tenant_id, journal_id, kind, source_id, $5
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::uuid[]) AS j (tenant_id, journal_id, kind, source_id)
ORDER BY tenant_id, kind, source_id
ON CONFLICT (tenant_id, kind, source_id) DO NOTHING
RETURNING tenant_id, kind, source_id, journal_id
"""
POST_ENTRIES = """
INSERT INTO entries (tenant_id, journal_id, line, account, payee_id, currency, amount)
SELECT tenant_id, journal_id, row_number() OVER (PARTITION BY tenant_id, journal_id ORDER BY place), account, payee_id,
       currency, amount
FROM ROWS FROM (
    json_to_recordset($1) AS (tenant_id text, journal_id uuid, account text, payee_id text, currency text, amount bigint)
) WITH ORDINALITY AS e (tenant_id, journal_id, account, payee_id, currency, amount, place)
"""
EARN = """
INSERT INTO wallets AS w (tenant_id, payee_id, currency, balance, earned, commission, cash_held)
SELECT * FROM json_to_recordset($1) AS e (
    tenant_id text, payee_id text, currency text, balance bigint, earned bigint, commission bigint, cash_held bigint
)
ORDER BY tenant_id, payee_id, currency
ON CONFLICT (tenant_id, payee_id, currency) DO UPDATE
SET balance = w.balance + excluded.balance, earned = w.earned + excluded.earned,
    commission = w.commission + excluded.commission, cash_held = w.cash_held + excluded.cash_held
"""
LOCK_WALLETS = """
SELECT tenant_id, payee_id, currency
FROM wallets JOIN unnest($1::text[], $2::text[], $3::text[]) AS k (tenant_id, payee_id, currency)
     USING (tenant_id, payee_id, currency)
ORDER BY tenant_id, payee_id, currency FOR UPDATE OF wallets
"""
MOVE = """
UPDATE wallets AS w SET balance = w.balance + m.balance, locked = w.locked + m.locked, paid = w.paid + m.paid
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
     AS m (tenant_id, payee_id, currency, balance, locked, paid)
WHERE w.tenant_id = m.tenant_id AND w.payee_id = m.payee_id AND w.currency = m.currency
"""

JournalKey = tuple[str, str, UUID]  # tenant_id, kind, source_id
WalletKey = tuple[str, str, str]  # tenant_id, payee_id, currency


class Earned(msgspec.Struct):
    """What earnings add to a wallet."""

    tenant_id: str
    payee_id: str
    currency: str
    balance: int = 0
    earned: int = 0
    commission: int = 0
    cash_held: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """Money of a payee that moves from one of the payee's accounts to another, because of a payout."""

    tenant_id: str
    payout_id: UUID
    payee_id: str
    currency: str
    amount: int

    @property
    def wallet(self) -> WalletKey:
        """Whose money it is."""
        return self.tenant_id, self.payee_id, self.currency


async def lock_wallets(conn: Connection, keys: Iterable[WalletKey]) -> set[WalletKey]:
    """Lock the wallets `keys`, and say which of them there are: whoever wants to pay from them waits here."""
    wanted = sorted(set(keys))
    if not wanted:
        return set()
    rows = await conn.fetch(LOCK_WALLETS, [k[0] for k in wanted], [k[1] for k in wanted], [k[2] for k in wanted])
    return {(row["tenant_id"], row["payee_id"], row["currency"]) for row in rows}


async def open_journals(conn: Connection, keys: Iterable[JournalKey], *, now: datetime) -> dict[JournalKey, UUID]:
    """Claim the journals `keys`; those that were not there yet, with their ids."""
    wanted = sorted(set(keys))
    rows = await conn.fetch(
        OPEN_JOURNALS,
        [k[0] for k in wanted],
        [new_id() for _ in wanted],
        [k[1] for k in wanted],
        [k[2] for k in wanted],
        now,
    )
    return {(row["tenant_id"], row["kind"], row["source_id"]): row["journal_id"] for row in rows}


def post(entries: Sequence[Entry]) -> Write | None:
    """Whole journals, in one statement, which checks that they balance."""
    return Write(POST_ENTRIES, (as_rows(entries),)) if entries else None


def earn(earned: Sequence[Earned]) -> Write | None:
    """Wallets follow the entries of earnings; one sum per wallet."""
    return Write(EARN, (as_rows(earned),)) if earned else None


def move(kind: str, moves: Sequence[Move], source: Account, target: Account, *, now: datetime) -> Sequence[Write]:
    """The money of payouts from `source` to `target`, a journal each; their wallets, which are locked already, follow."""
    journals = [new_id() for _ in moves]
    entries: list[Entry] = []
    totals: defaultdict[WalletKey, int] = defaultdict(int)
    for journal_id, m in zip(journals, moves, strict=True):
        entries.append(Entry(m.tenant_id, journal_id, source, m.payee_id, m.currency, -m.amount))
        entries.append(Entry(m.tenant_id, journal_id, target, m.payee_id, m.currency, m.amount))
        totals[m.wallet] += m.amount
    opened = ([m.tenant_id for m in moves], journals, [kind] * len(moves), [m.payout_id for m in moves], now)
    changes = [
        [total * ((account is target) - (account is source)) for total in totals.values()]
        for account in (Account.WALLET, Account.LOCKED, Account.DISBURSED)
    ]
    return (
        Write(OPEN_JOURNALS, opened, rows=len(moves)),
        Write(POST_ENTRIES, (as_rows(entries),)),
        Write(MOVE, (*map(list, zip(*totals, strict=True)), *changes)),
    )
