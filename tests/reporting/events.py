"""Events as payments and payouts publish them."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from shared.events import Event, Received
from shared.events.payments import PaymentCompleted, PaymentFailed, PaymentMatched, PaymentPending, Share
from shared.events.payouts import (
    EarningAccrued,
    PayoutApproved,
    PayoutDisbursed,
    PayoutFailed,
    PayoutRejected,
    PayoutRequested,
)

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday
PAYMENTS = {
    "pending": PaymentPending,
    "failed": PaymentFailed,
    "completed": PaymentCompleted,
    "matched": PaymentMatched,
}
PAYOUTS = {
    "requested": PayoutRequested,
    "approved": PayoutApproved,
    "disbursed": PayoutDisbursed,
    "rejected": PayoutRejected,
    "failed": PayoutFailed,
}


def received(event: Event, *, subject: str, tenant: str = "acme", event_id: UUID | None = None) -> Received:
    return Received(event_id or uuid4(), event.TYPE, subject, NOON, tenant, event, None)


def payment(payment_id: str = "p1", kind: str = "completed", *, tenant: str = "acme", **fields) -> Received:
    """A payment event; `payees` as {payee_id: share_bp}."""
    data = {
        "payment_id": payment_id,
        "account_id": "acc",
        "transaction_id": f"t-{payment_id}",
        "request_id": f"r-{payment_id}",
        "amount": 10_000,
        "currency": "KES",
        "method": "mobile",
        "paid_at": NOON,
        "client_id": "client-1",
        "fleet_id": "f1",
        "route_id": "r1",
        "vehicle_id": "v1",
        "payees": {"d1": 10_000},
        **({"applied": fields.get("amount", 10_000), "fee": 0} if kind in {"completed", "matched"} else {}),
        **fields,
    }
    data["payees"] = tuple(Share(payee_id=payee, share_bp=share) for payee, share in data["payees"].items())
    return received(PAYMENTS[kind](**data), subject=payment_id, tenant=tenant)


def unmatched(payment_id: str = "p1", **fields) -> Received:
    """Money that came before its request is known."""
    none = dict.fromkeys(("request_id", "client_id", "fleet_id", "route_id", "vehicle_id"))
    return payment(payment_id, **{**none, "payees": {}, "applied": 0, "flags": ("unmatched",), **fields})


def earning(earning_id: str = "e1", *, tenant: str = "acme", **fields) -> Received:
    data = {
        "earning_id": earning_id,
        "payment_id": "p1",
        "payee_id": "d1",
        "fleet_id": "f1",
        "currency": "KES",
        "gross": 10_000,
        "commission": 1_000,
        "amount": 9_000,
        "cash_held": 0,
        "paid_at": NOON,
        **fields,
    }
    return received(EarningAccrued(**data), subject=data["payment_id"], tenant=tenant)


def payout(payout_id: str = "o1", kind: str = "disbursed", *, tenant: str = "acme", **fields) -> Received:
    more = {"disbursed": {"method": "bank_transfer"}, "rejected": {"reason": "no"}, "failed": {"reason": "closed"}}
    data = {"payout_id": payout_id, "payee_id": "d1", "amount": 9_000, "currency": "KES", "at": NOON}
    return received(PAYOUTS[kind](**{**data, **more.get(kind, {}), **fields}), subject=payout_id, tenant=tenant)
