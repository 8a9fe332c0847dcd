"""Calls of the use cases of alerts, as its edges make them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from services.alerts.change_rule import change_rule
from services.alerts.create_rule import create_rule
from services.alerts.models import Alert, Kind, RuleTerms
from services.alerts.raise_alerts import raise_alerts
from services.alerts.send_mails import Sweep, send_mails
from services.alerts.smtp import Smtp
from shared.audit import Actor
from shared.db import Database
from shared.events import Event, Received
from shared.events.payments import PaymentCompleted, PaymentFailed, PaymentMatched
from shared.events.payouts import PayoutFailed

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ACTOR = Actor("finance-1", "request-1")
BOSS = "boss@acme.example"


def terms(kind: str = "payment_failed", *, recipients=(BOSS,), cooldown=300, enabled=True, **thresholds) -> RuleTerms:
    return RuleTerms(Kind(kind), thresholds, tuple(recipients), cooldown, enabled)


@dataclass
class Alerts:
    """The service's use cases on one database."""

    db: Database
    system_db: Database
    smtp: Smtp
    owner_url: str

    async def rule(self, kind="payment_failed", *, tenant="acme", **more) -> UUID:
        async with self.db.transaction(tenant) as conn:
            return await create_rule(conn, terms(kind, **more), tenant_id=tenant, actor=ACTOR, now=NOW)

    async def change(self, rule_id: UUID, wanted: RuleTerms, *, tenant="acme") -> None:
        async with self.db.transaction(tenant) as conn:
            await change_rule(conn, rule_id, wanted, tenant_id=tenant, actor=ACTOR, now=NOW)

    async def raised(self, *events: Received, after_s: float = 0) -> list[Alert]:
        async with self.db.transaction(*{event.tenant_id for event in events}) as conn:
            return await raise_alerts(conn, events, now=NOW + timedelta(seconds=after_s))

    async def sweep(self, *, after_s: float = 0, send=None) -> Sweep:
        now = NOW + timedelta(seconds=after_s)
        return await send_mails(self.db, self.system_db, send or self.smtp.send, sender="alerts@takings.local", now=now)

    async def rows(self, sql: str, *tenants: str) -> list[tuple]:
        async with self.db.transaction(*(tenants or ("acme",))) as conn:
            return [tuple(row) for row in await conn.fetch(sql)]


def received(event: Event, subject: str, tenant: str) -> Received:
    return Received(uuid4(), event.TYPE, subject, NOW, tenant, event, None)


def payment(kind, payment_id="p1", *, tenant="acme", **fields) -> Received:
    data = {
        "payment_id": payment_id,
        "account_id": "acc",
        "transaction_id": f"t-{payment_id}",
        "request_id": "r1",
        "amount": 125_000,
        "currency": "KES",
        "method": "mobile",
        "paid_at": NOW,
        "fleet_id": "f1",
        **fields,
    }
    return received(kind(**data), payment_id, tenant)


def failed(payment_id="p1", **fields) -> Received:
    return payment(PaymentFailed, payment_id, **{"failure_code": "no_funds", **fields})


def completed(payment_id="p1", **fields) -> Received:
    return payment(PaymentCompleted, payment_id, applied=0, fee=0, **fields)


def matched(payment_id="p1", **fields) -> Received:
    return payment(PaymentMatched, payment_id, applied=0, fee=0, **fields)


def payout_failed(payout_id="o1", *, tenant="acme") -> Received:
    event = PayoutFailed(payout_id=payout_id, payee_id="d1", amount=9_000, currency="KES", at=NOW, reason="closed")
    return received(event, payout_id, tenant)
