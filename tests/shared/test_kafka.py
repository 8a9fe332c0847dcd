"""The one consumer policy on a real broker: nothing is lost, nothing blocks, and only poison is set aside."""

import asyncio
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from msgspec.structs import replace

from shared import telemetry, tenants
from shared.db import Database
from shared.events import Decoder, Received
from shared.events.tenants import TenantConfigured
from shared.kafka import Consumer
from shared.publisher import PARTITIONS, RECORD_LIMIT_BYTES, Publisher, ensure_topics
from shared.tenants import TenantCopy
from tests.conftest import until
from tests.shared.streams import Stream
from tests.shared.topics import (
    NOW,
    Door,
    committed,
    producing,
    send_nothing,
    wire,
)

COUNTED = "CREATE TABLE counted (id uuid PRIMARY KEY, n bigint NOT NULL, position bigint GENERATED ALWAYS AS IDENTITY)"


class Poison(Exception):
    """Raised by an effect that cannot be had."""


@pytest.fixture
async def stream(kafka):
    made = Stream(kafka)
    await ensure_topics(kafka, [made.topic])
    return made


async def test_two_lanes_of_partitions_are_worked_on_at_the_same_time(stream):
    both, applied = asyncio.Barrier(2), []

    async def apply(events):
        async with asyncio.timeout(10):
            await both.wait()  # passed only by two calls at once
        applied.extend(event.data.n for event in events)

    consumer = Consumer(
        stream.bootstrap, topics=[stream.topic], group_id=stream.group, decoder=Decoder([stream.ping]), apply=apply,
        tenants=stream.tenants, publisher=Publisher(stream.bootstrap),
    )  # fmt: skip
    records = [
        ConsumerRecord(stream.topic, partition, 0, 0, 0, b"k", wire(stream.ping(n=partition)), None, 1, 1, ())
        for partition in range(2)
    ]
    await consumer.handle(records)
    assert sorted(applied) == [0, 1]


async def test_what_is_sent_is_applied_in_order_per_key_and_committed(stream):
    async with producing(stream.bootstrap) as producer:
        for n in range(1_500):
            key = f"k{n % 5}"
            await producer.send(stream.topic, wire(stream.ping(n=n), subject=key), key=key.encode())
    async with stream.consumer():
        await stream.wait_until_committed(1_500)
    by_key = defaultdict(list)
    for n in stream.applied:
        by_key[n % 5].append(n)
    assert by_key == {i: list(range(i, 1_500, 5)) for i in range(5)}
    assert max(len(call) for call in stream.calls) <= 500
    assert await stream.dead() == []


async def test_the_lag_is_shown_of_what_is_assigned_now(stream):
    def shown():
        return sum(topic == stream.topic for topic, _ in telemetry.CONSUMER_LAG._metrics)

    async def of_all():
        return shown() == PARTITIONS

    async def of_half():
        return shown() == PARTITIONS / 2

    async with stream.consumer():
        await until(of_all)
        another = AIOKafkaConsumer(stream.topic, bootstrap_servers=stream.bootstrap, group_id=stream.group)
        await another.start()
        try:
            await until(of_half, within_s=20)
        finally:
            await another.stop()
    assert shown() == 0


async def test_offsets_are_committed_after_the_effect_and_only_then(stream):
    await stream.send(*range(20))
    entered, never = asyncio.Event(), asyncio.Event()
    begun = []

    async def hang(events):
        begun.extend(event.data.n for event in events)
        entered.set()
        await never.wait()

    async with stream.consumer(hang):
        await asyncio.wait_for(entered.wait(), 15)
        stopping_at = time.monotonic()
    assert time.monotonic() - stopping_at < 4  # less than a service has for its end
    assert begun
    assert await committed(stream.bootstrap, stream.group) == 0  # cancelled in the middle: nothing counts
    async with stream.consumer():
        await stream.wait_until_committed(20)
    assert stream.applied == list(range(20))
    assert await stream.dead() == []


async def test_a_consumer_that_dies_during_its_second_batch_repeats_only_that(stream):
    await stream.send(*range(10))
    entered = asyncio.Event()

    async def hang_on_the_second(events):
        if any(event.data.n >= 10 for event in events):
            entered.set()
            await asyncio.Event().wait()
        await stream.apply(events)

    async with stream.consumer(hang_on_the_second):
        await stream.wait_until_committed(10)
        await stream.send(*range(10, 15))
        await asyncio.wait_for(entered.wait(), 15)
    async with stream.consumer():
        await stream.wait_until_committed(15)
    assert stream.applied == list(range(15))


@pytest.mark.parametrize("cut", ["refuses new connections", "is read only"])
async def test_a_database_outage_is_sat_out_and_nothing_is_set_aside(stream, database, cut):
    urls = await database("payouts")
    admin = await asyncpg.connect(urls.superuser.rpartition("/")[0] + "/postgres")
    owner = await asyncpg.connect(urls.owner)
    await owner.execute(COUNTED + "; GRANT SELECT, INSERT ON counted TO payouts_app")
    await owner.close()
    db, failures = Database(urls.app, "test"), []

    async def count(events):
        try:
            async with db.transaction() as conn:
                await conn.executemany(
                    "INSERT INTO counted (id, n) VALUES ($1, $2)", [(event.id, event.data.n) for event in events]
                )
        except Exception as error:
            failures.append(error)
            raise

    async def failed_some_times():
        return len(failures) >= 3

    async def all_there():
        async with db.transaction() as conn:
            return [r["n"] for r in await conn.fetch("SELECT n FROM counted ORDER BY position")] == list(range(12))

    down, up = {
        "refuses new connections": ("ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
        "is read only": ("SET default_transaction_read_only = on", "RESET default_transaction_read_only"),
    }[cut]
    async with stream.consumer(count):
        await stream.send(0, 1)
        await stream.wait_until_committed(2)
        await admin.execute(f"ALTER DATABASE {urls.name} {down}")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", urls.name)
        await stream.send(*range(2, 12))
        await until(failed_some_times)
        assert await committed(stream.bootstrap, stream.group) == 2
        await admin.execute(f"ALTER DATABASE {urls.name} {up}")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", urls.name)
        await stream.wait_until_committed(12)
        assert await until(all_there)
    assert await stream.dead() == []
    await db.close()
    await admin.close()


async def test_poison_is_isolated_with_its_reason_and_everything_else_is_applied(stream):
    """Forty records on one partition, eight of them poison of every sort, in one batch: exactly those are set aside."""
    bad = {
        3: b"not json",
        7: b"\xff\xfe",
        11: None,
        15: wire(stream.ping(n=15)).replace(b'"n":15', b'"n":"fifteen"'),
        19: b"[" * 100_000,
    }
    inapplicable = {22, 23, 31}
    values = [bad.get(n, wire(stream.ping(n=n))) for n in range(40)]

    async def apply(events):
        if any(event.data.n in inapplicable for event in events):
            raise Poison("cannot be had")
        await stream.apply(events)

    await stream.send(*values)
    async with stream.consumer(apply):
        await stream.wait_until_committed(40)
    assert stream.applied == [n for n in range(40) if n not in bad and n not in inapplicable]
    assert telemetry.CONSUMED.labels(stream.topic)._value.get() == len(stream.applied)
    dead = {int(headers["source-offset"]): (value, key, headers) for value, key, headers in await stream.dead()}
    assert sorted(dead) == sorted([*bad, *inapplicable])
    for offset, (value, key, headers) in dead.items():
        assert (value, key) == (values[offset], b"k")
        assert headers["source-topic"].decode() == stream.topic
        assert headers["source-partition"].isdigit()
        expected = (
            b"not applicable: Poison" if offset in inapplicable else b"no value" if value is None else b"undecodable"
        )
        assert headers["reason"].startswith(expected)
        assert headers["consumer"].decode() == stream.group
        assert abs(datetime.now(UTC) - datetime.fromisoformat(headers["at"].decode())) < timedelta(minutes=1)


async def test_strange_headers_are_no_poison_and_strange_keys_are(stream):
    """Order per aggregate rests on the key: an event under another one is set aside, and so is what has none."""
    await stream.send(1, key=None)
    await stream.send(2, headers=[("trace", b"\xff\xfe\x00"), ("empty", b"")])
    await stream.send(3, b"poison", key=b"\xff", headers=[("odd", b"\xc3\x28")])
    async with producing(stream.bootstrap) as producer:
        await send_nothing(producer, stream.topic)
    await stream.send(4)
    async with stream.consumer():
        await stream.wait_until_committed(6)
    assert sorted(stream.applied) == [2, 4]
    dead = sorted((key or b"", headers["reason"]) for _, key, headers in await stream.dead())
    assert [(key, reason[:11]) for key, reason in dead] == [
        (b"", b"no key"), (b"", b"no value"), (b"\xff", b"the key is "), (b"\xff", b"undecodable")]  # fmt: skip


async def test_a_type_that_nobody_knows_is_set_aside_and_one_that_others_handle_is_not(stream):
    await stream.send(wire(stream.ping(n=1)).replace(b'"ping"', b'"pong"'))
    await stream.send(wire(stream.ping(n=2)).replace(b'"ping"', b'"payout-approved"'), 3)
    async with stream.consumer():
        await stream.wait_until_committed(3)
    assert stream.applied == [3]
    assert [headers["reason"] for _, _, headers in await stream.dead()] == [b"unknown type 'pong'"]


@pytest.mark.parametrize("data", [b'{"n":9999999999999999999999}', b'{"n":-9223372036854775809}'])
async def test_a_value_that_the_database_cannot_hold_is_poison_not_an_outage(stream, database, data):
    """The driver refuses it before the server sees it; taking that for a lost connection would block the topic for ever."""
    urls = await database("payouts")
    db = Database(urls.app, "test")

    async def count(events):
        async with db.transaction() as conn:
            await conn.fetch("SELECT * FROM unnest($1::bigint[])", [event.data.n for event in events])
        await stream.apply(events)

    await stream.send(1, wire(stream.ping(n=77)).replace(b'{"n":77}', data), 2)
    async with stream.consumer(count):
        await stream.wait_until_committed(3)
    assert stream.applied == [1, 2]
    ((value, _, headers),) = await stream.dead()
    assert data in value
    assert headers["reason"].startswith(b"not applicable: DataError")
    await db.close()


async def test_an_unknown_tenant_is_waited_for_then_set_aside_without_the_others(stream, database):
    db = Database((await database("payouts")).app, "test")
    copy = TenantCopy(db, wait_s=0.5)
    await copy.keep([tenant_configured("known")])
    stream.tenants = copy
    orphan = wire(stream.ping(n=2), tenant="nobody")
    await stream.send(*(wire(stream.ping(n=n), tenant="known") for n in (1,)), orphan)
    await stream.send(wire(stream.ping(n=3), tenant="known"))
    async with stream.consumer():
        await stream.wait_until_committed(3)
    assert stream.applied == [1, 3]
    ((value, _, headers),) = await stream.dead()
    assert (value, headers["reason"]) == (orphan, b"unknown tenant")
    await db.close()


async def test_a_tenant_that_arrives_within_the_wait_is_in_time(stream, database):
    db = Database((await database("payouts")).app, "test")
    asked = asyncio.Event()

    class Watched(TenantCopy):
        async def wait_for(self, tenant_ids):
            asked.set()
            return await super().wait_for(tenant_ids)

    stream.tenants = copy = Watched(db, wait_s=10)
    await stream.send(wire(stream.ping(n=1), tenant="late"), wire(stream.ping(n=2), tenant="late"))
    async with stream.consumer():
        await asyncio.wait_for(asked.wait(), 15)
        assert stream.applied == []
        await copy.keep([tenant_configured("late")])
        await stream.wait_until_committed(2)
    assert stream.applied == [1, 2]
    assert await stream.dead() == []
    await db.close()


async def test_only_a_tenant_that_was_given_up_on_is_waited_for_shortly_unless_they_are_many(database, monkeypatch):
    monkeypatch.setattr(tenants, "SHORT_WAIT_S", 0)
    db = Database((await database("payouts")).app, "test")
    copy = TenantCopy(db, wait_s=2)

    async def keep_when_asked(tenant):
        waiting = asyncio.create_task(copy.wait_for({tenant}))
        await asyncio.wait({waiting}, timeout=0.2)  # until it has asked in vain
        await copy.keep([tenant_configured(tenant)])
        return await waiting

    assert await copy.wait_for({"nobody"}) == {"nobody"}
    assert await keep_when_asked("late") == set()
    assert await keep_when_asked("nobody") == {"nobody"}
    await copy.wait_for({f"nobody-{number}" for number in range(tenants.MANY)})
    assert await keep_when_asked("last") == {"last"}
    await db.close()


@pytest.mark.parametrize("name", ["Mars/Olympus", "Africa", "x" * 300, "", "/etc/passwd", "a\0b"])
async def test_what_is_no_time_zone_is_its_events_own_fault(database, name):
    """None of them is an error that goes away by trying again, which would hold up all tenants for ever."""
    db = Database((await database("payouts")).app, "test")
    event = tenant_configured("t1")
    event = replace(event, data=replace(event.data, time_zone=name))
    with pytest.raises(ValueError, match="is no time zone"):
        await TenantCopy(db, wait_s=0).keep([event])
    await db.close()


async def test_the_highest_version_of_a_tenant_wins_in_any_order(database):
    db = Database((await database("payouts")).app, "test")
    copy = TenantCopy(db, wait_s=0)
    await copy.keep([tenant_configured("t1", version=2), tenant_configured("t1", version=3), tenant_configured("t1")])
    await copy.keep([tenant_configured("t1", version=1)])
    async with db.transaction("t1") as conn:
        assert await conn.fetchrow("SELECT name, version FROM tenants") == ("t1 v3", 3)
    await db.close()


async def test_a_broker_that_is_down_at_the_start_is_waited_for(stream):
    door = Door(stream.bootstrap)
    await stream.send(1, 2)
    async with stream.consumer(bootstrap=door.address) as task:
        await asyncio.sleep(0.5)  # it has tried in vain at least once
        assert not task.done()
        assert stream.applied == []
        await door.open()
        await stream.wait_until_committed(2)
    assert stream.applied == [1, 2]
    await door.close()


def tenant_configured(tenant, *, version=1):
    data = TenantConfigured(name=f"{tenant} v{version}", time_zone="Africa/Nairobi", currency="KES", version=version)
    return Received(UUID(int=version), data.TYPE, tenant, NOW, tenant, data, None)


@pytest.mark.parametrize("is_compressed", [False, True])
async def test_a_poison_record_as_large_as_the_broker_takes_is_set_aside(stream, is_compressed):
    """Also one that is within the broker's limit only while it is compressed."""
    size = 3 * RECORD_LIMIT_BYTES if is_compressed else RECORD_LIMIT_BYTES - 100
    options = {"max_request_size": 2 * size, "compression_type": "gzip" if is_compressed else None}
    await stream.send(1)
    async with producing(stream.bootstrap, **options) as producer:
        await producer.send_and_wait(stream.topic, b"x" * size, key=b"k")
    await stream.send(2)
    async with stream.consumer():
        await stream.wait_until_committed(3)
    assert stream.applied == [1, 2]
    ((value, _, headers),) = await stream.dead()
    assert value == b"x" * min(size, RECORD_LIMIT_BYTES)
    assert headers["reason"] == b"too large: %d bytes" % size
    assert headers.get("cut-from-bytes") == (str(size).encode() if is_compressed else None)


@pytest.mark.parametrize(("limit", "key"), [(1_048_588, b"k"), (1_048_588, b"k" * 1_500_000), (100_000, b"k")])
async def test_a_record_that_its_dead_letter_topic_does_not_take_is_cut(kafka, monkeypatch, limit, key):
    """A topic at its broker's defaults, or below them, which we have no right to change, blocks nothing."""
    of_the_broker = {"max.message.bytes": str(limit)}
    monkeypatch.setattr("shared.publisher.DEAD_LETTERS_KEPT", of_the_broker)
    stream = Stream(kafka)
    await ensure_topics(kafka, [stream.topic])
    whole = b"small poison"
    await stream.send(1, whole)
    async with producing(kafka, max_request_size=RECORD_LIMIT_BYTES) as producer:
        await producer.send_and_wait(stream.topic, b"x" * 2_000_000, key=key)
    await stream.send(2)
    async with stream.consumer():
        await stream.wait_until_committed(4)
    assert stream.applied == [1, 2]
    dead = {value: (of, headers) for value, of, headers in await stream.dead()}
    assert dead.pop(whole)[0] == b"k"
    ((value, (of, headers)),) = dead.items()
    assert limit // 3 < len(of + value) < limit
    assert (value, of) == (b"x" * len(value), b"k" * len(of))
    assert headers["cut-from-bytes"] == b"2000000"
    assert headers["reason"]


async def test_a_batch_that_is_too_much_for_its_time_is_halved(stream):
    async def apply(events):
        if len(events) > 2:
            raise TimeoutError
        await stream.apply(events)

    await stream.send(*range(8))
    async with stream.consumer(apply):
        await stream.wait_until_committed(8)
    assert stream.applied == list(range(8))
    assert await stream.dead() == []


async def test_a_migration_that_is_late_is_waited_for(stream, database):
    """A worker that starts before its tables are there sets nothing aside."""
    urls = await database("payouts")
    db, owner = Database(urls.app, "test"), await asyncpg.connect(urls.owner)
    await owner.execute("ALTER TABLE wallets RENAME TO not_yet")
    tried = asyncio.Event()

    async def apply(events):
        tried.set()
        async with db.transaction("t1") as conn:
            await conn.execute("SELECT FROM wallets")
        await stream.apply(events)

    await stream.send(1, 2)
    async with stream.consumer(apply):
        await asyncio.wait_for(tried.wait(), 15)
        await owner.execute("ALTER TABLE not_yet RENAME TO wallets")
        await stream.wait_until_committed(2)
    assert stream.applied == [1, 2]
    assert await stream.dead() == []
    await owner.close()
    await db.close()
