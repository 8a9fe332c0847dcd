"""What we add to the Kafka client: it outlives a lost connection, and says which part of it has not."""

import asyncio

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    GroupLoadInProgressError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    NotCoordinatorForGroupError,
)
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v3
from aiokafka.protocol.metadata import MetadataRequest

from shared import kafka as kafka_module
from shared.kafka_client import _whose, end_client
from shared.publisher import ensure_topics
from shared.watch import Stalled
from tests.conftest import end
from tests.shared.streams import Stream


async def ask(client):
    return await client.send(client.get_random_node(), MetadataRequest([]))


async def test_a_request_that_the_broker_does_not_know_costs_no_connection(kafka):
    client = AIOKafkaClient(bootstrap_servers=kafka)
    await client.bootstrap()
    assert (await ask(client)).brokers
    (connection,) = client._conns.values()
    connection._versions = {}
    with pytest.raises(IncompatibleBrokerVersion):
        await ask(client)
    assert connection.connected()
    await client.close()


def test_a_request_on_a_connection_that_is_gone_breaks_it_and_nothing_else(kafka):
    """The broker died in the middle of an answer: the loop knows, and the client has yet to be told."""

    async def lose_a_connection():
        client = AIOKafkaClient(bootstrap_servers=kafka)
        await client.bootstrap()
        try:
            assert (await ask(client)).brokers
            (connection,) = client._conns.values()
            connection._reader.feed_data(b"\0")
            connection._writer.transport.abort()
            await asyncio.sleep(0)
            assert connection.connected()
            with pytest.raises(KafkaConnectionError):
                await ask(client)
            assert not connection.connected()
            assert (await ask(client)).brokers
        finally:
            await client.close()

    uvloop.run(lose_a_connection())  # the loop of services; Python's own keeps silent


@pytest.mark.parametrize("refusal", [GroupLoadInProgressError, NotCoordinatorForGroupError])
async def test_who_is_not_told_where_its_group_stands_asks_again(kafka, monkeypatch, refusal):
    """Taken for a group that has never read, it would read all again, and say so to the group."""
    stream, refused = Stream(kafka), []
    await ensure_topics(kafka, [stream.topic])
    async with stream.consumer():
        await stream.send(1, 2, 3)
        await stream.wait_until_committed(3)
    send = AIOKafkaClient.send

    async def answer(client, node, request, **options):
        if isinstance(request, OffsetFetchRequest) and request._consumer_group == stream.group and len(refused) < 3:
            refused.append(request)
            return OffsetFetchResponse_v3(0, [], refusal.errno)  # as a broker does that has just started
        return await send(client, node, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", answer)
    async with stream.consumer():
        await stream.send(4)
        await stream.wait_until_committed(4)
    assert len(refused) == 3
    assert stream.applied == [1, 2, 3, 4]


async def one_fails(task):
    """As after an error that the client does not expect, which ends the task without a word."""

    async def fail():
        raise RuntimeError("an error that nobody expects")

    task.cancel()
    failed = asyncio.create_task(fail())
    await asyncio.wait({task, failed})
    return failed


async def no_more_metadata(consumer):
    """Who looks for the coordinator waits for ever then, and everybody who waits for that."""
    consumer._client._sync_task = await one_fails(consumer._client._sync_task)


async def no_more_fetches(consumer):
    consumer._fetcher._fetch_task = await one_fails(consumer._fetcher._fetch_task)


async def no_more_group(consumer):
    consumer._coordinator._coordination_task = await one_fails(consumer._coordinator._coordination_task)


async def no_more_heartbeats(consumer):
    consumer._coordinator._heartbeat_task = await one_fails(consumer._coordinator._heartbeat_task)


async def no_more_group_nor_an_error(consumer):
    consumer._coordinator._coordination_task.cancel()


@pytest.mark.parametrize(
    "loss", [no_more_metadata, no_more_fetches, no_more_group, no_more_group_nor_an_error, no_more_heartbeats]
)
async def test_a_consumer_that_has_lost_a_part_of_its_client_ends_at_once(kafka, monkeypatch, loss):
    monkeypatch.setattr(kafka_module, "LOOK_EVERY_S", 0.05)
    stream, consumers = Stream(kafka), []
    await ensure_topics(kafka, [stream.topic])
    async with stream.consumer(consumers=consumers) as task:
        await stream.send(1)
        await stream.wait_until_committed(1)
        await loss(consumers[0]._subscriber.consumer)
        with pytest.raises(Stalled, match="a part of its client") as told:
            await asyncio.wait_for(task, 15)
    assert loss is no_more_group_nor_an_error or "nobody expects" in str(told.value.__cause__)


async def test_a_client_that_never_came_to_its_parts_takes_nobody_with_it(kafka):
    """The broker died while it began: it has neither fetcher nor group, and most tasks of a process belong to no object."""
    client = AIOKafkaConsumer(bootstrap_servers=kafka, group_id="never-started")
    other = asyncio.create_task(asyncio.sleep(60))
    await client._client.bootstrap()
    await end_client(client._client, client._coordinator, client._fetcher)
    assert not other.done()
    assert not [task for task in asyncio.all_tasks() if _whose(task) is client._client]
    await client.stop()
    await end(other)
