"""Events in any order, any number of times, and many at once: every consumer ends in the same state.

The events are those that payments and payouts themselves write. Each round is a tenant of its own, so that all rounds
can be compared: what is hashed is every column of every table but tenants, clocks and random ids.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import pytest

from services.alerts.raise_alerts import raise_alerts
from services.alerts.worker import EVENTS as ALERTS_EVENTS
from services.payouts.accrue_earnings import accrue_earnings
from services.payouts.worker import EVENTS as PAYOUTS_EVENTS
from services.reporting.project_events import project_events
from services.reporting.worker import EVENTS as REPORTING_EVENTS
from shared.db import Database, is_transient
from shared.events import Decoder, Received
from shared.events.catalogue import ALL_EVENTS
from tests.conftest import connected
from tests.faults.seeds import seeded
from tests.faults.sizes import size
from tests.payments.conftest import Payments, new_payments
from tests.payouts.conftest import Payouts, new_payouts
from tests.shared.topics import NOW

SHUFFLES = size(short=10, long=200)
AT_ONCE = 16
MOST_TIMES = 5
OUTBOX = "SELECT key, event::text AS event FROM outbox ORDER BY id"
ADD_TENANT = "INSERT INTO tenants VALUES ($1, 'T', 'Africa/Nairobi', 'KES', 1, now())"
ADD_RULE = """
INSERT INTO alert_rules (tenant_id, rule_id, kind, thresholds, recipients, cooldown_seconds, enabled, created_at, updated_at)
VALUES ($1, gen_random_uuid(), $2, $3, '{a@example.com,b@example.com}', 0, true, now(), now())
"""
RULES = (("payment_failed", "{}"), ("high_value", '{"KES": 1500}'), ("payout_failed", "{}"))
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
# Columns that are a clock's, random, or name the round; an entry's journal is named by what it is about instead.
NOT_CONTENT = {
    "payouts": ["tenant_id", "earning_id", "journal_id", "accrued_at", "posted_at"],
    "reporting": ["tenant_id"],
    "alerts": ["tenant_id", "alert_id", "rule_id", "raised_at", "created_at", "updated_at", "waiting_since",
               "not_before", "claimed_at"],
}  # fmt: skip
WITHOUT_CONTENT = {"alembic_version", "tenants", "alert_rules"}
ROWS = "SELECT (to_jsonb(t) - $2::text[])::text AS row FROM {table} AS t WHERE tenant_id = $1 ORDER BY 1"
ENTRIES = """
SELECT (to_jsonb(e) - $2::text[] || jsonb_build_object('kind', j.kind, 'source', j.source_id))::text AS row
FROM entries AS e JOIN journals AS j USING (tenant_id, journal_id) WHERE tenant_id = $1 ORDER BY 1
"""
OUTGOING = """
SELECT jsonb_build_array(topic, key, event ->> 'type', (event -> 'data')::jsonb - $2::text[])::text AS row
FROM outbox WHERE tenant_id = $1 ORDER BY 1
"""


class Consumer:
    """One service's way of applying events, and all that it makes of them."""

    def __init__(self, name: str, url: str, kinds: Sequence[Any], apply: Callable[..., Awaitable[Any]]) -> None:
        self.name = name
        self.db = Database(url, "test")
        self.types = {kind.TYPE for kind in kinds}
        self._apply = apply

    async def prepare(self, tenant: str) -> None:
        async with self.db.transaction(tenant) as conn:
            await conn.execute(ADD_TENANT, tenant)
            if self.name == "alerts":
                for kind, thresholds in RULES:
                    await conn.execute(ADD_RULE, tenant, kind, thresholds)

    async def apply(self, tenant: str, events: Sequence[Received]) -> None:
        """As the worker does it: in one transaction, again when a race was lost."""
        wanted = [replace_tenant(event, tenant) for event in events if event.type in self.types]
        while wanted:
            try:
                await self.db.run(lambda conn: self._apply(conn, wanted), tenant)
            except Exception as error:
                if not is_transient(error):
                    raise
            else:
                return

    async def content(self, tenant: str) -> dict[str, list[str]]:
        """The rows of every table, as texts."""
        async with self.db.transaction(tenant) as conn:
            tables = {row["relname"] for row in await conn.fetch(TABLES)} - WITHOUT_CONTENT
            found = {}
            for table in sorted(tables):
                query = {"entries": ENTRIES, "outbox": OUTGOING}.get(table, ROWS.format(table=table))
                found[table] = [row["row"] for row in await conn.fetch(query, tenant, NOT_CONTENT[self.name])]
        return found


def replace_tenant(event: Received, tenant: str) -> Received:
    return Received(event.id, event.type, event.subject, event.time, tenant, event.data, event.traceparent)


@pytest.fixture
async def consumers(database):
    urls = {name: (await database(name)).app for name in ("payouts", "reporting", "alerts")}
    made = [
        Consumer("payouts", urls["payouts"], PAYOUTS_EVENTS, lambda conn, e: accrue_earnings(conn, e, now=NOW)),
        Consumer("reporting", urls["reporting"], REPORTING_EVENTS, project_events),
        Consumer("alerts", urls["alerts"], ALERTS_EVENTS, lambda conn, e: raise_alerts(conn, e, now=NOW)),
    ]
    yield made
    for consumer in made:
        await consumer.db.close()


async def events_of_payments(payments: Payments) -> None:
    """Payments that fail and succeed, come early, late, in part and too large, in cash, for several payees."""
    for n in range(8):
        payees = [{"payee_id": f"d{i}"} for i in range(n % 4)]
        request = {"id": f"trip-{n}", "amount": 1000 + n, "fleet_id": f"f{n % 3}", "payees": payees}
        transaction = {"transaction_id": f"x{n}", "request_id": f"trip-{n}", "amount": 1000 + n}
        if n % 2:
            await payments.request(**request)
        for kind in ("pending", "failed", "completed"):
            assert (await payments.callback(kind=kind, **transaction)).status_code == 200
        if not n % 2:
            await payments.request(**request)  # the money was there first
        second = {**transaction, "transaction_id": f"y{n}", "amount": 2000 + n, "fee": 3}
        assert (await payments.callback(**second)).status_code == 200  # overpaid
        assert (await payments.callback(kind="failed", transaction_id=f"z{n}")).status_code == 200
        await payments.request(id=f"cash-{n}", payees=[{"payee_id": "d1"}])
        cash = {"request_id": f"cash-{n}", "transaction_id": f"cash-{n}", "amount": 500, "currency": "KES",
                "method": "cash", "paid_at": "2026-03-31T22:30:00Z", "partial": True}  # fmt: skip
        assert (await payments.http.post("/api/v1/payments", json=cash, headers=payments.system)).status_code == 201


async def events_of_payouts(payouts: Payouts, events: Sequence[Received]) -> None:
    """Payouts that are rejected, fail, are disbursed, wait."""
    await payouts.accrue(*events)
    for ways in (("rejected",), ("approved", "failed"), ("approved", "disbursed"), ()):
        for driver in ("d0", "d1", "d2"):
            answer = await payouts.request(driver)
            if answer.status_code == 201:
                for way in ways:
                    fields = {"reason": "x"} if way in {"rejected", "failed"} else {}
                    fields |= {"method": "cash"} if way == "disbursed" else {}
                    assert (await payouts.decide(answer.json()["id"], way, **fields)).status_code == 200


async def written(running: Any) -> list[Received]:
    """What stands in a service's outbox."""
    decoder = Decoder(ALL_EVENTS)
    async with connected(running.urls.app, "t1") as conn:
        return [decoder.decode(row["key"].encode(), row["event"].encode()) for row in await conn.fetch(OUTBOX)]


@pytest.fixture
async def events(run: Any) -> list[Received]:
    """The whole set, in the order in which it was written."""
    payments, payouts = await new_payments(run), await new_payouts(run)
    await events_of_payments(payments)
    paid = [event for event in await written(payments.running) if event.type != "tenant-configured"]
    read_by_payouts = {kind.TYPE for kind in PAYOUTS_EVENTS}
    await events_of_payouts(payouts, [event for event in paid if event.type in read_by_payouts])
    events = [*paid, *(await written(payouts.running))]
    assert {event.type for event in events} == {kind.TYPE for kind in ALL_EVENTS} - {"tenant-configured"}
    return events


def batches(events: Sequence[Received], chance: Random) -> list[Sequence[Received]]:
    cut, rest = [], list(events)
    while rest:
        count = chance.randrange(1, 60)
        cut.append(rest[:count])
        rest = rest[count:]
    return cut


def shuffled(events: Sequence[Received], chance: Random) -> list[Sequence[Received]]:
    """Every event one to five times, in any order, in batches of any size."""
    times = [event for event in events for _ in range(chance.randrange(1, MOST_TIMES + 1))]
    chance.shuffle(times)
    return batches(times, chance)


def digest(content: dict[str, list[str]]) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()


async def feed(consumer: Consumer, tenant: str, parts: Sequence[Sequence[Received]]) -> None:
    for part in parts:
        await consumer.apply(tenant, part)


async def in_order(consumer: Consumer, events: Sequence[Received]) -> dict[str, list[str]]:
    """What must come out: each event once, in the order written."""
    await consumer.prepare("in-order")
    await feed(consumer, "in-order", [events])
    content = await consumer.content("in-order")
    assert sum(map(len, content.values())) > 50
    return content


@pytest.mark.timeout(size(short=180, long=1_800))
async def test_shuffles_with_repeats_end_in_the_same_state(consumers, events):
    chance = seeded("shuffles")
    for consumer in consumers:
        expected = await in_order(consumer, events)
        for number in range(SHUFFLES):
            tenant = f"shuffle-{number}"
            await consumer.prepare(tenant)
            await feed(consumer, tenant, shuffled(events, chance))
            content = await consumer.content(tenant)
            if digest(content) != digest(expected):
                assert content == expected, (consumer.name, number)


@pytest.mark.timeout(size(short=180, long=1_800))
async def test_sixteen_at_once_end_in_the_same_state(consumers, events):
    chance = seeded("at once")
    for consumer in consumers:
        expected = await in_order(consumer, events)
        for number in range(size(short=1, long=20)):
            tenant = f"at-once-{number}"
            await consumer.prepare(tenant)
            orders = [batches(chance.sample(events, len(events)), chance) for _ in range(AT_ONCE)]
            await asyncio.gather(*(feed(consumer, tenant, parts) for parts in orders))
            assert await consumer.content(tenant) == expected, (consumer.name, number)
