"""A payouts service with a tenant, fed with events as its consumer feeds it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.payouts.accrue_earnings import accrue_earnings
from shared.events import Received
from shared.events.payments import PaymentCompleted, PaymentMatched, Share
from shared.events.tenants import TenantConfigured
from shared.tenants import TenantCopy
from tests.conftest import Running, connected

PAID_AT = datetime(2026, 3, 1, 8, tzinfo=UTC)
NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)


def received(event: Any, *, tenant: str = "t1", subject: str = "") -> Received:
    return Received(uuid4(), event.TYPE, subject, NOW, tenant, event, None)


def paid(amount: int = 1000, *, matched: bool = False, **fields: Any) -> Received:
    """A completed (or matched) payment of `amount`, all of it applied, of the payee d1."""
    known = {
        "payment_id": str(uuid4()),
        "account_id": "a",
        "transaction_id": str(uuid4()),
        "request_id": str(uuid4()),
        "amount": amount,
        "applied": amount,
        "currency": "KES",
        "method": "mobile",
        "paid_at": PAID_AT,
        "fleet_id": "f1",
        "payees": (Share("d1", 10_000),),
        "fee": 0,
        **fields,
    }
    return received((PaymentMatched if matched else PaymentCompleted)(**known))


@dataclass(frozen=True)
class Payouts:
    """The service and its tenant `t1`."""

    running: Running

    @property
    def http(self) -> httpx.AsyncClient:
        return self.running.http

    @property
    def finance(self) -> dict[str, str]:
        return self.running.as_("finance")

    def driver(self, driver_id: str = "d1") -> dict[str, str]:
        return self.running.as_("driver", driver_id=driver_id)

    async def accrue(self, *events: Received, now: datetime = NOW) -> None:
        tenants = {event.tenant_id for event in events}
        await self.running.service.db.run(lambda conn: accrue_earnings(conn, events, now=now), *tenants)

    async def balance(self, payee: str = "d1") -> dict[str, Any]:
        answer = await self.http.get(f"/api/v1/payees/{payee}/balance", headers=self.finance)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def request(self, driver: str = "d1", **body: Any) -> httpx.Response:
        return await self.http.post("/api/v1/payouts/request", json=body, headers=self.driver(driver))

    async def decide(self, payout_id: str, status: str, **fields: Any) -> httpx.Response:
        body = {"status": status, **fields}
        return await self.http.put(f"/api/v1/payouts/{payout_id}/status", json=body, headers=self.finance)

    async def fetch(self, sql: str) -> list[Any]:
        async with connected(self.running.urls.app, "t1") as conn:
            return await conn.fetch(sql)

    async def check_books(self) -> None:
        """What must always hold: journals balance, wallets are the sums of their entries and of their free earnings."""
        assert (
            await self.fetch("SELECT journal_id FROM entries GROUP BY journal_id, currency HAVING sum(amount) <> 0")
            == []
        )
        assert (
            await self.fetch("""
            SELECT w.payee_id FROM wallets w
            WHERE w.balance <> (SELECT coalesce(sum(amount), 0) FROM entries e
                                WHERE (e.payee_id, e.currency, e.account) = (w.payee_id, w.currency, 'wallet'))
               OR w.locked <> (SELECT coalesce(sum(amount), 0) FROM entries e
                               WHERE (e.payee_id, e.currency, e.account) = (w.payee_id, w.currency, 'locked'))
               OR w.paid <> (SELECT coalesce(sum(amount), 0) FROM entries e
                             WHERE (e.payee_id, e.currency, e.account) = (w.payee_id, w.currency, 'disbursed'))
               OR w.balance <> (SELECT coalesce(sum(payable), 0) FROM earnings e
                                WHERE (e.payee_id, e.currency) = (w.payee_id, w.currency) AND payout_id IS NULL)
               OR w.earned - w.cash_held <> w.balance + w.locked + w.paid
        """)
            == []
        )
        assert (
            await self.fetch("""
            SELECT payout_id FROM payouts p WHERE status IN ('requested', 'approved', 'disbursed')
            AND amount <> (SELECT sum(payable) FROM earnings e WHERE e.payout_id = p.payout_id)
        """)
            == []
        )


async def new_payouts(run: Any) -> Payouts:
    """A service of its own, with its tenant."""
    running = await run("payouts")
    configured = TenantConfigured(name="t1", time_zone="Africa/Nairobi", currency="KES", version=1)
    await TenantCopy(running.service.db, wait_s=0).keep([received(configured)])
    return Payouts(running)


@pytest.fixture
async def payouts(run: Any) -> Payouts:
    return await new_payouts(run)
