"""Record receipts: every transaction takes effect once, completed money counts towards its request, and the world is told."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Literal, NamedTuple
from uuid import UUID

from msgspec.structs import replace

from services.payments.books import (
    Key,
    await_requests,
    event,
    insert_payments,
    lock_payments,
    lock_requests,
    named_requests,
    update_payments,
    update_requests,
)
from services.payments.models import (
    Callback,
    Payment,
    PaymentStatus,
    Receipt,
    Request,
    RequestStatus,
    TransactionKey,
)
from services.payments.settlement import describe, refuse_misfit, settle, takes_effect
from shared import audit, outbox
from shared.db import ConcurrentWrite, Connection, as_rows
from shared.errors import Conflict, DomainError
from shared.ids import new_id
from shared.writes import Write, write

STORE_CALLBACKS = """
INSERT INTO callbacks (tenant_id, callback_id, account_id, webhook_id, body, received_at, payment_id, handled_at)
SELECT tenant_id, callback_id, account_id, webhook_id, body, received_at, payment_id, $3
FROM ROWS FROM (
    json_to_recordset($1) AS (
        tenant_id text, callback_id uuid, account_id text, webhook_id text, received_at timestamptz, payment_id uuid
    ),
    unnest($2::bytea[])
) AS c (tenant_id, callback_id, account_id, webhook_id, received_at, payment_id, body)
"""
HANDLE_CALLBACKS = """
UPDATE callbacks AS c SET payment_id = h.payment_id, handled_at = $4, attempts = attempts + 1, error = NULL
FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS h (tenant_id, callback_id, payment_id)
WHERE c.tenant_id = h.tenant_id AND c.callback_id = h.callback_id AND c.handled_at IS NULL
"""


AUDITED = tuple(name for name in Payment.__struct_fields__ if not name.startswith("payer_"))
_audited_of = attrgetter(*AUDITED)


class TransactionDiffers(Conflict):
    """The transaction_id is taken by a payment of another request."""

    code = "transaction-differs"


class Recorded(NamedTuple):
    """What became of a receipt."""

    result: Literal["recorded", "duplicate"]
    payment: Payment


class _Work:
    """The batch as it is worked out: what was found, what is new, what has changed."""

    def __init__(self, requests: dict[Key, Request], payments: dict[TransactionKey, Payment]) -> None:
        self.requests = requests
        self.payments = payments
        self.known_before = set(payments)
        self.touched: dict[TransactionKey, Payment] = {}
        self.events: list[outbox.Outgoing] = []


async def record_payments(
    conn: Connection, receipts: Sequence[Receipt], *, now: datetime
) -> list[Recorded | DomainError]:
    """Record `receipts`, of any tenants that the open transaction is bound to; one result each, in the order given.

    A receipt with `must_fit` that does not fit its request is refused with its error as the result; the others go on.
    Raises ConcurrentWrite when another transaction recorded the same transaction first: run it again.
    """
    if not receipts:
        return []
    receipts = await _with_known_requests(conn, receipts)
    requests = await lock_requests(conn, [key for r in receipts if (key := _request_key(r))])
    missing = {key for r in receipts if not r.must_fit and (key := _request_key(r)) and key not in requests}
    await await_requests(conn, missing, now=now)
    work = _Work(requests, await lock_payments(conn, [r.key for r in receipts]))
    results = [_work_out(work, receipt, now) for receipt in receipts]
    paid = {(p.tenant_id, p.request_id or "") for p in work.touched.values() if p.status == PaymentStatus.COMPLETED}
    await write(
        conn,
        insert_payments([p for key, p in work.touched.items() if key not in work.known_before]),
        update_payments([p for key, p in work.touched.items() if key in work.known_before]),
        update_requests([requests[key] for key in sorted(paid & requests.keys())], now=now),
        outbox.add("payments", work.events, now=now),
        *_keep_callbacks(receipts, results, now),
        _keep_audit(receipts, results, now),
    )
    return results


async def _with_known_requests(conn: Connection, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
    """A gateway may name the request when it announces a payment and not again when it completes it."""
    nameless = [r for r in receipts if r.request_id is None]
    if not nameless:
        return receipts
    named = {r.key: r.request_id for r in receipts if r.request_id is not None}
    named |= await named_requests(conn, [r.key for r in nameless])
    return [replace(r, request_id=named[r.key]) if r.request_id is None and r.key in named else r for r in receipts]


def _request_key(receipt: Receipt) -> Key | None:
    return (receipt.tenant_id, receipt.request_id) if receipt.request_id is not None else None


def _work_out(work: _Work, receipt: Receipt, now: datetime) -> Recorded | DomainError:
    known = work.payments.get(receipt.key)
    if known is not None and receipt.must_fit and _told(known) != _told(receipt):
        return TransactionDiffers(f"There is another payment {receipt.transaction_id}.", field="transaction_id")
    if not takes_effect(known, receipt.status):
        assert known is not None  # noqa: S101 - takes_effect says so
        if known.request_id is None and receipt.request_id is not None:
            _name_late(work, known, receipt, now)
        return Recorded("duplicate", known)
    if known is not None and known.request_id is not None and receipt.request_id is None:
        raise ConcurrentWrite("the transaction's request was named just now")
    request = work.requests.get(_request_key(receipt) or ("", ""))
    if receipt.must_fit:
        try:
            refuse_misfit(receipt, request, now=now)
        except DomainError as error:
            return error
    payment = _new_state(known, receipt, now)
    if receipt.status is PaymentStatus.COMPLETED:
        settle(payment, request)
    else:
        describe(payment, request)
    work.payments[receipt.key] = work.touched[receipt.key] = payment
    work.events.append(event(payment))
    return Recorded("recorded", payment)


def _told(payment: Payment | Receipt) -> tuple[object, ...]:
    """What whoever records a payment by hand must say again, or the repetition would seem to have replaced it."""
    return payment.request_id, payment.amount, payment.currency, payment.method


def _name_late(work: _Work, known: Payment, receipt: Receipt, now: datetime) -> None:
    """The payment is known already, without a request; an earlier or repeated word of the gateway names one."""
    known.request_id, known.updated_at = receipt.request_id, now
    work.touched[receipt.key] = known
    if known.status != PaymentStatus.COMPLETED:
        return  # the name is kept for the money that may come; no step of a payment is told twice
    request = work.requests.get(_request_key(receipt) or ("", ""))
    settle(known, request)
    if request is not None and request.status != RequestStatus.AWAITED:  # else it is told when that is registered
        work.events.append(event(known, matched=True))


def _new_state(known: Payment | None, receipt: Receipt, now: datetime) -> Payment:
    return Payment(
        tenant_id=receipt.tenant_id,
        payment_id=known.payment_id if known else new_id(),
        account_id=receipt.account_id,
        transaction_id=receipt.transaction_id,
        request_id=receipt.request_id,
        status=receipt.status,
        amount=receipt.amount,
        currency=receipt.currency,
        method=receipt.method,
        paid_at=receipt.paid_at,
        recorded_at=known.recorded_at if known else now,
        updated_at=now,
        fee=receipt.fee,
        reference=receipt.reference,
        payer_name=receipt.payer_name or (known.payer_name if known else None),
        payer_phone=receipt.payer_phone or (known.payer_phone if known else None),
        failure_code=receipt.failure_code if receipt.status is PaymentStatus.FAILED else None,
        failure_text=receipt.failure_text if receipt.status is PaymentStatus.FAILED else None,
    )


def _keep_callbacks(
    receipts: Sequence[Receipt], results: Sequence[Recorded | DomainError], now: datetime
) -> Iterator[Write]:
    kept = [(r, r.callback, x.payment.payment_id) for r, x in zip(receipts, results, strict=True)
            if r.callback is not None and isinstance(x, Recorded)]  # fmt: skip
    new = [(r, c, payment_id) for r, c, payment_id in kept if not c.is_stored]
    if new:
        rows = [_row(receipt, callback, payment_id) for receipt, callback, payment_id in new]
        yield Write(STORE_CALLBACKS, (as_rows(rows), [callback.body for _, callback, _ in new], now))
    stored = [(r.tenant_id, c.callback_id, payment_id) for r, c, payment_id in kept if c.is_stored]
    if stored:
        yield Write(HANDLE_CALLBACKS, (*map(list, zip(*stored, strict=True)), now))


def _row(receipt: Receipt, callback: Callback, payment_id: UUID) -> dict[str, object]:
    return {
        "tenant_id": receipt.tenant_id,
        "callback_id": callback.callback_id,
        "account_id": receipt.account_id,
        "webhook_id": callback.webhook_id,
        "received_at": callback.received_at,
        "payment_id": payment_id,
    }


def _keep_audit(receipts: Sequence[Receipt], results: Sequence[Recorded | DomainError], now: datetime) -> Write | None:
    # A gateway's payment has its callback as its trail; a person's or a system's has an audit row.
    done = [
        audit.Done(
            receipt.tenant_id,
            receipt.actor,
            audit.Change(str(result.payment.payment_id), None, _auditable(result.payment)),
        )
        for receipt, result in zip(receipts, results, strict=True)
        if receipt.actor is not None and isinstance(result, Recorded) and result.result == "recorded"
    ]
    return audit.record_all("record-payment", done, now=now)


def _auditable(payment: Payment) -> dict[str, object]:
    return dict(zip(AUDITED, _audited_of(payment), strict=True))
