"""Topics that are there already get the settings that new ones are made with; without its topics no service is ready.

A producer that has failed leaves nothing behind."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import create_conn

from shared.publisher import (
    DEAD_LETTERS_KEPT,
    EVENTS_KEPT,
    PARTITIONS,
    Message,
    Publisher,
    TopicsMissing,
    ensure_topics,
)
from tests.conftest import until
from tests.faults.lines import Trouble, line_to
from tests.faults.messages import KafkaRequests
from tests.shared.topics import exists, new_topic, read_all


async def settings_of(admin, topic):
    """All settings of a topic, also those that are the broker's defaults."""
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((error_code, _, _, _, entries),) = answer.resources
    assert error_code == 0
    return {entry[0]: entry[1] for entry in entries}


async def test_topics_from_an_older_version_get_our_settings_and_keep_the_others(kafka, monkeypatch):
    topic = new_topic()
    letters = f"{topic}.dlq"
    old = {"retention.ms": "604800000", "max.message.bytes": "1000000", "segment.ms": "3600000"}
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, 4, 1, topic_configs=old) for name in (topic, letters)])
    await ensure_topics(kafka, [topic])

    async def adjusted():
        of_letters, of_events = await settings_of(admin, letters), await settings_of(admin, topic)
        return DEAD_LETTERS_KEPT.items() <= of_letters.items() and EVENTS_KEPT.items() <= of_events.items()

    await until(adjusted)
    for name, days in ((letters, "-1"), (topic, "604800000")):
        now = await settings_of(admin, name)
        assert (now["segment.ms"], now["retention.ms"]) == ("3600000", days)

    async def refused(*_arguments):
        raise AssertionError("nothing differs any more")

    monkeypatch.setattr(AIOKafkaAdminClient, "alter_configs", refused)
    await ensure_topics(kafka, [topic])
    await admin.close()


async def test_a_topic_that_cannot_be_made_keeps_the_service_unready_until_it_is(kafka, run):
    running = await run("payments")
    topic = new_topic()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    in_the_way = f"{topic}_dlq"  # a broker refuses names that its metrics could not tell apart
    await admin.create_topics([NewTopic(in_the_way, 1, 1)])
    await until(lambda: exists(kafka, in_the_way))
    with pytest.raises(TopicsMissing, match=rf"{topic}\.dlq: .*collides"):
        await ensure_topics(kafka, [topic])
    publisher = Publisher(kafka, [topic])
    assert not await publisher.send_all([])
    answer = await running.http.get("/health/ready")
    assert (answer.status_code, answer.json()["missing_topics"]) == (503, [f"{topic}.dlq"])

    await admin.delete_topics([in_the_way])
    await until(lambda: publisher.send_all([]))
    assert (await running.http.get("/health/ready")).status_code == 200
    (made,) = await admin.describe_topics([f"{topic}.dlq"])
    assert len(made["partitions"]) == PARTITIONS
    await publisher.close()
    await admin.close()


async def test_a_partition_that_is_gone_when_its_batch_is_sent_delays_the_events(kafka, monkeypatch):
    topic = new_topic()
    publisher = Publisher(kafka, [topic])
    messages = [Message(topic, f"key-{number}".encode(), b"{}") for number in range(20)]

    async def as_before(*_arguments):
        return set(range(100 * PARTITIONS))

    with monkeypatch.context() as before:
        before.setattr(AIOKafkaProducer, "partitions_for", as_before)
        assert not await publisher.send_all(messages)
    assert await publisher.send_all(messages)
    await publisher.close()


class Watched:
    """A line to the broker for all clients of this process, and what they have open."""

    def __init__(self, line):
        self.line, self._sockets, self._others = line, [], set(aiokafka_tasks())

    async def connect(self, _host, _port, **options):
        """In the client's place of `create_conn`: the broker would send its clients past the line."""
        connection = await create_conn("127.0.0.1", self.line.port, **options)
        self._sockets.append(connection._writer.transport.get_extra_info("socket"))
        return connection

    async def is_quiet(self):
        """No task of the client runs, and no socket of it is open."""
        return not set(aiokafka_tasks()) - self._others and all(socket.fileno() == -1 for socket in self._sockets)


def aiokafka_tasks():
    return [task for task in asyncio.all_tasks() if "aiokafka" in task.get_coro().cr_code.co_filename]


@pytest.fixture
async def watched(kafka, monkeypatch):
    async with line_to(int(kafka.rpartition(":")[2]), KafkaRequests) as line:
        made = Watched(line)
        monkeypatch.setattr("aiokafka.client.create_conn", made.connect)
        yield made


@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.STALLED])
async def test_a_producer_whose_send_has_failed_is_gone_and_sends_nothing_behind_what_is_newer(
    kafka, watched, monkeypatch, trouble
):
    """Its client would try for ever, one more of them for each outage."""
    monkeypatch.setattr("shared.publisher.SEND_LIMIT_S", 2)
    topic = new_topic()
    publisher = Publisher(kafka, [topic])
    await until(lambda: publisher.send_all([Message(topic, b"k", b"before")]))
    await watched.line.suffer(trouble)
    for _ in range(2):
        # More than the sockets take, so that some of it waits in this process.
        lost = [Message(topic, f"key-{number}".encode(), b"lost" * 800_000) for number in range(8)]
        assert not await publisher.send_all(lost)
        await until(watched.is_quiet)
    await watched.line.suffer(Trouble.CUT)  # what the line holds is lost with it
    await watched.line.suffer(Trouble.NONE)
    await until(lambda: publisher.send_all([Message(topic, b"k", b"after")]))
    await publisher.close()
    await until(watched.is_quiet)
    assert [record.value for record in await read_all(kafka, topic)] == [b"before", b"after"]


async def test_an_orderly_stop_sends_what_is_under_way(kafka, watched):
    topic = new_topic()
    publisher = Publisher(kafka, [topic])
    assert await publisher.send_all([])
    batch = publisher._producer.create_batch()
    batch.append(timestamp=None, key=b"k", value=b"under way")
    await publisher._producer.send_batch(batch, topic, partition=0)
    await publisher.close()
    await until(watched.is_quiet)
    assert [record.value for record in await read_all(kafka, topic)] == [b"under way"]
