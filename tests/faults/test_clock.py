"""Services whose clocks are five minutes off, or pass a month's end or a change of summer time: money keeps its day."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from deploy.databases import SERVICES
from shared.ids import new_id
from tests.alerts.conftest import MailServer, mail_server  # noqa: F401 - a fixture
from tests.conftest import until
from tests.faults.shifted_clock import Clocked, shifted
from tests.faults.sizes import LONG
from tests.payments.conftest import callback_body, new_request, sign

MIDNIGHTS = {
    "a month's end in Nairobi": ("Africa/Nairobi", "KES", date(2027, 2, 1)),
    "the eve of summer time in Chicago": ("America/Chicago", "USD", date(2027, 3, 14)),
    "the end of summer time's first day in Chicago": ("America/Chicago", "USD", date(2027, 3, 15)),
    "the eve of winter time in Chicago": ("America/Chicago", "USD", date(2026, 11, 1)),
    "the end of winter time's first day in Chicago": ("America/Chicago", "USD", date(2026, 11, 2)),
}
SHORT = ("a month's end in Nairobi", "the end of winter time's first day in Chicago")
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
Services = dict[str, Clocked]

pytestmark = pytest.mark.timeout(300)


# ruff: noqa: F811 - the fixture's name again, as pytest wants it


@pytest.fixture
def start(database: Any, issuer: Any, kafka: str, tmp_path: Any, mail_server: MailServer) -> Callable[..., Any]:
    """`start({"payments": offset})`: the services with their clocks so far ahead."""

    def made(offsets: dict[str, timedelta]) -> Any:
        return shifted(
            offsets, database=database, issuer=issuer, kafka=kafka, smtp_port=mail_server.port, folder=tmp_path
        )

    return made


class Books:
    """A tenant in a time zone, whose days are asked of the services."""

    def __init__(self, services: Services, zone: str, currency: str) -> None:
        self.services, self.zone, self.currency = services, ZoneInfo(zone), currency
        self.tenant = f"t-{new_id().hex}"
        self.watcher = f"{self.tenant}@example.com"

    async def open(self) -> None:
        body = {"tenant_id": self.tenant, "name": "T", "time_zone": self.zone.key, "currency": self.currency}
        await self.services["payments"].call("POST", "/tenants", "operator", tenant=None, json=body)

        async def known() -> bool:
            for name, path in (("payouts", "/balances"), ("reporting", "/reports/profits")):
                service = self.services[name]
                answer = await service.http.get(f"/api/v1{path}", headers=service.as_("finance", tenant=self.tenant))
                if answer.status_code != 200:
                    return False
            return True

        await until(known, within_s=60)
        await until(self._is_watched, within_s=60)

    async def _is_watched(self) -> bool:
        """Have every payment alerted, and mailed at once, as soon as alerts knows the tenant."""
        alerts, rule = self.services["alerts"], {"kind": "high_value", "thresholds": {self.currency: 1},
                                                 "recipients": [self.watcher], "cooldown_seconds": 0}  # fmt: skip
        headers = alerts.as_("admin", tenant=self.tenant)
        answer = await alerts.http.post("/api/v1/payments/alerts", json=rule, headers=headers)
        assert answer.status_code in {201, 403}, answer.text
        return answer.status_code == 201

    async def call(self, service: str, method: str, path: str, *roles: str, **more: Any) -> Any:
        return await self.services[service].call(method, path, *roles, tenant=self.tenant, **more)

    async def pay(self, amount: int, at: datetime, payee: str) -> str:
        """Money that came at that moment, which our own system tells; the payment's id."""
        request_id, when = str(new_id()), at.isoformat()
        request = new_request(
            id=request_id, amount=amount, currency=self.currency, occurred_at=when, payees=[{"payee_id": payee}]
        )
        await self.call("payments", "POST", "/requests", "system", json=request)
        body = {"request_id": request_id, "transaction_id": request_id, "amount": amount, "currency": self.currency,
                "method": "mobile", "paid_at": when}  # fmt: skip
        return (await self.call("payments", "POST", "/payments", "system", json=body))["id"]

    async def call_back(self, amount: int, at: datetime) -> None:
        """Money that came at that moment, which a gateway tells whose clock is the service's."""
        payments = self.services["payments"]
        account = await self.call("payments", "POST", "/gateway-accounts", "admin", json={"gateway": "standard"})
        body = callback_body(amount=amount, currency=self.currency, paid_at=at.isoformat())
        headers = sign(account["secret"], body, at=int(payments.now.timestamp()))
        answer = await payments.http.post(f"/api/v1/webhooks/standard/{account['id']}", content=body, headers=headers)
        assert answer.json() == {"result": "recorded"}

    async def pay_out(self, payee: str) -> datetime:
        """Ask, approve and disburse; when the service says that it was done."""

        async def available() -> bool:
            balance = await self.call("payouts", "GET", f"/payees/{payee}/balance", "finance")
            return balance["available"] > 0

        await until(available, within_s=60)
        claims = {"driver_id": payee}
        payout = await self.call("payouts", "POST", "/payouts/request", "driver", json={}, claims=claims)
        path = f"/payouts/{payout['id']}/status"
        await self.call("payouts", "PUT", path, "finance", json={"status": "approved"})
        done = {"status": "disbursed", "method": "cash"}
        payout = await self.call("payouts", "PUT", path, "finance", json=done)
        return datetime.fromisoformat(payout["disbursed_at"])

    async def day(self, day: date) -> tuple[int, int, int, int, int]:
        """One day's revenue and disbursed payouts in the profits, and the sums of three lists: payments, payouts, history."""
        range_ = {"date_from": day.isoformat(), "date_to": day.isoformat()}
        profits = await self.call("reporting", "GET", "/reports/profits", "finance", params=range_)
        listed = await self.call("payments", "GET", "/payments", "finance", params=range_)
        payouts = await self.call("payouts", "GET", "/payouts", "finance", params=range_)
        history = await self.call("reporting", "GET", "/reports/history", "finance", params=range_)
        lists = [sum(item["amount"] for item in a_list["items"]) for a_list in (listed, payouts, history)]
        return profits["revenue"], profits["payouts_disbursed"], lists[0], lists[1], lists[2]

    async def alerted(self) -> dict[str, datetime]:
        """When an alert was raised, by payment; each payment has one."""
        listed = (await self.call("alerts", "GET", "/alerts", "admin"))["items"]
        raised = {item["subject"]: datetime.fromisoformat(item["raised_at"]) for item in listed}
        assert len(raised) == len(listed)
        return raised

    async def reach_alerts(self, mail_server: MailServer, count: int) -> dict[str, datetime]:
        """Wait for so many alerts and for their mails, which must show the same minutes, in the tenant's zone."""

        async def mailed() -> list[str]:
            return sorted(
                line for _, text in mail_server.to(self.watcher) for line in text.splitlines() if "payment " in line
            )

        async def all_alerted() -> bool:
            return len(await self.alerted()) == len(await mailed()) == count

        await until(all_alerted, within_s=60)
        raised = await self.alerted()
        shown = {line.rpartition(" ")[2]: line[:16] for line in await mailed()}
        assert shown == {payment: f"{at.astimezone(self.zone):%Y-%m-%d %H:%M}" for payment, at in raised.items()}
        return raised

    async def months(self) -> dict[str, int]:
        """Revenue by month."""
        report = await self.call("reporting", "GET", "/reports/revenue", "finance", params={"group_by": "month"})
        return {period["date"]: period["revenue"] for period in report["periods"]}

    async def reach(self, ask: Callable[[], Awaitable[Any]], expected: Any) -> None:
        """Wait until the answer is there; fail with what is there instead."""
        found = None

        async def same() -> bool:
            nonlocal found
            found = await ask()
            return found == expected

        try:
            await until(same, within_s=30)
        except TimeoutError:
            assert found == expected


@pytest.mark.timeout(600)
async def test_money_falls_into_its_day_when_the_clock_passes_midnight(start, mail_server):
    """The same services pass one midnight after the other, each of them with a tenant of its own."""
    days = sorted((MIDNIGHTS[name] for name in (MIDNIGHTS if LONG else SHORT)), key=lambda each: each[2])
    zone, _, day = days[0]
    async with start(dict.fromkeys(SERVICES, _eve(zone, day) - datetime.now(UTC))) as services:
        for zone, currency, day in days:
            for service in services.values():
                service.set_offset(_eve(zone, day) - datetime.now(UTC))
            for service in services.values():
                await service.until_it_shows(_eve(zone, day))
            await _pass_midnight(Books(services, zone, currency), mail_server, day)


def _midnight(zone: str, day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), ZoneInfo(zone)).astimezone(UTC)


def _eve(zone: str, day: date) -> datetime:
    return _midnight(zone, day) - 120 * SECOND


async def _pass_midnight(books: Books, mail_server: MailServer, day: date) -> None:
    midnight = _midnight(books.zone.key, day)
    await books.open()
    # Told before midnight, also what the payer's clock has on the other side of it.
    await books.pay(1_000, midnight - 3_600 * SECOND, "early")
    await books.pay(2_000, midnight - timedelta(microseconds=1), "d1")
    await books.pay(4_000, midnight, "late")
    assert await books.pay_out("early") < midnight
    told_before = await books.reach_alerts(mail_server, 3)

    for service in books.services.values():
        service.set_offset(midnight - datetime.now(UTC) - 2 * SECOND)
    for service in books.services.values():
        await service.until_it_shows(midnight)
    # Told after midnight, also what belongs before it.
    await books.pay(8_000, midnight + SECOND, "d1")
    await books.pay(16_000, midnight - SECOND, "d1")
    await books.call_back(32_000, midnight + 5 * SECOND)
    assert await books.pay_out("late") >= midnight

    alerted = await books.reach_alerts(mail_server, 6)
    days = [alerted[payment].astimezone(books.zone).date() for payment in sorted(alerted, key=alerted.get)]
    assert days == [day - DAY] * 3 + [day] * 3
    assert alerted.items() >= told_before.items()

    before, after = 1_000 + 2_000 + 16_000, 4_000 + 8_000 + 32_000
    await books.reach(lambda: books.day(day - DAY), (before, 900, before, 900, before + 900))
    await books.reach(lambda: books.day(day), (after, 3_600, after, 3_600, after + 3_600))
    months = {(day - DAY).replace(day=1).isoformat(): before}
    months[day.replace(day=1).isoformat()] = months.get(day.replace(day=1).isoformat(), 0) + after
    await books.reach(books.months, months)


@pytest.mark.parametrize("minutes", [5, -5] if LONG else [-5])
async def test_money_falls_into_its_day_when_clocks_are_five_minutes_off(start, mail_server, minutes):
    """Payments and reporting off one way, payouts and alerts the other way."""
    off = timedelta(minutes=minutes)
    async with start({"payments": off, "payouts": -off, "reporting": off, "alerts": -off}) as services:
        books = Books(services, "Africa/Nairobi", "KES")
        await books.open()
        today = datetime.now(books.zone).date()
        midnight = datetime.combine(today, datetime.min.time(), books.zone)
        for number, at in enumerate((midnight - SECOND, midnight, midnight - 299 * SECOND, midnight + 299 * SECOND)):
            await books.pay(1_000 * 2**number, at, f"d{number}")
        await books.call_back(16_000, midnight)
        disbursed = await books.pay_out("d0")
        assert abs(disbursed - datetime.now(UTC) + off) < timedelta(minutes=1)
        for raised in (await books.reach_alerts(mail_server, 5)).values():
            assert abs(raised - datetime.now(UTC) + off) < timedelta(minutes=1)
        await books.reach(lambda: _paid(books, today - DAY), 1_000 + 4_000)
        await books.reach(lambda: _paid(books, today), 2_000 + 8_000 + 16_000)


async def _paid(books: Books, day: date) -> int:
    revenue, _, paid, _, _ = await books.day(day)
    return revenue if revenue == paid else -1
