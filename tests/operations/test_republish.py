"""`takings republish` sends the event log again: all that was published, in its order, and nothing else."""

import asyncio
import json
import secrets
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from deploy.errors import StackError
from deploy.operations import republish_events
from deploy.operations.republish_events import Position, event_log, republish
from shared import outbox
from shared.db import Database
from shared.events.tenants import TenantConfigured
from shared.writes import write
from tests.conftest import connected
from tests.operations.access import access_environment
from tests.shared.topics import read_all

MONDAY = datetime(2026, 3, 2, 8, tzinfo=UTC)
DAY = timedelta(days=1)


class Log:
    """The outbox of a payments service, with events of two tenants of this test's own."""

    def __init__(self, urls):
        self.urls, self.db = urls, Database(urls.app, "test")
        self.tenants = sorted(f"t-{secrets.token_hex(6)}" for _ in range(2))

    async def add(self, count, *, tenant, at=MONDAY, published=True):
        async with self.db.transaction(tenant) as conn:
            version = await conn.fetchval("SELECT count(*) FROM outbox")
            events = [
                TenantConfigured(name=tenant, time_zone="UTC", currency="KES", version=version + n)
                for n in range(count)
            ]
            await write(conn, outbox.add("payments", [outbox.Outgoing(tenant, tenant, e) for e in events], now=at))
        if published:
            await self.mark()

    async def mark(self):
        async with connected(self.urls.system) as conn:
            await conn.execute("UPDATE outbox SET published_at = $1 WHERE published_at IS NULL", MONDAY)

    async def sent(self, kafka):
        """The versions that stand in the topic, by tenant, in their order."""
        found = {tenant: [] for tenant in self.tenants}
        for record in await read_all(kafka, "tenants"):
            event = json.loads(record.value)
            if event["tenantid"] in found:
                assert record.key == event["tenantid"].encode()
                found[event["tenantid"]].append(event["data"]["version"])
        return list(found.values())


@pytest.fixture
async def log(database, kafka, monkeypatch):
    made = Log(await database("payments"))
    for name, value in access_environment(kafka, payments=made.urls).items():
        monkeypatch.setenv(name, value)
    yield made
    await made.db.close()


async def test_the_whole_log_is_sent_in_its_order(log, kafka, monkeypatch):
    monkeypatch.setattr(republish_events, "BATCH_LIMIT", 4)
    monkeypatch.setattr(republish_events, "SAY_EVERY", 2)
    first, second = log.tenants
    await log.add(5, tenant=second)
    await log.add(6, tenant=first)
    await log.add(4, tenant=second)
    said = []
    assert await republish("payments", say=said.append) == 15
    assert await log.sent(kafka) == [list(range(6)), list(range(9))]
    assert said[-1] == "payments: 15 events sent again to payments, tenants"
    assert len(said) == 3  # after 2 and 4 of the 5 batches


async def test_what_the_relay_has_still_to_send_is_left_to_it(log, kafka):
    first, _ = log.tenants
    await log.add(2, tenant=first)
    await log.add(3, tenant=first, published=False)
    assert await republish("payments", say=print) == 2
    assert await log.sent(kafka) == [[0, 1], []]


async def test_since_leaves_out_what_is_older(log, kafka):
    first, second = log.tenants
    await log.add(2, tenant=first, at=MONDAY - DAY)
    await log.add(2, tenant=first)
    await log.add(1, tenant=second, at=MONDAY + DAY)
    assert await republish("payments", since=MONDAY, say=print) == 3
    assert await log.sent(kafka) == [[2, 3], [0]]


ROWS_READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'outbox'"


async def test_since_does_not_read_what_is_older(log):
    first, second = log.tenants
    await log.add(3_000, tenant=first, at=MONDAY - DAY)
    await log.add(1_000, tenant=second, at=MONDAY - DAY)
    await log.add(5, tenant=first, at=MONDAY + timedelta(minutes=5))
    await log.add(3, tenant=second, at=MONDAY - timedelta(minutes=5))  # a clock that is behind
    await log.add(2, tenant=second)
    async with connected(log.urls.superuser) as conn, conn.transaction():
        found = [len(messages) async for _, messages in event_log(conn, since=MONDAY, after=None)]
        assert found == [5, 2]
        assert await conn.fetchval(ROWS_READ) < 100
        assert [_ async for _ in event_log(conn, since=MONDAY + DAY, after=None)] == []
        after = Position(first, await conn.fetchval("SELECT max(id) - 2 FROM outbox WHERE tenant_id = $1", first))
        found = [len(messages) async for _, messages in event_log(conn, since=MONDAY, after=after)]
        assert found == [2, 2]


async def test_events_written_meanwhile_are_not_chased(log, monkeypatch):
    monkeypatch.setattr(republish_events, "BATCH_LIMIT", 1)
    first, _ = log.tenants
    await log.add(3, tenant=first)
    conn = await asyncpg.connect(log.urls.system)
    sent = 0
    async with asyncio.timeout(20):
        async for _, messages in event_log(conn, since=None, after=None):
            sent += len(messages)
            await log.add(1, tenant=first)
    await conn.close()
    assert sent == 3


async def test_a_failed_run_says_where_to_go_on_and_goes_on_there(log, kafka, monkeypatch):
    monkeypatch.setattr(republish_events, "BATCH_LIMIT", 2)
    monkeypatch.setattr(republish_events, "PAUSE_S", 0.0)
    first, second = log.tenants
    await log.add(3, tenant=first)
    await log.add(3, tenant=second)
    send_all, calls = republish_events.Publisher.send_all, []

    async def down_after_two(self, messages):
        calls.append(messages)
        return len(calls) <= 2 and await send_all(self, messages)

    with monkeypatch.context() as patched:
        patched.setattr(republish_events.Publisher, "send_all", down_after_two)
        with pytest.raises(StackError, match="3 were sent") as failure:
            await republish("payments", since=MONDAY, say=print)
    assert len(calls) == 2 + republish_events.ATTEMPTS
    place = Position.parse(str(failure.value).rpartition(" ")[2])
    assert place.tenant_id == first
    command = f"takings republish payments --since 2026-03-02T08:00:00+00:00 --after {place}"
    assert str(failure.value).endswith(f"Go on with: {command}")
    assert await republish("payments", since=MONDAY, after=place, say=print) == 3
    assert await log.sent(kafka) == [[0, 1, 2], [0, 1, 2]]


async def test_a_broker_that_is_down_is_an_error_and_not_a_loss(log, monkeypatch):
    monkeypatch.setattr(republish_events, "PAUSE_S", 0.0)
    monkeypatch.setattr(republish_events, "ATTEMPTS", 2)
    monkeypatch.setenv("TAKINGS_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    await log.add(1, tenant=log.tenants[0])
    with pytest.raises(StackError, match=r"0 were sent\. Go on with: takings republish payments$"):
        await republish("payments", say=print)


async def test_what_is_no_log_is_refused(log):
    with pytest.raises(StackError, match="reporting publishes nothing"):
        await republish("reporting", say=print)
    with pytest.raises(StackError, match="no events of a tenant"):
        await republish("payments", after=Position("nobody", 1), say=print)
    with pytest.raises(StackError, match="no place in an event log"):
        Position.parse("t1")
