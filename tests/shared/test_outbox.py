"""No event without its effect, no effect without its event: the outbox and its relay on real PostgreSQL and Kafka."""

import asyncio
import time
from collections import defaultdict
from contextlib import asynccontextmanager

import asyncpg
import pytest

from shared import outbox, publisher
from shared.db import Database
from shared.outbox import Outgoing, Relay
from shared.publisher import Publisher
from shared.writes import write
from tests.conftest import end, until
from tests.shared.topics import NOW, Door, data_of, exists, new_topic, ping_of, read, read_all

PUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NOT NULL"
WAITING = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
HOLDER = """
SELECT l.pid FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()
"""


class Box:
    """A database with an outbox, and a topic of its own."""

    def __init__(self, urls, bootstrap, watcher):
        self.urls, self.bootstrap, self.watcher = urls, bootstrap, watcher
        self.topic = new_topic()
        self.ping = ping_of(self.topic)
        self.db = Database(urls.app, "test")

    def outgoing(self, n, *, key="k", tenant="t1"):
        return Outgoing(tenant, key, self.ping(n=n))

    async def add(self, *outgoing):
        tenants = {o.tenant_id for o in outgoing}
        await self.db.run(lambda conn: write(conn, outbox.add("tests", outgoing, now=NOW)), *tenants)

    async def count(self, sql):
        return await self.watcher.fetchval(sql)

    async def wait_until_published(self, count):
        async def all_marked():
            return await self.count(PUBLISHED) >= count

        await until(all_marked)

    @asynccontextmanager
    async def relay(self, bootstrap=None):
        """A running relay; at the end it is gone without a farewell to the database."""
        publisher = Publisher(bootstrap or self.bootstrap, [self.topic])
        task = asyncio.create_task(Relay(self.urls.system, publisher, asyncio.Event()).run())
        try:
            yield task
        finally:
            await end(task)
            await publisher.close()


@pytest.fixture
async def box(database, kafka):
    urls = await database("payouts")
    watcher = await asyncpg.connect(urls.superuser)
    made = Box(urls, kafka, watcher)
    yield made
    await made.db.close()
    await watcher.close()


async def test_a_row_comes_and_goes_with_its_transaction(box):
    with pytest.raises(RuntimeError):  # noqa: PT012
        async with box.db.transaction("t1") as conn:
            await write(conn, outbox.add("tests", [box.outgoing(1)], now=NOW))
            assert await conn.fetchval("SELECT count(*) FROM outbox") == 1
            raise RuntimeError("the effect failed")
    assert await box.count(WAITING) == 0
    await box.add(box.outgoing(1), box.outgoing(2))
    assert await box.count(WAITING) == 2


async def test_the_relay_publishes_in_order_per_key_and_keeps_the_rows(box, monkeypatch):
    monkeypatch.setattr(publisher, "BATCH_BYTES", 4_096)  # many batches of the broker for one of the relay
    keys = [f"k{number}" for number in range(7)]
    async with box.relay():
        for start in range(0, 2_100, 700):  # more than one batch of the relay
            await box.add(*(box.outgoing(n, key=keys[n % 7], tenant=f"t{n % 2}") for n in range(start, start + 700)))
        await box.wait_until_published(2_100)
    records = await read_all(box.bootstrap, box.topic)
    by_key = defaultdict(list)
    for record in records:
        by_key[record.key.decode()].append(data_of(record)["n"])
    assert by_key == {key: list(range(i, 2_100, 7)) for i, key in enumerate(keys)}
    assert (await box.count(WAITING), await box.count(PUBLISHED)) == (0, 2_100)


async def test_topics_are_made_before_there_is_an_event(box):
    async with box.relay():
        await until(lambda: exists(box.bootstrap, box.topic))


async def test_a_row_that_commits_after_a_later_id_was_published_is_not_skipped(box):
    async with box.relay():
        async with box.db.transaction("t1") as slow:
            await write(slow, outbox.add("tests", [box.outgoing(1, key="slow")], now=NOW))
            await box.add(box.outgoing(2, key="fast"))
            await box.wait_until_published(1)
            assert [data_of(r)["n"] for r in await read_all(box.bootstrap, box.topic)] == [2]
        await box.wait_until_published(2)
    ids = dict(await box.watcher.fetch("SELECT key, id FROM outbox"))
    assert ids["slow"] < ids["fast"]
    assert [data_of(r)["n"] for r in await read_all(box.bootstrap, box.topic)].count(1) == 1


async def test_an_event_whose_transaction_is_slow_comes_before_the_next_of_its_key(box, monkeypatch):
    """However many others are published meanwhile."""
    monkeypatch.setattr(outbox, "LOOK_AT_ALL_EVERY_S", 600)
    async with box.relay():
        async with box.db.transaction("t1") as slow:
            await write(slow, outbox.add("tests", [box.outgoing(1, key="slow")], now=NOW))
            for start in range(0, 3_000, 1_000):
                await box.add(*(box.outgoing(n, key=f"k{n}") for n in range(start, start + 1_000)))
                await box.wait_until_published(start + 1_000)
        await box.add(box.outgoing(2, key="slow"))
        await box.wait_until_published(3_002)
    records = await read_all(box.bootstrap, box.topic)
    assert [data_of(record)["n"] for record in records if record.key == b"slow"] == [1, 2]


async def test_what_is_committed_just_after_a_look_is_found_by_the_next(box, monkeypatch):
    """Its transaction has ended when the relay asks who is running, yet the look before did not see it."""
    monkeypatch.setattr(outbox, "LOOK_AT_ALL_EVERY_S", 600)
    mark, commits, committed = Relay._mark, asyncio.Event(), asyncio.Event()
    later = []

    async def mark_later(relay, conn, rows):
        if later:
            commits.set()
            await committed.wait()
        await mark(relay, conn, rows)

    async def slow():
        async with box.db.transaction("t1") as conn:
            await write(conn, outbox.add("tests", [box.outgoing(1, key="slow")], now=NOW))
            later.append("from now on")
            await commits.wait()
        committed.set()

    monkeypatch.setattr(Relay, "_mark", mark_later)
    async with box.relay():
        await box.add(box.outgoing(0))
        await box.wait_until_published(1)
        adding = asyncio.create_task(slow())
        await until(lambda: asyncio.sleep(0, later))
        await box.add(box.outgoing(2))
        await adding
        await box.wait_until_published(3)


async def test_what_is_settled_is_not_looked_at_again(box, monkeypatch):
    looks = []
    monkeypatch.setattr(outbox, "LOOK_AT_ALL_EVERY_S", 600)
    look_from = Relay._look_from
    monkeypatch.setattr(Relay, "_look_from", lambda relay: looks.append(look_from(relay)) or looks[-1])
    async with box.relay():
        for start in range(0, 300, 3):
            await box.add(*(box.outgoing(n, key=f"k{n}") for n in range(start, start + 3)))
            await box.wait_until_published(start + 3)
    assert looks[-1] > await box.count("SELECT max(id) FROM outbox") - 10


async def test_one_of_two_relays_publishes_and_the_other_takes_over_when_it_dies(box):
    async def holder():
        return await box.count(HOLDER)

    async with box.relay() as first:
        pid = await until(holder)
        async with box.relay():
            for n in range(300):
                await box.add(box.outgoing(n, key=f"k{n % 5}"))
            await box.wait_until_published(300)
            assert len(await read_all(box.bootstrap, box.topic)) == 300  # two at work would have sent some twice
            assert await holder() == pid

            adding = asyncio.create_task(_add_steadily(box, range(300, 600)))
            await asyncio.sleep(0.1)
            await box.count(f"SELECT pg_terminate_backend({pid})")
            first.cancel()
            died_at = time.monotonic()

            async def successor():
                held_by = await holder()
                return held_by and held_by != pid

            await until(successor)
            assert time.monotonic() - died_at < 5
            await adding
            await box.wait_until_published(600)
    assert await box.count(WAITING) == 0
    records = await read_all(box.bootstrap, box.topic)
    by_key = defaultdict(list)
    for record in records:
        by_key[record.key.decode()].append(data_of(record)["n"])
    for i in range(5):
        first_seen = list(dict.fromkeys(by_key[f"k{i}"]))
        assert first_seen == list(range(i, 600, 5))  # nothing lost; whoever drops repetitions sees the order
    repeated = {r.value for r in records if [x.value for x in records].count(r.value) > 1}
    assert len(repeated) <= len(records) - 600  # at least once: only what was under way at the death


async def _add_steadily(box, numbers):
    for n in numbers:
        await box.add(box.outgoing(n, key=f"k{n % 5}"))


async def test_a_relay_whose_connection_is_cut_comes_back_by_itself(box):
    async with box.relay():
        await box.add(box.outgoing(1))
        await box.wait_until_published(1)
        await box.watcher.execute(f"SELECT pg_terminate_backend(pid) FROM ({HOLDER}) AS holder")  # noqa: S608
        await box.add(box.outgoing(2))
        await box.wait_until_published(2)
    assert {data_of(r)["n"] for r in await read_all(box.bootstrap, box.topic)} == {1, 2}


async def test_an_error_inside_the_driver_does_not_end_the_relay(box, monkeypatch):
    """What asyncpg says when its connection is cut while it is changing from one state to another."""
    connect, errors = asyncpg.connect, [asyncpg.InternalClientError("cannot switch to state 15")]

    async def connect_at_last(*arguments, **options):
        if errors:
            raise errors.pop()
        return await connect(*arguments, **options)

    monkeypatch.setattr(outbox.asyncpg, "connect", connect_at_last)
    async with box.relay():
        await box.add(box.outgoing(1))
        await box.wait_until_published(1)
    assert errors == []


async def test_a_broker_that_is_down_at_the_start_delays_events_only(box):
    door = Door(box.bootstrap)
    async with box.relay(door.address):
        for n in range(20):
            await box.add(box.outgoing(n))

        async def has_been_refused():
            return await box.count(HOLDER)

        await until(has_been_refused)
        await asyncio.sleep(1)  # time for the relay to try in vain; what counts is checked after it
        assert (await box.count(WAITING), await box.count(PUBLISHED)) == (20, 0)
        await door.open()
        await box.wait_until_published(20)
        assert [data_of(r)["n"] for r in await read(box.bootstrap, box.topic, 20)] == list(range(20))
    await door.close()


async def test_the_backlog_is_measured_across_tenants(box):
    from datetime import timedelta

    from shared import telemetry

    await box.add(box.outgoing(1), box.outgoing(2, tenant="t2"))
    system = Database(box.urls.system, "test")
    await outbox.measure_backlog(system, now=NOW + timedelta(seconds=90))
    await system.close()
    assert telemetry.OUTBOX_BACKLOG._value.get() == 2
    assert telemetry.OUTBOX_AGE._value.get() == 90
