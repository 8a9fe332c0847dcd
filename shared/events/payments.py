"""Topic `payments`, published by payments, keyed by payment id. Amounts are minor units."""

from datetime import datetime
from typing import ClassVar

import msgspec

from shared.events import Event


class Share(msgspec.Struct, frozen=True):
    """A payee's share of a payment in basis points; the shares of one payment sum to 10,000."""

    payee_id: str
    share_bp: int


class PaymentEvent(Event, frozen=True, kw_only=True):
    """What every event of a payment says. The dimensions are those of its request; absent while it has none."""

    payment_id: str
    account_id: str
    transaction_id: str
    request_id: str | None
    amount: int
    currency: str
    method: str
    paid_at: datetime
    client_id: str | None = None
    fleet_id: str | None = None
    route_id: str | None = None
    vehicle_id: str | None = None
    platform: str | None = None
    payees: tuple[Share, ...] = ()


class PaymentPending(PaymentEvent, frozen=True, kw_only=True):
    """A gateway has announced a payment that is not settled yet."""

    TYPE: ClassVar[str] = "payment-pending"
    TOPIC: ClassVar[str] = "payments"


class PaymentFailed(PaymentEvent, frozen=True, kw_only=True):
    """A payment did not happen; a later completed one of the same transaction replaces it."""

    TYPE: ClassVar[str] = "payment-failed"
    TOPIC: ClassVar[str] = "payments"

    failure_code: str | None = None


class PaymentCompleted(PaymentEvent, frozen=True, kw_only=True):
    """Money was received. `applied` is what of it counts towards what was due; the rest waits in suspense."""

    TYPE: ClassVar[str] = "payment-completed"
    TOPIC: ClassVar[str] = "payments"

    applied: int
    fee: int
    flags: tuple[str, ...] = ()


class PaymentMatched(PaymentCompleted, frozen=True, kw_only=True):
    """Money received earlier, for a request that was unknown then, has found its request."""

    TYPE: ClassVar[str] = "payment-matched"


EVENTS: tuple[type[Event], ...] = (PaymentPending, PaymentFailed, PaymentCompleted, PaymentMatched)
