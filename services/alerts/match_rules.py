"""Which rules an event fires, and how its alert reads; pure."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from services.alerts.models import Alert, Kind, Rule
from shared.events import Received
from shared.events.payments import PaymentCompleted, PaymentFailed
from shared.events.payouts import PayoutFailed
from shared.ids import derived_id
from shared.money import format_amount

WATCHES = {
    Kind.PAYMENT_FAILED: PaymentFailed.TYPE,
    Kind.HIGH_VALUE: PaymentCompleted.TYPE,
    Kind.PAYOUT_FAILED: PayoutFailed.TYPE,
}
TEXT_LIMIT = 200


def match(rule: Rule, event: Received, *, handled_at: datetime) -> Alert | None:
    """The alert that `rule` raises on `event` when it is handled then, or None; the same id whenever it is asked."""
    kind, data = rule.terms.kind, event.data
    if event.type != WATCHES[kind] or not rule.terms.enabled or event.tenant_id != rule.tenant_id:
        return None
    if kind is Kind.HIGH_VALUE and not _is_high(rule, data):
        return None
    subject = data.payout_id if kind is Kind.PAYOUT_FAILED else data.payment_id
    fleet_id = None if kind is Kind.PAYOUT_FAILED else data.fleet_id
    alert_id = derived_id(handled_at, str(rule.rule_id), subject)
    return Alert(event.tenant_id, alert_id, rule.rule_id, kind, subject, fleet_id, SUMMARIES[kind](data), handled_at)


def _is_high(rule: Rule, data: Any) -> bool:
    threshold = rule.terms.thresholds.get(data.currency)
    return threshold is not None and data.amount >= threshold


def _payment_failed(data: Any) -> str:
    why = f" ({one_line(data.failure_code)})" if data.failure_code else ""
    return f"Payment of {format_amount(data.amount, data.currency)} by {data.method} failed{why}: {_where(data)}"


def _high_value(data: Any) -> str:
    return f"High value payment of {format_amount(data.amount, data.currency)} by {data.method}: {_where(data)}"


def _payout_failed(data: Any) -> str:
    amount = format_amount(data.amount, data.currency)
    return f"Payout of {amount} failed ({one_line(data.reason)}): payee {data.payee_id}, payout {data.payout_id}"


def _where(data: Any) -> str:
    fleet = f"fleet {data.fleet_id}" if data.fleet_id is not None else "no fleet known"
    return f"{fleet}, payment {data.payment_id}"


def one_line(text: str) -> str:
    """`text` without line breaks and other control characters, cut to TEXT_LIMIT characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:TEXT_LIMIT]


SUMMARIES: dict[Kind, Callable[[Any], str]] = {
    Kind.PAYMENT_FAILED: _payment_failed,
    Kind.HIGH_VALUE: _high_value,
    Kind.PAYOUT_FAILED: _payout_failed,
}
