"""Topics, events and readers of one test's own on the session's broker, and a way to hide that broker."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import new_class
from typing import Any
from uuid import UUID, uuid4

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.ports import free_port
from shared.events import Event, encode
from shared.publisher import Message

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)


def new_topic() -> str:
    return f"test-{secrets.token_hex(6)}"


async def exists(bootstrap: str, topic: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return topic in await admin.list_topics()
    finally:
        await admin.close()


def ping_of(topic: str) -> type[Event]:
    """An event class of its own for `topic`, with the one field `n`."""

    def body(namespace: dict[str, Any]) -> None:
        namespace |= {"__annotations__": {"n": int}, "TYPE": "ping", "TOPIC": topic, "__module__": __name__}

    return new_class("Ping", (Event,), {"frozen": True, "kw_only": True}, body)


def wire(event: Event, *, event_id: UUID | None = None, tenant: str = "t1", subject: str = "k", **trace: Any) -> bytes:
    """`event` as it stands in Kafka."""
    text = encode(
        event,
        event_id=event_id or uuid4(),
        service="tests",
        subject=subject,
        time=NOW,
        tenant_id=tenant,
        traceparent=trace.get("traceparent"),
    )
    return text.encode()


def message(event: Event, subject: str, tenant: str) -> Message:
    """`event` as a publisher sends it."""
    return Message(event.TOPIC, subject.encode(), wire(event, tenant=tenant, subject=subject))


@asynccontextmanager
async def producing(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send_nothing(producer: AIOKafkaProducer, topic: str) -> None:
    """A record with neither key nor value, which the protocol allows and the client's own `send` does not."""
    await producer.client._wait_on_metadata(topic)
    place = TopicPartition(topic, 0)
    await (await producer._message_accumulator.add_message(place, None, None, timeout=5))


@asynccontextmanager
async def reading(bootstrap: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A reader of all partitions of an existing topic, from their beginning."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        await consumer._client.add_topic(topic)
        while not (partitions := consumer.partitions_for_topic(topic)):
            await consumer._client.force_metadata_update()
        consumer.assign([TopicPartition(topic, number) for number in partitions])
        yield consumer
    finally:
        await consumer.stop()


async def end_offsets(bootstrap: str, topic: str) -> int:
    """How many records the topic has had."""
    async with reading(bootstrap, topic) as consumer:
        return sum((await consumer.end_offsets(list(consumer.assignment()))).values())


async def read(bootstrap: str, topic: str, count: int, *, within_s: float = 15.0) -> list[ConsumerRecord]:
    """The first `count` records of a topic; within a partition in their order."""
    records: list[ConsumerRecord] = []
    async with reading(bootstrap, topic) as consumer, asyncio.timeout(within_s):
        while len(records) < count:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
    return records


async def read_all(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    """Everything that is in the topic now."""
    return await read(bootstrap, topic, await end_offsets(bootstrap, topic))


def data_of(record: ConsumerRecord) -> dict[str, Any]:
    return msgspec.json.decode(record.value)["data"]


async def committed(bootstrap: str, group: str) -> int:
    """The sum of a consumer group's committed offsets."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    except KafkaError:  # the first group of a broker has no coordinator for a moment
        return 0
    finally:
        await admin.close()
    return sum(max(0, offset.offset) for offset in offsets.values())


class Door:
    """A loopback port that leads to the broker once it is opened; before that nothing listens there."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.partition(":")
        self._own = free_port()
        self._server: asyncio.Server | None = None
        self.address = f"127.0.0.1:{self._own}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._own)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(self._host, int(self._port))
        await asyncio.wait(
            [asyncio.ensure_future(_pump(reader, to_writer)), asyncio.ensure_future(_pump(to_reader, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        to_writer.close()
        writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    except OSError:
        return
