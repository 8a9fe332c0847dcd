"""Topic `payouts`, published by payouts; earnings are keyed by payment id, payouts by payout id. Amounts are minor units."""

from datetime import datetime
from typing import ClassVar

from shared.events import Event


class EarningAccrued(Event, frozen=True, kw_only=True):
    """A payee has earned from a payment: gross = commission + amount; `cash_held` of it is in the payee's hands already."""

    TYPE: ClassVar[str] = "earning-accrued"
    TOPIC: ClassVar[str] = "payouts"

    earning_id: str
    payment_id: str
    payee_id: str
    fleet_id: str | None
    currency: str
    gross: int
    commission: int
    amount: int
    cash_held: int
    paid_at: datetime


class PayoutEvent(Event, frozen=True, kw_only=True):
    """What every event of a payout says."""

    payout_id: str
    payee_id: str
    amount: int
    currency: str
    at: datetime


class PayoutRequested(PayoutEvent, frozen=True, kw_only=True):
    """A payee's available money was locked for a payout."""

    TYPE: ClassVar[str] = "payout-requested"
    TOPIC: ClassVar[str] = "payouts"


class PayoutApproved(PayoutEvent, frozen=True, kw_only=True):
    """Finance has approved the payout."""

    TYPE: ClassVar[str] = "payout-approved"
    TOPIC: ClassVar[str] = "payouts"


class PayoutRejected(PayoutEvent, frozen=True, kw_only=True):
    """Finance has rejected the payout; its money is available again."""

    TYPE: ClassVar[str] = "payout-rejected"
    TOPIC: ClassVar[str] = "payouts"

    reason: str


class PayoutDisbursed(PayoutEvent, frozen=True, kw_only=True):
    """The money has left."""

    TYPE: ClassVar[str] = "payout-disbursed"
    TOPIC: ClassVar[str] = "payouts"

    method: str
    reference: str | None = None


class PayoutFailed(PayoutEvent, frozen=True, kw_only=True):
    """The money did not arrive; it is available again."""

    TYPE: ClassVar[str] = "payout-failed"
    TOPIC: ClassVar[str] = "payouts"

    reason: str


EVENTS: tuple[type[Event], ...] = (
    EarningAccrued,
    PayoutRequested,
    PayoutApproved,
    PayoutRejected,
    PayoutDisbursed,
    PayoutFailed,
)
