"""A small world in the databases of all four services: every table has rows, made by the services themselves.

Events are delivered by hand, so that a test says when: decoded and applied by each service's own use case.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from services.alerts import worker as alerts_worker
from services.alerts.change_rule import change_rule
from services.alerts.create_rule import create_rule
from services.alerts.models import Kind, MailNotSent, RuleTerms
from services.alerts.raise_alerts import raise_alerts
from services.alerts.send_mails import send_mails
from services.payouts import worker as payouts_worker
from services.payouts.accrue_earnings import accrue_earnings
from services.reporting import worker as reporting_worker
from services.reporting.project_events import project_events
from shared.audit import Actor
from shared.db import is_transient
from shared.events import Decoder, Received
from shared.events.catalogue import ALL_EVENTS
from shared.events.tenants import TenantConfigured
from shared.tenants import TenantCopy
from tests.conftest import Running, connected
from tests.payments.conftest import callback_body, new_request, sign

SERVICES = ("payments", "payouts", "reporting", "alerts")
READERS = {"payouts": payouts_worker, "reporting": reporting_worker, "alerts": alerts_worker}
ZONES = {"amka": ("Africa/Nairobi", "KES"), "windy": ("America/Chicago", "USD")}
BOSS, CLERK = "boss@amka.example", "clerk@amka.example"
UNPUBLISHED = "SELECT tenant_id, id, event::text AS event FROM outbox WHERE published_at IS NULL ORDER BY id"
MARK = "UPDATE outbox SET published_at = $2 WHERE id = ANY ($1) AND published_at IS NULL"


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class World:
    """The services, and what tests need to know of what was done with them."""

    running: dict[str, Running]
    accounts: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def urls(self) -> dict[str, Any]:
        return {service: running.urls for service, running in self.running.items()}

    async def call(
        self, service: str, method: str, path: str, *, tenant: str = "amka", role: str = "admin", **more: Any
    ):
        """The answer of an API as JSON; anything but a success is an error of the test."""
        claims = more.pop("claims", {})
        headers = self.running[service].as_(role, tenant=None if role == "operator" else tenant, **claims)
        headers |= more.pop("headers", {})
        answer = await self.running[service].http.request(method, "/api/v1" + path, headers=headers, **more)
        assert answer.is_success, answer.text
        return answer.json()

    async def request(self, tenant: str, request_id: str, amount: int = 1000, **fields: Any) -> None:
        currency = ZONES[tenant][1]
        body = new_request(id=request_id, amount=amount, **{"currency": currency, **fields})
        await self.call("payments", "POST", "/requests", tenant=tenant, role="system", json=body,
                        headers={"Idempotency-Key": request_id})  # fmt: skip

    async def callback(self, tenant: str, *, kind: str = "completed", **data: Any) -> None:
        account, secret = self.accounts[tenant]
        body = callback_body(kind=kind, **{"currency": ZONES[tenant][1], "fee": 7, **data})
        answer = await self.running["payments"].http.post(
            f"/api/v1/webhooks/standard/{account}", content=body, headers=sign(secret, body)
        )
        assert answer.status_code == 200, answer.text

    async def deliver(self) -> None:
        """Let every event that is there have its effect everywhere, and those that follow from it."""
        while (await self.deliver_from("payments")) + (await self.deliver_from("payouts")):
            pass

    async def deliver_from(self, source: str) -> int:
        """Publish and apply what a service's outbox holds; how many events."""
        async with connected(self.running[source].urls.system) as conn:
            rows = await conn.fetch(UNPUBLISHED)
            await conn.execute(MARK, [row["id"] for row in rows], utc_now())
        for service in READERS:
            await self.apply(service, [row["event"].encode() for row in rows])
        return len(rows)

    async def apply(self, service: str, values: Sequence[bytes]) -> None:
        """Let a service apply events as its consumer does."""
        db = self.running[service].service.db
        configured = [
            e
            for value in values
            if (e := Decoder([TenantConfigured], known=ALL_EVENTS).decode_value(value)) is not None
        ]
        if configured:
            await TenantCopy(db, wait_s=0).keep(configured)
        events = [
            e
            for value in values
            if (e := Decoder(READERS[service].EVENTS, known=ALL_EVENTS).decode_value(value)) is not None
        ]
        if events:
            await self._effect(service, events)

    async def _effect(self, service: str, events: list[Received]) -> None:
        now = utc_now()
        use_case = {
            "payouts": lambda conn: accrue_earnings(conn, events, now=now),
            "reporting": lambda conn: project_events(conn, events),
            "alerts": lambda conn: raise_alerts(conn, events, now=now),
        }[service]
        while True:
            try:
                await self.running[service].service.db.run(use_case, *{event.tenant_id for event in events})
            except Exception as error:
                if not is_transient(error):
                    raise
                await asyncio.sleep(0.05)
            else:
                return

    async def rule(self, tenant: str, kind: str, *recipients: str, cooldown: int = 0, **thresholds: int) -> Any:
        """A rule that has been in force for an hour."""
        terms = RuleTerms(Kind(kind), thresholds, recipients, cooldown, True)
        at = utc_now() - timedelta(hours=1)
        return await self.running["alerts"].service.db.run(
            lambda conn: create_rule(conn, terms, tenant_id=tenant, actor=Actor("boss"), now=at), tenant
        )

    async def change(self, tenant: str, rule_id: Any, terms: RuleTerms, *, at: datetime | None = None) -> None:
        at = at or utc_now() - timedelta(minutes=30)
        await self.running["alerts"].service.db.run(
            lambda conn: change_rule(conn, rule_id, terms, tenant_id=tenant, actor=Actor("boss"), now=at), tenant
        )

    async def sweep_mails(self) -> None:
        """Send what is due; one recipient's server refuses."""

        async def send(mail: Any) -> None:
            if mail["to"] == CLERK:
                raise MailNotSent("mailbox full", permanent=False)

        service = self.running["alerts"].service
        await send_mails(service.db, service.system_db, send, sender="alerts@takings.local", now=utc_now())


@dataclass(frozen=True)
class Populated:
    """Databases in which a world has been made, by service; what a service needs to read them."""

    databases: dict[str, str]
    keys: dict[str, str]
    accounts: dict[str, tuple[str, str]]


async def populate(world: World) -> None:
    """Two tenants' worth of everything."""
    for tenant, (zone, currency) in ZONES.items():
        body = {"tenant_id": tenant, "name": tenant, "time_zone": zone, "currency": currency}
        await world.call("payments", "POST", "/tenants", role="operator", json=body)
        account = await world.call("payments", "POST", "/gateway-accounts", tenant=tenant, json={"gateway": "standard"})
        world.accounts[tenant] = (account["id"], account["secret"])
    await world.call("payments", "PATCH", "/tenants/amka", role="operator", json={"name": "Amka Sacco"})
    rotated = await world.call("payments", "POST", f"/gateway-accounts/{world.accounts['amka'][0]}/rotate")
    world.accounts["amka"] = (world.accounts["amka"][0], rotated["secret"])
    await world.deliver()
    await _rules_and_plans(world)
    await _payments(world, "amka")
    await _payments(world, "windy")
    await world.deliver()
    await _payouts(world, "amka")
    await world.deliver()
    alert = (await world.call("alerts", "GET", "/alerts"))["items"][0]
    await world.running["alerts"].http.post(
        f"/api/v1/alerts/{alert['id']}/acknowledge", headers=world.running["alerts"].as_("admin", tenant="amka")
    )
    await world.sweep_mails()


async def _rules_and_plans(world: World) -> None:
    for tenant, (_, currency) in ZONES.items():
        await world.rule(tenant, "payment_failed", BOSS)
        changed = await world.rule(tenant, "high_value", BOSS, cooldown=3600, **{currency: 10_000})
        terms = RuleTerms(Kind.HIGH_VALUE, {currency: 5_000}, (BOSS, CLERK), 3600, True)
        await world.change(tenant, changed, terms)
        await world.rule(tenant, "payout_failed", BOSS, CLERK)
        plan = {"commission_bp": 1250, "valid_from": "2026-01-01"}
        await world.call("payouts", "POST", "/commission-plans", tenant=tenant, json=plan)
        own = {"commission_bp": 333, "payee_id": "d2", "valid_from": "2026-01-01"}
        await world.call("payouts", "POST", "/commission-plans", tenant=tenant, json=own)


async def _payments(world: World, tenant: str) -> None:
    three = [
        {"payee_id": "d1", "share_bp": 3333},
        {"payee_id": "d2", "share_bp": 3333},
        {"payee_id": "d3", "share_bp": 3334},
    ]
    for number in range(8):
        await world.request(
            tenant, f"trip-{number}", 1001 + number, payees=three if number % 2 else [{"payee_id": "d1"}]
        )
        await world.callback(tenant, request_id=f"trip-{number}", amount=1001 + number, transaction_id=f"t-{number}")
    await world.request(tenant, "half", 900)
    await world.callback(tenant, request_id="half", amount=400)
    await world.request(tenant, "over", 900, platform="bolt")
    await world.callback(tenant, request_id="over", amount=1234)
    await world.callback(tenant, request_id="late", amount=6_000, transaction_id="late-1")  # high, and no fleet known
    await world.request(tenant, "late", 6_000, payees=three)
    await world.request(tenant, "abroad", 900)
    await world.callback(tenant, request_id="abroad", currency="UGX")
    await world.request(tenant, "slow", 700)
    await world.callback(tenant, kind="pending", request_id="slow", amount=700, transaction_id="slow-1")
    await world.callback(tenant, request_id="slow", amount=700, transaction_id="slow-1")
    await world.request(tenant, "broken", 800)
    await world.callback(tenant, kind="failed", request_id="broken", amount=800, failure={"code": "no_funds"})
    await world.callback(tenant, amount=333, transaction_id="nobody-knows")
    await world.callback(tenant, request_id="never-registered", amount=334)
    await world.callback(tenant, kind="failed", amount=555)  # no request, no fleet
    for kind in ("pending", "failed", "completed"):  # each without its request, which an earlier word names late
        await world.request(tenant, f"late-{kind}", 900)
        await world.callback(tenant, kind=kind, amount=900, transaction_id=f"late-{kind}")
        await world.callback(
            tenant, kind="pending", amount=900, transaction_id=f"late-{kind}", request_id=f"late-{kind}"
        )
    await world.request(tenant, "cash", 1500, payees=three)
    cash = {"request_id": "cash", "transaction_id": "cash-1", "amount": 1500, "currency": ZONES[tenant][1],
            "method": "cash", "paid_at": "2026-03-01T20:30:00Z"}  # fmt: skip
    await world.call("payments", "POST", "/payments", tenant=tenant, role="finance", json=cash,
                     headers={"Idempotency-Key": "cash-1"})  # fmt: skip
    await world.request(tenant, "free", 700, payees=[])
    await world.callback(tenant, request_id="free", amount=700)


async def _payouts(world: World, tenant: str) -> None:
    async def ask(driver: str, **body: Any) -> str:
        key = f"{driver}-{len(body)}-{body.get('amount')}"
        answer = await world.call("payouts", "POST", "/payouts/request", tenant=tenant, role="driver", json=body,
                                  claims={"driver_id": driver}, headers={"Idempotency-Key": key})  # fmt: skip
        return answer["id"]

    async def decide(payout: str, status: str, **body: Any) -> None:
        await world.call("payouts", "PUT", f"/payouts/{payout}/status", tenant=tenant, role="finance",
                         json={"status": status, **body})  # fmt: skip

    first = await ask("d1", amount=777)  # splits an earning
    await decide(first, "approved")
    await decide(first, "disbursed", method="wallet", reference="B2C-1")
    second = await ask("d1", amount=100)
    await decide(second, "approved")
    await decide(second, "failed", reason="account closed")
    third = await ask("d2", amount=50)
    await decide(third, "rejected", reason="not yet")
    await decide(await ask("d2", amount=60), "approved")
    await ask("d3")


def decoded(text: str) -> Any:
    return msgspec.json.decode(text)
