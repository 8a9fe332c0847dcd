"""The rules by which money meets a request; pure, and the only place that decides them."""

from datetime import datetime

from services.payments.instants import not_yet
from services.payments.models import Flag, Payment, PaymentStatus, Receipt, Request, RequestStatus, RequestUnknown
from shared.errors import Conflict, Invalid
from shared.money import format_amount

RANK = {PaymentStatus.PENDING: 0, PaymentStatus.FAILED: 1, PaymentStatus.COMPLETED: 2}


class RequestCanceled(Conflict):
    """Nothing can be paid on a canceled request."""

    code = "request-canceled"


class AmountMismatch(Invalid):
    """A payment recorded by hand is not what is due."""

    code = "amount-mismatch"


class CurrencyMismatch(Invalid):
    """A payment recorded by hand is in another currency than its request."""

    code = "currency-mismatch"


def takes_effect(known: Payment | None, status: PaymentStatus) -> bool:
    """Whether news of `status` changes what is known of a transaction."""
    return known is None or RANK[status] > RANK[PaymentStatus(known.status)]


def due(request: Request) -> int:
    """What is still to be paid, in minor units."""
    return 0 if request.status == RequestStatus.CANCELED else max(0, request.amount - request.paid)


def refuse_misfit(receipt: Receipt, request: Request | None, *, now: datetime) -> None:
    """Refuse a payment recorded by hand that does not fit its request. Raises RequestUnknown, or a refusal of this module."""
    if request is None or request.status == RequestStatus.AWAITED:
        raise RequestUnknown(f"There is no request {receipt.request_id}.", field="request_id")
    if refusal := not_yet(receipt.paid_at, field="paid_at", now=now):
        raise refusal
    if request.status == RequestStatus.CANCELED:
        raise RequestCanceled(f"The request {request.request_id} is canceled.", field="request_id")
    if receipt.currency != request.currency:
        raise CurrencyMismatch(f"The request is in {request.currency}.", field="currency")
    still_due = due(request)
    if receipt.amount > still_due:
        raise AmountMismatch(f"Only {format_amount(still_due, receipt.currency)} is due.", field="amount")
    if receipt.amount < still_due and not receipt.partial:
        raise AmountMismatch(
            f"{format_amount(still_due, receipt.currency)} is due; a smaller amount must say that it is partial.",
            field="amount",
        )


def describe(payment: Payment, request: Request | None) -> None:
    """Give the payment the dimensions of its request, which the events and the lists are cut by."""
    if request is not None and request.status != RequestStatus.AWAITED:
        payment.client_id = request.client_id
        payment.fleet_id = request.fleet_id
        payment.route_id = request.route_id
        payment.vehicle_id = request.vehicle_id
        payment.platform = request.platform
        payment.payees = request.payees


def settle(payment: Payment, request: Request | None) -> None:
    """Let completed money count towards its request; what is above the due is kept, flagged and applied to nothing."""
    describe(payment, request)
    if request is None or request.status == RequestStatus.AWAITED:
        payment.applied, payment.flags = 0, [Flag.UNMATCHED]
        return
    if payment.currency != request.currency:
        payment.applied, payment.flags = 0, [Flag.CURRENCY_MISMATCH]
        _flag(request, Flag.CURRENCY_MISMATCH)
        return
    payment.applied = min(payment.amount, due(request))
    payment.flags = [Flag.OVERPAID] if payment.applied < payment.amount else []
    request.paid += payment.amount
    if request.paid > request.amount:
        _flag(request, Flag.OVERPAID)
    if request.status != RequestStatus.CANCELED:
        request.status = status_of(request.amount, request.paid)


def status_of(amount: int, paid: int) -> RequestStatus:
    """What a request of `amount` is once `paid` of it has come."""
    if paid >= amount:
        return RequestStatus.COMPLETED
    return RequestStatus.PARTIALLY_PAID if paid else RequestStatus.PENDING_PAYMENT


def _flag(request: Request, flag: Flag) -> None:
    if flag not in request.flags:
        request.flags.append(flag)
