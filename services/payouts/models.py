"""What the payouts service talks about; no input or output here."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from shared.errors import NotFound

DEFAULT_COMMISSION_BP = 1_000


class PayoutUnknown(NotFound):
    """No such payout in this tenant."""

    code = "payout-unknown"


class PayoutStatus(StrEnum):
    """requested → approved → disbursed; requested or approved → rejected; approved → failed."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    DISBURSED = "disbursed"
    FAILED = "failed"


class Account(StrEnum):
    """The accounts of the ledger. An amount above zero goes into an account, below zero out of it."""

    GATEWAY = "gateway"  # where money comes from
    SUSPENSE = "suspense"  # money received that nothing was due for
    OPERATOR = "operator"  # what trips without a payee bring
    COMMISSION = "commission"
    WALLET = "wallet"  # what a payee may still be paid; below zero: owes
    LOCKED = "locked"  # in a payout that is under way
    DISBURSED = "disbursed"  # paid out


@dataclass(frozen=True, slots=True)
class Plan:
    """A commission in force from `valid_from` on, for a payee, else for a fleet, else for the tenant."""

    fleet_id: str | None
    payee_id: str | None
    commission_bp: int
    delay_days: int
    valid_from: date


DEFAULT_PLAN = Plan(None, None, DEFAULT_COMMISSION_BP, 0, date.min)


class Earning(msgspec.Struct, frozen=True):
    """What a payee earns from a payment: gross = commission + net; `cash_held` of it is in the payee's hands already."""

    tenant_id: str
    earning_id: UUID
    payment_id: UUID
    payee_id: str
    fleet_id: str | None
    currency: str
    gross: int
    commission: int
    commission_bp: int
    net: int
    cash_held: int
    paid_at: datetime
    available_at: datetime


class Entry(msgspec.Struct, frozen=True):
    """A line of a journal."""

    tenant_id: str
    journal_id: UUID
    account: Account
    payee_id: str | None
    currency: str
    amount: int
