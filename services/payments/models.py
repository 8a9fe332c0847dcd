"""What the payments service talks about; no input or output here."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

from shared.audit import Actor
from shared.errors import NotFound

MANUAL_ACCOUNT = "manual"  # the account of payments that people and our own systems record
TransactionKey = tuple[str, str, str]  # tenant_id, account_id, transaction_id


class RequestUnknown(NotFound):
    """No such request in this tenant, or not one of the caller's fleets."""

    code = "request-unknown"


class PaymentStatus(StrEnum):
    """Completed beats failed, failed beats pending; nothing undoes completed."""

    PENDING = "pending"
    FAILED = "failed"
    COMPLETED = "completed"


class RequestStatus(StrEnum):
    """`awaited`: named by money, not registered yet; never shown."""

    AWAITED = "awaited"
    PENDING_PAYMENT = "pending_payment"
    PARTIALLY_PAID = "partially_paid"
    COMPLETED = "completed"
    CANCELED = "canceled"


class Flag(StrEnum):
    """What a person should look at."""

    UNMATCHED = "unmatched"
    OVERPAID = "overpaid"
    CURRENCY_MISMATCH = "currency_mismatch"


class Callback(NamedTuple):
    """A raw delivery of a gateway."""

    callback_id: UUID
    webhook_id: str
    body: bytes
    received_at: datetime
    is_stored: bool = False  # an earlier try to apply it failed; its row is there


class Receipt(msgspec.Struct, frozen=True):
    """What a gateway, or a person, says about one transaction. Amounts are minor units."""

    tenant_id: str
    account_id: str
    transaction_id: str
    status: PaymentStatus
    amount: int
    currency: str
    method: str
    paid_at: datetime
    request_id: str | None = None
    fee: int = 0
    reference: str | None = None
    payer_name: str | None = None
    payer_phone: str | None = None
    failure_code: str | None = None
    failure_text: str | None = None
    callback: Callback | None = None
    must_fit: bool = False  # refuse what does not fit the request: for those who can still change it
    partial: bool = False
    actor: Actor | None = None

    @property
    def key(self) -> TransactionKey:
        """The transaction this is about."""
        return (self.tenant_id, self.account_id, self.transaction_id)


class Request(msgspec.Struct):
    """A service request as the money rules see it; changed in place while a batch is worked out."""

    tenant_id: str
    request_id: str
    status: str
    flags: list[str]
    amount: int
    paid: int
    currency: str | None
    client_id: str | None
    fleet_id: str | None
    route_id: str | None
    vehicle_id: str | None
    platform: str | None
    payees: str  # JSON: [{"payee_id", "share_bp"}]


class Payment(msgspec.Struct):
    """A row of `payments`; changed in place while a batch is worked out."""

    tenant_id: str
    payment_id: UUID
    account_id: str
    transaction_id: str
    request_id: str | None
    status: str
    amount: int
    currency: str
    method: str
    paid_at: datetime
    recorded_at: datetime
    updated_at: datetime
    flags: list[str] = msgspec.field(default_factory=list)
    applied: int = 0
    fee: int = 0
    reference: str | None = None
    payer_name: str | None = None
    payer_phone: str | None = None
    failure_code: str | None = None
    failure_text: str | None = None
    client_id: str | None = None
    fleet_id: str | None = None
    route_id: str | None = None
    vehicle_id: str | None = None
    platform: str | None = None
    payees: str = "[]"
