"""A record that cannot be applied is set aside in its dead-letter topic."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from shared import telemetry
from shared.log import logger
from shared.publisher import DEAD_LETTER_SUFFIX, RECORD_LIMIT_BYTES, Message, Publisher

log = logger(__name__)

HEADER_LIMIT = 1_000
TAKEN_ANYWHERE_BYTES = 1_000_000  # a topic that nobody has set takes 1 MiB, headers included
CUT = "cut-from-bytes"


async def set_aside(
    dead: Sequence[tuple[ConsumerRecord, str]], publisher: Publisher, *, consumer: str, now: datetime
) -> None:
    """Put each record with its reason away; returns when the broker has them, for as long as that may take."""
    await _send(publisher, [dead_letter(record, reason, consumer=consumer, now=now) for record, reason in dead])
    for record, reason in dead:
        telemetry.DEAD_LETTERS.labels(record.topic).inc()
        log.warning("dead letter", topic=record.topic, offset=record.offset, reason=reason[:HEADER_LIMIT])


async def _send(publisher: Publisher, letters: Sequence[Message]) -> None:
    while letters:
        try:
            await publisher.send(letters)
            break
        except MessageSizeTooLargeError:  # a topic with a limit of its own, which we may have no right to raise
            if len(letters) > 1:
                for letter in letters:
                    await _send(publisher, [letter])
                break
            letters = [_shortened(letters[0])]
        except (KafkaError, OSError, TimeoutError):
            await asyncio.sleep(1)


def dead_letter(record: ConsumerRecord, reason: str, *, consumer: str, now: datetime) -> Message:
    """`record` as it came, for its dead-letter topic; why, from where, by whom and when are in the headers."""
    value = record.value
    headers: tuple[tuple[str, bytes], ...] = (
        ("reason", reason[:HEADER_LIMIT].encode(errors="replace")),
        ("source-topic", record.topic.encode()),
        ("source-partition", str(record.partition).encode()),
        ("source-offset", str(record.offset).encode()),
        ("consumer", consumer.encode()),
        ("at", now.isoformat().encode()),
    )
    if value is None and record.key is None:
        value = b""  # the client sends no record without both
    letter = Message(record.topic + DEAD_LETTER_SUFFIX, record.key, value, headers)
    if value is not None and len(value) > RECORD_LIMIT_BYTES:  # it was compressed: as it is, no topic would take it
        return _cut(letter, RECORD_LIMIT_BYTES)
    return letter


def _shortened(letter: Message) -> Message:
    """A letter that was too large for its topic, so that any broker takes it; one that was that short, by half."""
    size = len(letter.key or b"") + len(letter.value or b"")
    limit = min(TAKEN_ANYWHERE_BYTES, size // 2)
    key = letter.key and letter.key[: limit // 2]
    return _cut(letter, limit - len(key or b""))._replace(key=key)


def _cut(letter: Message, limit: int) -> Message:
    value = letter.value or b""
    headers = letter.headers
    if CUT not in dict(headers):  # the first time says how long it was
        headers += ((CUT, str(len(value)).encode()),)
    return letter._replace(value=value[:limit], headers=headers)
