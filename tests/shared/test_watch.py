"""A consumer whose client stops without a word is seen, and a new one takes its place."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from shared import kafka as kafka_module
from shared import watch as watch_module
from shared.kafka_client import _whose, member_of, standing_of
from shared.offsets import Owed
from shared.publisher import ensure_topics
from shared.tasks import keep_running
from shared.watch import STALLED_AFTER, Stalled, Watch, coordinator_answers
from tests.conftest import end, until
from tests.shared.streams import Stream
from tests.shared.topics import Door

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
    monkeypatch.setattr(watch_module, "STALLED_AFTER", timedelta(seconds=3))
    monkeypatch.setattr(kafka_module, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(kafka_module, "LET_GO_LIMIT_S", 1.0)


async def until_polled(client, places=None):
    """It hears of each of its partitions anew, or of each of `places`."""
    before = {place: client.last_poll_timestamp(place) for place in places or client.assignment()}

    async def polled():
        return before and all(client.last_poll_timestamp(place) != at for place, at in before.items())

    await until(polled)


async def it_asks_no_more(client):
    fetcher = client._fetcher
    for task in (fetcher._fetch_task, *fetcher._pending_tasks):
        task.cancel()
    fetcher._fetch_task = asyncio.create_task(asyncio.Event().wait())


async def its_group_never_comes_together(client):
    """As when it waits for its own heartbeats to end: it asks for news on and on, and hands none over."""
    client._coordinator._coordination_task.cancel()
    client._coordinator._coordination_task = asyncio.create_task(asyncio.Event().wait())
    client._subscription.begin_reassignment()


HANGS = pytest.mark.parametrize("hang", [it_asks_no_more, its_group_never_comes_together])


async def test_who_has_nothing_to_read_does_not_stand_still(client):
    watch = Watch(Owed(), now=0)
    for hour in range(1, 4):
        await until_polled(client)
        assert not watch.stands_still(standing_of(client), busy=False, now=hour * 3_600)


@HANGS
async def test_who_hangs_stands_still_unless_busy(client, hang):
    watch = Watch(Owed(), now=0)
    await until_polled(client)
    assert not watch.stands_still(standing_of(client), busy=False, now=1)
    await hang(client)
    assert not watch.stands_still(standing_of(client), busy=False, now=2)  # what it heard in between
    assert not watch.stands_still(standing_of(client), busy=False, now=LIMIT_S)
    assert not watch.stands_still(standing_of(client), busy=True, now=LIMIT_S + 10)
    assert not watch.stands_still(standing_of(client), busy=False, now=2 * LIMIT_S)
    assert watch.stands_still(standing_of(client), busy=False, now=2 * LIMIT_S + 11)
    watch.forgive(now=2 * LIMIT_S + 11)
    assert not watch.stands_still(standing_of(client), busy=False, now=3 * LIMIT_S)
    client._coordinator._coordination_task.cancel()


async def test_who_keeps_its_news_of_one_partition_to_itself_stands_still(client, stream):
    """Although it goes on asking for those of all others."""
    watch = Watch(Owed(), now=0)
    await until_polled(client)
    await stream.send(1)

    async def knows():
        return any(client.highwater(place) for place in client.assignment())

    await until(knows)
    others = {place for place in client.assignment() if not client.highwater(place)}
    for now in (1, LIMIT_S, LIMIT_S + 2):
        await until_polled(client, others)
        still = watch.stands_still(standing_of(client), busy=False, now=now)
        assert still == (now > LIMIT_S + 1)
    assert await client.getone()
    assert not watch.stands_still(standing_of(client), busy=False, now=LIMIT_S + 3)


async def test_who_is_one_too_many_in_its_group_does_not_stand_still(client):
    watch = Watch(Owed(), now=0)
    client._subscription.assign_from_subscribed(set())
    assert not watch.stands_still(standing_of(client), busy=False, now=10 * LIMIT_S)


async def test_who_cannot_commit_stands_still(client, stream):
    owed = Owed()
    watch = Watch(owed, now=0)
    owed.add(member_of(client), (ConsumerRecord(stream.topic, 0, 0, 0, 0, b"k", b"v", None, 1, 1, ()),))
    for now in (1, LIMIT_S + 10):
        await until_polled(client)
        still = watch.stands_still(standing_of(client), busy=False, now=now)
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


async def until_replaced(consumers):
    """There is a new one, which has its partitions: the group may have had to miss the old one first."""

    async def has_partitions():
        client = consumers[-1]._subscriber.consumer
        return consumers[-1] is not consumers[0] and client and client.assignment()

    await until(has_partitions, within_s=30)


async def nobody_takes_what_it_reads(client):
    (loop,) = (task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "_run_consume_loop")
    loop.cancel()


@pytest.mark.parametrize("hang", [it_asks_no_more, its_group_never_comes_together, nobody_takes_what_it_reads])
async def test_a_consumer_whose_client_hangs_is_started_again(stream, impatient, hang):
    async with kept_running(stream) as consumers:
        client = consumers[0]._subscriber.consumer
        await hang(client)
        await stream.send(2, 3)  # the first of them it may have been waiting for already
        await until_replaced(consumers)
        await stream.send(4)
        await stream.wait_until_committed(4)
        client._coordinator._coordination_task.cancel()
    assert sorted(set(stream.applied)) == [1, 2, 3, 4]


async def test_while_no_broker_answers_the_client_is_left_alone(stream, impatient, monkeypatch):
    """It is a member still, and will go on at once; whoever joins anew has to wait until the old one is missed."""
    door = Door(stream.bootstrap)
    await door.open()
    asked = []
    warning = watch_module.log.warning

    def heard(text, **details):
        warning(text, **details)
        asked.append(text)

    async def asked_again_and_again():
        return asked.count("broker not reached") > 2

    monkeypatch.setattr(watch_module.log, "warning", heard)
    async with kept_running(stream, bootstrap=door.address) as consumers:
        client = consumers[0]._subscriber.consumer
        await door.close()
        await it_asks_no_more(client)
        await until(asked_again_and_again, within_s=30)
        assert consumers[-1]._subscriber.consumer is client
        await door.open()
        await stream.send(2)
        await until_replaced(consumers)
        await stream.wait_until_committed(2)
    await door.close()


async def test_of_a_client_that_does_not_end_nothing_is_left(stream, impatient):
    """Its heartbeats would keep its partitions from everybody."""
    consumers = []
    async with stream.consumer(consumers=consumers) as task:
        await stream.send(1)
        await stream.wait_until_committed(1)
        client = consumers[0]._subscriber.consumer
        await its_group_never_comes_together(client)
        with pytest.raises(Stalled):
            await asyncio.wait_for(task, 15)
    owners = (client, client._client, client._coordinator, client._fetcher)
    assert not [task for task in asyncio.all_tasks() if any(_whose(task) is owner for owner in owners)]
    assert not [connection for connection in client._client._conns.values() if connection.connected()]
    client._coordinator._coordination_task.cancel()


async def test_a_group_whose_broker_is_away_is_not_reached_although_another_one_is(kafka, monkeypatch):
    assert await coordinator_answers(kafka, "a-group")

    async def nobody(_admin, _group):
        raise GroupCoordinatorNotAvailableError

    monkeypatch.setattr(AIOKafkaAdminClient, "find_coordinator", nobody)
    assert not await coordinator_answers(kafka, "a-group")


async def test_where_no_partition_has_a_leader_there_is_no_news_to_ask_for(client):
    watch = Watch(Owed(), now=0)
    await until_polled(client)
    await it_asks_no_more(client)
    assert not watch.stands_still(standing_of(client), busy=False, now=1)
    assert watch.stands_still(standing_of(client), busy=False, now=LIMIT_S + 2)
    for topic in client._client.cluster._partitions.values():
        for number, partition in topic.items():
            topic[number] = partition._replace(leader=-1)
    assert not watch.stands_still(standing_of(client), busy=False, now=LIMIT_S + 3)
    assert not watch.stands_still(standing_of(client), busy=False, now=10 * LIMIT_S)
    client._fetcher._fetch_task.cancel()
