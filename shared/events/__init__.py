"""Events between services: the CloudEvents 1.0 envelope, and one frozen class per event in the module of its publisher."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec

EVENT_LIMIT_BYTES = 256 * 1024  # no event of ours comes near; a record beyond it is not one
NAME_LIMIT = 100


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of an event. Unknown fields are ignored, so adding an optional field breaks no reader."""

    TYPE: ClassVar[str]
    TOPIC: ClassVar[str]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """CloudEvents 1.0 in structured JSON."""

    id: UUID
    source: str
    type: str
    subject: str
    time: datetime
    tenantid: str
    data: msgspec.Raw
    specversion: str = "1.0"
    datacontenttype: str = "application/json"
    traceparent: str | None = None


class Undecodable(ValueError):
    """The record is not an event that anybody could apply; the text says why."""


class Received(msgspec.Struct, frozen=True):
    """A decoded event as a consumer sees it."""

    id: UUID
    type: str
    subject: str
    time: datetime
    tenant_id: str
    data: Any  # an Event of the type
    traceparent: str | None


Apply = Callable[[Sequence[Received]], Awaitable[None]]

_decode_envelope = msgspec.json.Decoder(Envelope).decode
_encode = msgspec.json.Encoder().encode


def encode(
    event: Event, *, event_id: UUID, service: str, subject: str, time: datetime, tenant_id: str, traceparent: str | None
) -> str:
    """The JSON text of `event` in its envelope."""
    envelope = Envelope(
        id=event_id,
        source=f"/takings/{service}",
        type=event.TYPE,
        subject=subject,
        time=time,
        tenantid=tenant_id,
        data=msgspec.Raw(_encode(event)),
        traceparent=traceparent,
    )
    return _encode(envelope).decode()


class Decoder:
    """Decodes the events of the types `handled`; those that are only `known` are skipped."""

    def __init__(self, handled: Iterable[type[Event]], *, known: Iterable[type[Event]] = ()) -> None:
        self._decoders = {kind.TYPE: msgspec.json.Decoder(kind).decode for kind in handled}
        self._known = frozenset(kind.TYPE for kind in known)

    def decode(self, key: bytes | None, value: bytes | None) -> Received | None:
        """The event in a record, or None for a type that others handle. Raises Undecodable."""
        if value is None:
            raise Undecodable("no value")
        if len(value) > EVENT_LIMIT_BYTES:
            raise Undecodable(f"too large: {len(value)} bytes")
        event = self.decode_value(value)
        if event is None:
            return None
        if key is None:
            raise Undecodable("no key")
        if key != event.subject.encode():
            raise Undecodable("the key is not the subject")  # such an event overtakes others of its aggregate
        return event

    def decode_value(self, value: bytes) -> Received | None:
        """The event in `value`, wherever it is kept, or None for a type that others handle. Raises Undecodable."""
        try:
            envelope = _decode_envelope(value)
            decode_data = self._decoders.get(envelope.type)
            if decode_data is None:
                if envelope.type in self._known:
                    return None
                raise Undecodable(f"unknown type {envelope.type[:NAME_LIMIT]!r}")
            data = decode_data(envelope.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(f"undecodable: {error}") from error
        if not envelope.tenantid or "," in envelope.tenantid or "\0" in envelope.tenantid:
            raise Undecodable("no usable tenantid")
        return Received(
            envelope.id, envelope.type, envelope.subject, envelope.time, envelope.tenantid, data, envelope.traceparent
        )


def subject_of(value: bytes) -> str | None:
    """The aggregate that the event in `value` is about, whatever its type; None where there is no event."""
    try:
        return _decode_envelope(value).subject
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
