"""The wire format of events: what is written is read back, what is newer is tolerated, what is broken is named."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from shared.events import EVENT_LIMIT_BYTES, Decoder, Event, Undecodable, encode
from shared.events.catalogue import ALL_EVENTS
from shared.events.payments import PaymentFailed, Share
from shared.events.tenants import TenantConfigured

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
PERSONAL = {"name", "phone", "email", "payer", "client", "address", "recipient", "body", "secret", "token"}


def sample(kind: Any) -> Any:
    """JSON for a field of this type, as an independent writer of the format would make it."""
    if isinstance(kind, msgspec.inspect.UnionType):
        return sample(next(t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType)))
    if isinstance(kind, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        return [sample(kind.item_type)]
    if isinstance(kind, msgspec.inspect.StructType):
        return {field.encode_name: sample(field.type) for field in kind.fields}
    return {
        msgspec.inspect.StrType: "text",
        msgspec.inspect.IntType: 7,
        msgspec.inspect.DateTimeType: "2026-03-01T08:00:00Z",
        msgspec.inspect.BoolType: True,
    }[type(kind)]


def described(event: type[Event]) -> msgspec.inspect.StructType:
    found = msgspec.inspect.type_info(event)
    assert isinstance(found, msgspec.inspect.StructType)
    return found


def envelope(event: type[Event], **changes: Any) -> dict[str, Any]:
    whole = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "/takings/payments",
        "type": event.TYPE,
        "subject": "p1",
        "time": "2026-03-01T08:00:00Z",
        "tenantid": "t1",
        "datacontenttype": "application/json",
        "data": sample(described(event)),
    }
    return whole | changes


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


every_event = pytest.mark.parametrize("event", ALL_EVENTS, ids=lambda event: event.TYPE)


@every_event
def test_what_is_encoded_is_read_back(event):
    data = msgspec.convert(sample(described(event)), event)
    event_id = uuid4()
    text = encode(data, event_id=event_id, service="s", subject="k", time=NOW, tenant_id="t1", traceparent="00-x")
    received = Decoder([event]).decode(b"k", text.encode())
    assert received is not None
    assert (received.id, received.type, received.subject, received.time) == (event_id, event.TYPE, "k", NOW)
    assert (received.tenant_id, received.data, received.traceparent) == ("t1", data, "00-x")
    written = json.loads(text)
    assert (written["specversion"], written["source"], written["tenantid"]) == ("1.0", "/takings/s", "t1")


@every_event
def test_unknown_fields_are_ignored(event):
    whole = envelope(event, novelty={"deep": [1]}, partitionkey="x")
    whole["data"]["something_new"] = {"nested": True}
    received = Decoder([event]).decode(b"p1", as_bytes(whole))
    assert received is not None
    assert received.data == msgspec.convert(sample(described(event)), event)


@every_event
def test_a_missing_or_retyped_field_is_undecodable(event):
    decoder = Decoder([event])
    for field in described(event).fields:
        for wrong in ({"an": "object"}, "99 bottles" if not isinstance(sample(field.type), str) else 99):
            broken = envelope(event)
            broken["data"][field.encode_name] = wrong
            with pytest.raises(Undecodable):
                decoder.decode(b"p1", as_bytes(broken))
        without = envelope(event)
        del without["data"][field.encode_name]
        if field.required:
            with pytest.raises(Undecodable, match=field.encode_name):
                decoder.decode(b"p1", as_bytes(without))
        else:
            assert decoder.decode(b"p1", as_bytes(without)) is not None


@pytest.mark.parametrize("field", ["id", "source", "type", "subject", "time", "tenantid", "data"])
def test_a_missing_or_retyped_envelope_field_is_undecodable(field):
    decoder = Decoder([TenantConfigured])
    for broken in ({k: v for k, v in envelope(TenantConfigured).items() if k != field},
                   envelope(TenantConfigured, **{field: [1]})):  # fmt: skip
        with pytest.raises(Undecodable):
            decoder.decode(b"p1", as_bytes(broken))


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b" ",
        b"null",
        b"[]",
        b"7",
        b"not json",
        b'{"id": ',
        b"\xff\xfe\x00",
        b'"\xc3\x28"',
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        as_bytes(envelope(TenantConfigured, id="not-a-uuid")),
        as_bytes(envelope(TenantConfigured, time="yesterday")),
        as_bytes(envelope(TenantConfigured, tenantid="")),
        as_bytes(envelope(TenantConfigured, tenantid="a,b")),
        as_bytes(envelope(TenantConfigured, tenantid="a\0b")),
        as_bytes(envelope(TenantConfigured)).replace(b'"version": 7', b'"version": NaN'),
        as_bytes(envelope(TenantConfigured)).replace(b'"version": 7', b'"version": 7.5'),
        as_bytes(envelope(TenantConfigured)).replace(b'"name": "text"', b'"name": "\xff"'),
        as_bytes(envelope(TenantConfigured)).replace(b'"version": 7', b'"version": ' + b"[" * 100_000),
        as_bytes(envelope(TenantConfigured)).replace(b'"data"', b'"extra": ' + b"[" * 100_000 + b', "data"'),
    ],
    ids=range(23),
)
def test_what_nobody_could_apply_is_undecodable(value):
    with pytest.raises(Undecodable):
        Decoder([TenantConfigured]).decode(b"p1", value)


def test_a_type_that_is_only_known_is_skipped_whatever_its_key_and_data():
    whole = envelope(TenantConfigured, data={"x": None})
    assert Decoder([], known=[TenantConfigured]).decode(None, as_bytes(whole)) is None


def test_a_type_that_nobody_knows_is_undecodable():
    decoder = Decoder([TenantConfigured], known=ALL_EVENTS)
    with pytest.raises(Undecodable, match=r"^unknown type 'invented-tomorrow'$"):
        decoder.decode(b"p1", as_bytes(envelope(TenantConfigured, type="invented-tomorrow")))
    with pytest.raises(Undecodable, match="unknown type"):
        Decoder([]).decode(b"p1", as_bytes(envelope(TenantConfigured)))


@pytest.mark.parametrize(
    ("key", "reason"),
    [(None, "no key"), (b"p2", "the key is not the subject"), (b"\xff", "the key is not the subject")],
)
def test_an_event_under_another_key_than_its_subject_is_undecodable(key, reason):
    with pytest.raises(Undecodable, match=f"^{reason}$"):
        Decoder([TenantConfigured]).decode(key, as_bytes(envelope(TenantConfigured)))


def test_the_largest_event_that_can_be_caused_is_far_from_the_limit():
    """Every text as long as the APIs take it, of characters of four bytes, and a hundred payees."""
    wide = "\U0001f4b8" * 200
    texts = dict.fromkeys(
        ("payment_id", "account_id", "transaction_id", "request_id", "client_id", "fleet_id", "route_id", "vehicle_id",
         "platform"), wide)  # fmt: skip
    payees = tuple(Share(wide, 10_000) for _ in range(100))
    event = PaymentFailed(
        **texts, amount=10**15, currency="KES", method="m" * 32, paid_at=NOW, payees=payees, failure_code=wide * 5
    )
    text = encode(event, event_id=uuid4(), service="payments", subject=wide, time=NOW, tenant_id=wide, traceparent=wide)
    assert len(text.encode()) < EVENT_LIMIT_BYTES / 2


def test_what_is_too_large_is_refused_before_it_is_read():
    large = as_bytes(envelope(TenantConfigured, padding="x" * EVENT_LIMIT_BYTES))
    with pytest.raises(Undecodable, match=f"^too large: {len(large)} bytes$"):
        Decoder([TenantConfigured]).decode(b"p1", large)


def test_types_are_unique_and_every_event_names_its_topic():
    assert len({event.TYPE for event in ALL_EVENTS}) == len(ALL_EVENTS) >= 11
    assert {event.TOPIC for event in ALL_EVENTS} == {"payments", "payouts", "tenants"}


@every_event
def test_no_event_has_a_field_for_personal_data(event):
    found = set()

    def walk(kind: Any) -> None:
        if isinstance(kind, msgspec.inspect.StructType):
            for field in kind.fields:
                found.update(field.encode_name.split("_") if field.encode_name != "client_id" else [])
                walk(field.type)
        elif isinstance(kind, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
            walk(kind.item_type)
        elif isinstance(kind, msgspec.inspect.UnionType):
            for one in kind.types:
                walk(one)

    walk(described(event))
    assert found & PERSONAL == ({"name"} if event is TenantConfigured else set())  # of a company, not of a person


@every_event
def test_events_are_frozen(event):
    data = msgspec.convert(sample(described(event)), event)
    with pytest.raises(AttributeError):
        setattr(data, described(event).fields[0].name, "changed")
