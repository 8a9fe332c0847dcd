"""A consumer whose client stops without a word is seen, and a new one takes its place."""

import asyncio
import signal
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from shared import kafka as kafka_module
from shared import watch as watch_module
from shared.offsets import Owed, member_of
from shared.publisher import ensure_topics
from shared.tasks import keep_running
from shared.watch import STALLED_AFTER, Stalled, Watch
from tests.conftest import end, until
from tests.shared.streams import Stream
from tests.shared.topics import Door, committed

LIMIT_S = STALLED_AFTER.total_seconds()


@pytest.fixture
async def stream(kafka):
    made = Stream(kafka)
    await ensure_topics(kafka, [made.topic])
    return made


@pytest.fixture
async def client(stream):
    consumer = AIOKafkaConsumer(
        stream.topic, bootstrap_servers=stream.bootstrap, group_id=stream.group, enable_auto_commit=False
    )
    await consumer.start()
    yield consumer
    await consumer.stop()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(watch_module, "STALLED_AFTER", timedelta(seconds=1))
    monkeypatch.setattr(kafka_module, "LOOK_EVERY_S", 0.05)


async def until_polled(client):
    """It hears of each of its partitions anew."""
    before = {place: client.last_poll_timestamp(place) for place in client.assignment()}

    async def polled():
        return before and all(client.last_poll_timestamp(place) != at for place, at in before.items())

    await until(polled)


async def hang(client):
    """As it happens: the client reads no more, and its heartbeats go on."""
    fetcher = client._fetcher
    tasks = {fetcher._fetch_task, *fetcher._pending_tasks}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_has_nothing_to_read_does_not_stand_still(client):
    watch = Watch(Owed(), now=0)
    for hour in range(1, 4):
        await until_polled(client)
        assert not watch.stands_still(client, busy=False, now=hour * 3_600)


async def test_who_is_told_of_nothing_stands_still_unless_busy(client):
    watch = Watch(Owed(), now=0)
    await until_polled(client)
    assert not watch.stands_still(client, busy=False, now=1)
    await hang(client)
    assert not watch.stands_still(client, busy=False, now=2)  # what it heard in between
    assert not watch.stands_still(client, busy=False, now=LIMIT_S)
    assert not watch.stands_still(client, busy=True, now=LIMIT_S + 10)
    assert not watch.stands_still(client, busy=False, now=2 * LIMIT_S)
    assert watch.stands_still(client, busy=False, now=2 * LIMIT_S + 11)
    watch.forgive(now=2 * LIMIT_S + 11)
    assert not watch.stands_still(client, busy=False, now=3 * LIMIT_S)


async def test_who_is_one_too_many_in_its_group_does_not_stand_still(client):
    watch = Watch(Owed(), now=0)
    client._subscription.assign_from_subscribed(set())
    assert not watch.stands_still(client, busy=False, now=10 * LIMIT_S)


async def test_who_cannot_commit_stands_still(client, stream):
    owed = Owed()
    watch = Watch(owed, now=0)
    owed.add(member_of(client), (ConsumerRecord(stream.topic, 0, 0, 0, 0, b"k", b"v", None, 1, 1, ()),))
    for now in (1, LIMIT_S + 10):
        await until_polled(client)
        still = watch.stands_still(client, busy=False, now=now)
    assert still


@asynccontextmanager
async def kept_running(stream, **options):
    """A consumer that is started again as a service does it; yields what it was, once it has read an event."""
    consumers = []

    async def run():
        async with stream.consumer(consumers=consumers, **options) as task:
            await task

    task = asyncio.create_task(keep_running("consume", run))
    try:
        await stream.send(1)
        await stream.wait_until_committed(1)
        yield consumers
    finally:
        await end(task)


async def test_a_consumer_whose_client_hangs_is_started_again(stream, impatient):
    async with kept_running(stream) as consumers:
        await hang(consumers[0]._subscriber.consumer)
        await stream.send(2, 3)
        await stream.wait_until_committed(3)
        assert len(consumers) == 2
    assert stream.applied == [1, 2, 3]


async def test_while_no_broker_answers_the_client_is_left_alone(stream, impatient, monkeypatch):
    """It is a member still, and will go on at once; whoever joins anew has to wait until the old one is missed."""
    door = Door(stream.bootstrap)
    await door.open()
    asked = asyncio.Event()
    warning = kafka_module.log.warning

    def heard(text, **details):
        warning(text, **details)
        if text == "broker not reached":
            asked.set()

    monkeypatch.setattr(kafka_module.log, "warning", heard)
    async with kept_running(stream, bootstrap=door.address) as consumers:
        await door.close()
        await hang(consumers[0]._subscriber.consumer)
        await asyncio.wait_for(asked.wait(), 15)
        assert len(consumers) == 1
        await door.open()
        await stream.send(2)
        await stream.wait_until_committed(2)
        assert len(consumers) == 2
    await door.close()


async def test_a_client_that_does_not_even_end_takes_its_process_with_it(stream, impatient, monkeypatch):
    """Its heartbeats would keep its partitions from everybody."""
    monkeypatch.setattr(kafka_module, "LET_GO_LIMIT_S", 0.5)
    told, consumers = asyncio.Event(), []
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    try:
        async with stream.consumer(consumers=consumers) as task:
            await stream.send(1)
            await stream.wait_until_committed(1)
            client = consumers[0]._subscriber.consumer
            coordinator = client._coordinator
            coordinator._coordination_task.cancel()
            with suppress(asyncio.CancelledError):
                await coordinator._coordination_task
            coordinator._coordination_task = never = asyncio.create_task(asyncio.Event().wait())
            await hang(client)
            await asyncio.wait_for(told.wait(), 15)
            with pytest.raises(Stalled):
                await task
            assert await committed(stream.bootstrap, stream.group) == 1
            never.cancel()
            await coordinator._stop_heartbeat_task()
            await coordinator._stop_commit_offsets_refresh_task()
            await client._fetcher.close()
            await client._client.close()
            await consumers[0]._broker.stop()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
