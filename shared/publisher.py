"""Publishing to Kafka: idempotent, acknowledged by all, bounded in time, on topics that are there."""

import asyncio
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder

from shared import telemetry
from shared.kafka_client import end_client
from shared.log import logger

log = logger(__name__)

ALREADY_THERE = TopicAlreadyExistsError.errno
SEND_LIMIT_S = 10.0
STOP_LIMIT_S = 1.0
ADJUST_LIMIT_S = 2.0
PARTITIONS = 4
RECORD_LIMIT_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 256 * 1024
OF_THE_TOPIC = 1  # config_source in the protocol: set on the topic, not the broker's default
DEAD_LETTER_SUFFIX = ".dlq"
DEAD_LETTER_LIMIT_BYTES = RECORD_LIMIT_BYTES + 64 * 1024  # the record that it was, and its headers
# By the broker's clock: a publisher's that is wrong would have its records refused, or deleted as old at once.
STAMPED = {"message.timestamp.type": "LogAppendTime"}
EVENTS_KEPT = {**STAMPED, "max.message.bytes": str(RECORD_LIMIT_BYTES)}
DEAD_LETTERS_KEPT = {
    **STAMPED,
    "max.message.bytes": str(DEAD_LETTER_LIMIT_BYTES),
    "retention.ms": "-1",  # until somebody decides
}


_once_there: set[str] = set()  # a topic that is lost later delays events, and is no reason to refuse anyone


class TopicsMissing(KafkaError):  # type: ignore[misc]  # the client has no types
    """Topics are not there, and the broker does not make them for us; the text says which and why."""


class Message(NamedTuple):
    """A record to be published."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Publisher:
    """An idempotent `acks=all` producer that starts when needed and is replaced after a failure."""

    def __init__(self, bootstrap: str, topics: Sequence[str] = ()) -> None:
        """`topics` are created before the first record is sent, where they are missing."""
        self._bootstrap = bootstrap
        self._topics = tuple(topics)
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def send_all(self, messages: Sequence[Message]) -> bool:
        """Publish in the order given; False when not all are known to have arrived within the time limit."""
        try:
            await self.send(messages)
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    async def send(self, messages: Sequence[Message]) -> None:
        """Publish in the order given, within the time limit. Raises KafkaError, OSError, TimeoutError."""
        try:
            async with self._lock, asyncio.timeout(SEND_LIMIT_S):
                if self._producer is None:
                    self._producer = await self._started()
                await _send(self._producer, messages)
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("could not publish", error=repr(error), messages=len(messages))
            await self.close()
            raise

    async def _started(self) -> AIOKafkaProducer:
        await ensure_topics(self._bootstrap, self._topics)
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=5_000,
            max_request_size=DEAD_LETTER_LIMIT_BYTES,
            max_batch_size=BATCH_BYTES,
        )
        try:
            await producer.start()
        except BaseException:
            await _stop(producer)
            raise
        return producer

    async def close(self) -> None:
        """Let go of the producer; what it still holds is sent again by whoever has it in a table."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    """In good order where the broker lets us, else at once; nothing of it is left, and it sends nothing any more."""
    try:
        async with asyncio.timeout(STOP_LIMIT_S):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("producer did not stop cleanly", error=repr(error))
    finally:
        # Given up, it would send old events behind newer ones once the broker is back.
        await end_client(producer.client, producer._sender, producer._message_accumulator)  # noqa: SLF001


async def _send(producer: AIOKafkaProducer, messages: Sequence[Message]) -> None:
    """Send in the order given, and wait until all have arrived."""
    # In batches of our own: the client makes a future of each record and finds its partition byte by byte in Python.
    partitions = {topic: sorted(await producer.partitions_for(topic)) for topic in {m.topic for m in messages}}
    filling: dict[tuple[str, int], BatchBuilder] = {}
    under_way: list[asyncio.Future[object]] = []
    try:
        for message in messages:
            ids = partitions[message.topic]
            place = (message.topic, ids[zlib.crc32(message.key or b"") % len(ids)])
            batch = filling.get(place)
            if batch is None or not _put(batch, message):
                if batch is not None:
                    under_way.append(await _submit(producer, place, batch))
                batch = filling[place] = producer.create_batch()
                _put(batch, message)  # the first always finds room
        for place, batch in filling.items():
            under_way.append(await _submit(producer, place, batch))
        await asyncio.gather(*under_way)
    finally:
        for arriving in under_way:  # of one that has failed, nobody need hear why the others did
            if not arriving.cancel() and not arriving.cancelled():
                arriving.exception()


async def _submit(producer: AIOKafkaProducer, place: tuple[str, int], batch: BatchBuilder) -> asyncio.Future[object]:
    topic, partition = place
    try:
        return await producer.send_batch(batch, topic, partition=partition)  # type: ignore[no-any-return]
    except (AssertionError, TypeError) as error:  # what the client says of a partition that is gone meanwhile
        raise UnknownTopicOrPartitionError(f"{topic} has no partition {partition} any more") from error


def _put(batch: BatchBuilder, message: Message) -> bool:
    return batch.append(timestamp=None, key=message.key, value=message.value, headers=list(message.headers)) is not None


async def ensure_topics(bootstrap: str, topics: Sequence[str]) -> None:
    """Create `topics` and their dead-letter topics, or give those that are there our settings. Raises KafkaError, OSError."""
    events = dict.fromkeys(topics, EVENTS_KEPT)
    await create_topics(
        bootstrap, events | dict.fromkeys((topic + DEAD_LETTER_SUFFIX for topic in topics), DEAD_LETTERS_KEPT)
    )


async def create_topics(bootstrap: str, settings: Mapping[str, Mapping[str, str]]) -> None:
    """Create the topics that are missing, each with its settings; give them to those that have others.

    Raises KafkaError, OSError; TopicsMissing when the broker makes one neither for us nor has it from somebody else.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    await admin.start()
    try:
        wanted = [NewTopic(name, PARTITIONS, 1, topic_configs=dict(kept)) for name, kept in settings.items()]
        created = await admin.create_topics(wanted)
        await _refuse_missing(admin, created.topic_errors)
        try:
            async with asyncio.timeout(ADJUST_LIMIT_S):
                await _adjust_topics(admin, settings)
        except (KafkaError, OSError, TimeoutError) as error:  # a broker that cannot is no reason to publish nothing
            log.warning("topics' settings not looked at", error=repr(error))
    finally:
        await admin.close()


async def _refuse_missing(admin: AIOKafkaAdminClient, answers: Sequence[tuple[str, int, str]]) -> None:
    # Who writes to a missing topic, or waits for it, has many a broker make one with a single partition.
    refused = {topic: message or str(code) for topic, code, message in answers if code not in {0, ALREADY_THERE}}
    there = set(await admin.list_topics()) if refused else set()
    missing = {topic: why for topic, why in refused.items() if topic not in there}
    _once_there.update(topic for topic, _, _ in answers if topic not in missing)
    for topic, _, _ in answers:
        telemetry.TOPICS_MISSING.labels(topic).set(topic not in _once_there)
    if missing:
        raise TopicsMissing("; ".join(f"{topic}: {why}" for topic, why in missing.items()))


async def _adjust_topics(admin: AIOKafkaAdminClient, settings: Mapping[str, Mapping[str, str]]) -> None:
    others = []
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in settings]):
        failed = [(name, code, message) for code, message, _, name, _ in answer.resources]
        _warn_of("topic's settings not read", failed, but=UnknownTopicOrPartitionError)  # made just now
        for code, _, _, name, entries in answer.resources:
            own = {key: value for key, value, _, source, *_ in entries if source == OF_THE_TOPIC}
            if not code and not settings[name].items() <= own.items():
                # The request replaces all: what somebody else has set stays.
                others.append(ConfigResource(ConfigResourceType.TOPIC, name, own | dict(settings[name])))
    for answer in await admin.alter_configs(others) if others else ():
        _warn_of("topic's settings not changed", [(name, code, message) for code, message, _, name in answer.resources])


def _warn_of(what: str, answers: Iterable[tuple[str, int, str]], *, but: type[KafkaError] | None = None) -> None:
    # No reason to stop: where we have no right to it, it is the operator's to do.
    for topic, code, message in answers:
        if code and not (but is not None and code == but.errno):
            log.warning(what, topic=topic, error=message or code)
