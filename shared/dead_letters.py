"""A record that cannot be applied, as it is set aside in its dead-letter topic."""

from datetime import datetime

from aiokafka import ConsumerRecord

from shared.publisher import DEAD_LETTER_SUFFIX, RECORD_LIMIT_BYTES, Message

HEADER_LIMIT = 1_000
TAKEN_ANYWHERE_BYTES = 1_000_000  # a topic that nobody has set takes 1 MiB, headers included
CUT = "cut-from-bytes"


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


def shortened(letter: Message) -> Message:
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
