"""The facts, one per payment, earning and payout, and how an event changes them; in any order, any number of times."""

from datetime import date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from shared.events import Received
from shared.events.payments import Share

COMPLETED = "completed"
DISBURSED = "disbursed"
# What a later state has told is never undone by an earlier one; matched is completed with its request known.
PAYMENT_STATES = {
    "payment-pending": (1, "pending"),
    "payment-failed": (2, "failed"),
    "payment-completed": (3, COMPLETED),
    "payment-matched": (4, COMPLETED),
}
PAYOUT_STATES = {
    "payout-requested": (1, "requested"),
    "payout-approved": (2, "approved"),
    "payout-disbursed": (3, DISBURSED),
    "payout-rejected": (4, "rejected"),
    "payout-failed": (4, "failed"),
}
EARNING_ACCRUED = "earning-accrued"


class PaymentFact(msgspec.Struct, frozen=True):
    """A payment as the event with the highest (rank, event_id) tells it; `day` is that of `at` in the tenant's zone."""

    tenant_id: str
    payment_id: str
    rank: int
    event_id: UUID
    status: str
    request_id: str | None
    transaction_id: str
    client_id: str | None
    amount: int
    applied: int
    fee: int
    currency: str
    method: str
    at: datetime
    day: date
    fleet_id: str | None
    route_id: str | None
    vehicle_id: str | None
    platform: str | None
    payees: tuple[Share, ...]
    flags: tuple[str, ...]


class EarningFact(msgspec.Struct, frozen=True):
    """An earning; it is told once."""

    tenant_id: str
    earning_id: str
    payment_id: str
    payee_id: str
    fleet_id: str | None
    currency: str
    gross: int
    commission: int
    amount: int
    cash_held: int
    at: datetime
    day: date


class PayoutFact(msgspec.Struct, frozen=True):
    """A payout; `at` is the earliest time that any of its events tells, in the end that of its request."""

    tenant_id: str
    payout_id: str
    rank: int
    event_id: UUID
    status: str
    payee_id: str
    amount: int
    currency: str
    at: datetime
    disbursed_on: date | None
    method: str | None
    reference: str | None
    reason: str | None


def merge_payment(old: PaymentFact | None, event: Received, zone: ZoneInfo) -> PaymentFact:
    """The fact after `event`, any of PAYMENT_STATES; `old` itself when it tells nothing new."""
    rank, status = PAYMENT_STATES[event.type]
    if old is not None and (old.rank, old.event_id) >= (rank, event.id):
        return old
    data, money_came = event.data, status == COMPLETED
    return PaymentFact(
        event.tenant_id,
        data.payment_id,
        rank,
        event.id,
        status,
        data.request_id,
        data.transaction_id,
        data.client_id,
        data.amount,
        data.applied if money_came else 0,
        data.fee if money_came else 0,
        data.currency,
        data.method,
        data.paid_at,
        data.paid_at.astimezone(zone).date(),
        data.fleet_id,
        data.route_id,
        data.vehicle_id,
        data.platform,
        data.payees,
        data.flags if money_came else (),
    )


def earning_of(event: Received, zone: ZoneInfo) -> EarningFact:
    """The fact that `earning-accrued` tells."""
    data = event.data
    return EarningFact(
        event.tenant_id,
        data.earning_id,
        data.payment_id,
        data.payee_id,
        data.fleet_id,
        data.currency,
        data.gross,
        data.commission,
        data.amount,
        data.cash_held,
        data.paid_at,
        data.paid_at.astimezone(zone).date(),
    )


def merge_payout(old: PayoutFact | None, event: Received, zone: ZoneInfo) -> PayoutFact:
    """The fact after `event`, any of PAYOUT_STATES; `old` itself when it tells nothing new."""
    rank, status = PAYOUT_STATES[event.type]
    data = event.data
    if old is not None and (old.rank, old.event_id) >= (rank, event.id):
        return replace(old, at=data.at) if data.at < old.at else old
    return PayoutFact(
        event.tenant_id,
        data.payout_id,
        rank,
        event.id,
        status,
        data.payee_id,
        data.amount,
        data.currency,
        data.at if old is None else min(old.at, data.at),
        data.at.astimezone(zone).date() if status == DISBURSED else None,
        getattr(data, "method", None),
        getattr(data, "reference", None),
        getattr(data, "reason", None),
    )
