"""Dead letters: what consumers have set aside, and what was decided about each.

Kafka deletes no single records, so a decision is a record too, on a topic of its own, keyed by the letter's id: a letter
is open while there is no decision about it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.errors import StackError
from shared.dead_letters import CUT
from shared.events import subject_of
from shared.publisher import DEAD_LETTER_SUFFIX, STAMPED, Message, Publisher, create_topics

SETTLED = "dead-letters-settled"
SETTLED_KEPT = {**STAMPED, "cleanup.policy": "compact"}
SEND_AT_ONCE = 200
BYTES_AT_ONCE = 8 * 1024 * 1024
SILENCE_LIMIT_S = 15.0
REQUEST_LIMIT_MS = 5_000


@dataclass(frozen=True)
class Letter:
    """A dead letter, without its content. `source` is the record that it was, as `<topic>/<partition>/<offset>`."""

    id: str
    topic: str
    source: str
    consumer: str
    reason: str
    at: str
    bytes: int
    is_whole: bool


class Content(NamedTuple):
    """What a dead letter holds: the record's key and value."""

    key: bytes | None
    value: bytes | None


class Decision(msgspec.Struct, frozen=True):
    """What was decided about a letter."""

    decision: Literal["replayed", "dropped"]
    at: datetime
    why: str | None = None


class Decided(NamedTuple):
    """A decision, and when the broker got it."""

    decision: Decision
    broker_ms: int


_decode_decision = msgspec.json.Decoder(Decision).decode


async def open_letters(bootstrap: str) -> list[Letter]:
    """The letters about which nothing was decided, as they came. StackError when the broker does not answer."""
    async with _reading(bootstrap) as reader:
        decided = await reader.decisions()
        letters = [
            letter async for letter, record in reader.letters() if _about(record, decided.get(letter.id)) is None
        ]
    return sorted(letters, key=lambda letter: letter.at)


async def find_letter(bootstrap: str, letter_id: str) -> tuple[Letter, Content, Decision | None]:
    """A letter, open or settled, with its content. StackError when there is none of that id."""
    async with _reading(bootstrap) as reader:
        decided = (await reader.decisions()).get(letter_id)
        async for letter, record in reader.letters():
            if letter.id == letter_id:
                return letter, Content(record.key, record.value), _about(record, decided)
    raise StackError(f"there is no dead letter {letter_id}")


async def replay(bootstrap: str, chosen: Iterable[Letter], *, now: datetime) -> tuple[int, int]:
    """Send the records of `chosen` to their topics again; how many records, and how many letters that has settled.

    A record that several consumers have set aside goes out once. It counts as settled after the broker has it; what is
    sent twice, because this was ended in between or ran twice at once, has its effect once, since consumers know the
    events that they have seen.
    """
    wanted = {letter.source for letter in chosen}
    letters = [letter for letter in await open_letters(bootstrap) if letter.source in wanted and letter.is_whole]
    by_source: dict[str, list[Letter]] = {}
    for letter in letters:
        by_source.setdefault(letter.source, []).append(letter)
    first = {same[0].id for same in by_source.values()}
    sent: list[str] = []
    async with _reading(bootstrap) as reader, _publishing(bootstrap) as publisher:
        batch: dict[str, Message] = {}
        async for letter, record in reader.letters():
            if letter.id in first:
                batch[letter.source] = _original(letter, record)
            if len(batch) == SEND_AT_ONCE or sum(len(m.value or b"") for m in batch.values()) >= BYTES_AT_ONCE:
                sent += await _send_again(publisher, batch, by_source, now)
        sent += await _send_again(publisher, batch, by_source, now)
    return len(sent), sum(len(by_source[source]) for source in sent)


async def drop(bootstrap: str, letters: Sequence[Letter], *, why: str, now: datetime) -> None:
    """Settle `letters` without sending them anywhere."""
    async with _publishing(bootstrap) as publisher:
        await _settle(publisher, letters, Decision("dropped", now, why))


def letter_of(record: ConsumerRecord) -> Letter:
    """What the headers of a record of a dead-letter topic say."""
    said = {name: value.decode(errors="replace") for name, value in record.headers}
    topic = record.topic.removesuffix(DEAD_LETTER_SUFFIX)
    letter_id = f"{record.topic}/{record.partition}/{record.offset}"
    place = said.get("source-partition"), said.get("source-offset")
    return Letter(
        id=letter_id,
        topic=topic,
        source=f"{topic}/{place[0]}/{place[1]}" if None not in place else letter_id,
        consumer=said.get("consumer", ""),
        reason=said.get("reason", ""),
        at=said.get("at", ""),
        bytes=len(record.value or b""),
        is_whole=bool(record.value) and CUT not in said,
    )


def _about(record: ConsumerRecord, decided: Decided | None) -> Decision | None:
    # Ids begin anew in a topic that was deleted and made again: what is older than the record was about another one.
    return decided.decision if decided is not None and decided.broker_ms >= record.timestamp else None


def _original(letter: Letter, record: ConsumerRecord) -> Message:
    # Keyed by what it is about: a record without that key, or with another one, is refused again.
    subject = subject_of(record.value)
    return Message(letter.topic, record.key if subject is None else subject.encode(), record.value)


async def _send_again(
    publisher: Publisher, batch: dict[str, Message], by_source: dict[str, list[Letter]], now: datetime
) -> list[str]:
    sources = list(batch)
    if not await publisher.send_all(list(batch.values())):
        raise StackError("the broker did not take all records; run the command again")
    await _settle(publisher, [letter for source in sources for letter in by_source[source]], Decision("replayed", now))
    batch.clear()
    return sources


async def _settle(publisher: Publisher, letters: Sequence[Letter], decision: Decision) -> None:
    said = msgspec.json.encode(decision)
    if not await publisher.send_all([Message(SETTLED, letter.id.encode(), said) for letter in letters]):
        raise StackError("the broker did not take all decisions; run the command again")


class _Reader:
    """Reads topics from their beginning to what was their end when asked, as nobody's consumer."""

    def __init__(self, kafka: AIOKafkaConsumer, places: dict[str, list[TopicPartition]]) -> None:
        self._kafka = kafka
        self._places = places

    async def letters(self) -> AsyncIterator[tuple[Letter, ConsumerRecord]]:
        """All dead letters, open and settled."""
        async for record in self._records([topic for topic in self._places if topic.endswith(DEAD_LETTER_SUFFIX)]):
            yield letter_of(record), record

    async def decisions(self) -> dict[str, Decided]:
        """What was decided, by the letter's id."""
        return {
            r.key.decode(): Decided(_decode_decision(r.value), r.timestamp)
            async for r in self._records([SETTLED])
            if r.key and r.value
        }

    async def _records(self, topics: Sequence[str]) -> AsyncIterator[ConsumerRecord]:
        places = [place for topic in topics for place in self._places.get(topic, [])]
        if not places:
            return
        self._kafka.assign(places)
        async with asyncio.timeout(SILENCE_LIMIT_S):
            begin, end = await self._kafka.beginning_offsets(places), await self._kafka.end_offsets(places)
            await self._kafka.seek_to_beginning(*places)
        left = {place for place in places if begin[place] < end[place]}
        heard_at = time.monotonic()
        while left:
            for records in (await self._kafka.getmany(*left, timeout_ms=500)).values():
                heard_at = time.monotonic()
                for record in records:
                    yield record
            async with asyncio.timeout(SILENCE_LIMIT_S):
                left = {place for place in left if await self._kafka.position(place) < end[place]}
            if time.monotonic() - heard_at > SILENCE_LIMIT_S:
                raise TimeoutError(f"nothing came for {SILENCE_LIMIT_S:.0f} s")


@asynccontextmanager
async def _reading(bootstrap: str) -> AsyncIterator[_Reader]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_LIMIT_MS)
    kafka = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=REQUEST_LIMIT_MS,
    )
    try:
        async with asyncio.timeout(SILENCE_LIMIT_S):
            await admin.start()
            await kafka.start()
            described = await admin.describe_topics()
        yield _Reader(kafka, {t["topic"]: [TopicPartition(t["topic"], p["partition"]) for p in t["partitions"]]
                              for t in described})  # fmt: skip
    except (KafkaError, OSError, TimeoutError) as error:
        raise StackError(f"Kafka does not answer at {bootstrap}: {error!r}") from error
    finally:
        await kafka.stop()
        await admin.close()


@asynccontextmanager
async def _publishing(bootstrap: str) -> AsyncIterator[Publisher]:
    try:
        await create_topics(bootstrap, {SETTLED: SETTLED_KEPT})
    except (KafkaError, OSError) as error:
        raise StackError(f"Kafka does not take decisions about dead letters at {bootstrap}: {error!r}") from error
    publisher = Publisher(bootstrap)
    try:
        yield publisher
    finally:
        await publisher.close()
