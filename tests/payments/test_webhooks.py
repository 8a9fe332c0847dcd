"""The webhook edge: only what the gateway signed gets in, only once it counts, and what cannot be applied is kept."""

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from standardwebhooks import Webhook

from services.payments.callbacks import retry_due
from services.payments.gateway_accounts import Accounts, Vault, rotate_secret
from services.payments.gateways import BadCallback, BadSignature
from services.payments.gateways.standard import StandardGateway
from services.payments.models import Callback
from services.payments.record_payments import record_payments
from services.payments.settings import Settings
from shared.audit import Actor
from shared.ids import new_id
from tests.conftest import SHARED_FILES, connected, environment
from tests.payments.conftest import Payments, another_tenant, callback_body, sign
from tests.payments.mutations import mutated

GATEWAY = StandardGateway()
NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
VECTORS = SHARED_FILES / "formats/standard_webhooks/vectors.json"
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def vectors():
    return json.loads(VECTORS.read_text()) if VECTORS.exists() else []


def verify(headers, body, *secrets, at=NOW):
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    return GATEWAY.verify(raw, body, secrets, now=at)


@pytest.mark.skipif(not VECTORS.exists(), reason=f"the sample vectors are not at {VECTORS}")
def test_every_sample_vector():
    known = vectors()
    assert len(known) >= 9
    assert {vector["valid"] for vector in known} == {True, False}
    for vector in known:
        at = datetime.fromtimestamp(vector["now"], UTC)
        try:
            given = verify(vector["headers"], vector["body"].encode(), vector["key"], at=at)
        except BadSignature:
            given = None
        assert given == (vector["headers"]["webhook-id"] if vector["valid"] else None), vector["name"]


def test_what_the_specifications_own_library_signs_is_accepted():
    for body in (b'{"a": 1}', callback_body(payer={"name": "Zo\u00eb"}), '{"\u20ac": 1}'.encode()):
        for secret in (SECRET, SECRET.removeprefix("whsec_"), GATEWAY.new_secret()):
            signature = Webhook(secret).sign("msg_1", NOW, body.decode())
            headers = {
                "webhook-id": "msg_1",
                "webhook-timestamp": str(int(NOW.timestamp())),
                "webhook-signature": signature,
            }
            assert verify(headers, body, secret) == "msg_1"


@pytest.mark.parametrize(("seconds", "accepted"), [(0, True), (299, True), (300, True), (301, False), (86_400, False)])
@pytest.mark.parametrize("direction", [-1, 1])
def test_the_clocks_may_differ_by_300_seconds_both_ways(seconds, accepted, direction):
    body = callback_body()
    headers = sign(SECRET, body, at=int(NOW.timestamp()) + direction * seconds)
    if accepted:
        verify(headers, body, SECRET)
    else:
        with pytest.raises(BadSignature):
            verify(headers, body, SECRET)


def test_any_of_several_secrets_and_any_of_several_signatures_will_do():
    body, other = callback_body(), GATEWAY.new_secret()
    headers = sign(SECRET, body, at=int(NOW.timestamp()))
    assert verify(headers, body, other, SECRET)
    for secrets in ((other,), ()):
        with pytest.raises(BadSignature):
            verify(headers, body, *secrets)
    good, wrong = headers["webhook-signature"], sign(other, body, at=int(NOW.timestamp()))["webhook-signature"]
    assert verify({**headers, "webhook-signature": f"{wrong} v1a,xyz {good}"}, body, SECRET)
    with pytest.raises(BadSignature):
        verify({**headers, "webhook-signature": f"{wrong} v2,{good[3:]}"}, body, SECRET)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("instead", [None, ""])
def test_each_header_is_needed(missing, instead):
    body = callback_body()
    headers = {**sign(SECRET, body, at=int(NOW.timestamp())), missing: instead}
    with pytest.raises(BadSignature):
        verify({name: value for name, value in headers.items() if value is not None}, body, SECRET)


@pytest.mark.parametrize("timestamp", ["", "soon", "-1", "1.5", " 1", "1e9", "9" * 13, "9" * 5_000, "\u0661"])
def test_an_odd_timestamp_is_a_bad_signature(timestamp):
    body = callback_body()
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.digest(key, f"m.{timestamp}.".encode() + body, hashlib.sha256)
    raw = {b"webhook-id": b"m", b"webhook-timestamp": timestamp.encode(),
           b"webhook-signature": b"v1," + base64.b64encode(digest)}  # fmt: skip
    with pytest.raises(BadSignature):
        GATEWAY.verify(raw, body, [SECRET], now=NOW)


def test_none_of_ten_thousand_mutations_is_accepted():
    choice = random.Random(1)
    body = callback_body(transaction_id="x1", request_id="q1")
    headers = sign(SECRET, body, webhook_id="msg_1", at=int(NOW.timestamp()))
    assert verify(headers, body, SECRET) == "msg_1"
    for _ in range(10_000):
        changed = mutated(choice, headers, body)
        with pytest.raises(BadSignature):
            verify(*changed, SECRET)


async def test_unknown_accounts_and_bad_signatures_look_the_same(payments: Payments):
    body = callback_body()
    good = sign(payments.secret, body)
    other_account = await payments.http.post(
        "/api/v1/gateway-accounts", json={"gateway": "standard"}, headers=payments.running.as_("admin")
    )
    refusals = [
        await payments.http.post(f"/api/v1/webhooks/standard/{account}", content=body, headers=good)
        for account in (
            "t1.0123456789abcdef",
            "t2.0123456789abcdef",
            "nonsense",
            "t1.",
            ".x",
            other_account.json()["id"],
        )
    ]
    refusals.append(await payments.send(body, {**good, "webhook-signature": "v1,AAAA"}))
    refusals.append(await payments.send(body, {}))
    refusals.append(await payments.send(b"not json", {}))
    refusals.append(await payments.send(body, sign(payments.secret, body, at=1)))
    bodies = []
    for answer in refusals:
        assert answer.status_code == 401
        said = answer.json()
        assert said.pop("request_id") == answer.headers["x-request-id"]
        bodies.append((said, {n: v for n, v in answer.headers.items() if n not in {"x-request-id", "content-length"}}))
    assert bodies == [bodies[0]] * len(bodies)
    assert await payments.payments() == []


def broken(**changes):
    """A body with some of its `data` replaced (a value of ... is left out)."""
    whole = json.loads(callback_body())
    whole["data"] = {name: value for name, value in {**whole["data"], **changes}.items() if value is not ...}
    return json.dumps(whole).encode()


def outer(**changes):
    whole = {name: value for name, value in {**json.loads(callback_body()), **changes}.items() if value is not ...}
    return json.dumps(whole).encode()


def literal(name, text):
    """A body in which the value of a field of `data` stands as this very text."""
    return broken(**{name: "@@"}).replace(b'"@@"', text.encode())


NOT_EVENTS = [
    b"", b" ", b"not json", b"[]", b"null", b"7", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"data":' * 50_000,
    outer(type="payment.invented"), outer(type=...), outer(type=7), outer(data=...), outer(data=[]), outer(data=None),
    outer(timestamp=...), outer(timestamp="yesterday"), outer(timestamp="2026-03-01T08:00:00"),
    *(broken(**{name: ...}) for name in ("transaction_id", "amount", "currency", "method", "paid_at")),
    *(literal("amount", text) for text in ("NaN", "Infinity", "1e400", "1e3", "10.0", "10.5", "-1", "-0", "0", "true",
                                           "null", '"10"', "[10]", "1000000000000001", "9" * 400)),
    *(literal("fee", text) for text in ("NaN", "-1", "1.5", '"1"', "9" * 400)),
    *(broken(currency=value) for value in ("KE", "kes", "ABC", "XAU", "", "KES\n", 7, None)),
    *(broken(method=value) for value in ("", "M PESA", "x" * 33, "cash\n", "\u00e9", None)),
    *(broken(paid_at=value) for value in ("", "now", "2026-03-01", "2026-03-01T08:00:00", "2026-13-01T08:00:00Z",
                                          "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", 1_700_000_000, None)),
    broken(transaction_id=""),
    *(broken(**{name: value}) for name in ("transaction_id", "request_id")
      for value in ("\0", "a\0b", "a\nb", "\x7f", "x" * 201, 7, ["x"])),
    literal("transaction_id", r'"\ud800"'), literal("transaction_id", r'"\u0000"'), literal("transaction_id", '"\xff"'),
    broken(payer="Amina"), broken(payer={"name": "a\0b"}), broken(payer={"name": 7}),
    broken(paid_at="1999-12-31T23:59:59Z"), broken(paid_at="2100-01-01T00:00:00Z"),
    broken(failure={"code": "c", "message": "\0"}), broken(failure="x"),
    callback_body().replace(b'"amount": 1000', b'"amount": 1000, "amount": 1000'),
    callback_body().replace(b'"amount": 1000', b'"amount": 1, "\\u0061mount": 1000'),
    callback_body().replace(b'"data"', b'"data": null, "data"'),
    callback_body().replace(b'"data"', b'"extra": "\xff", "data"'),
]  # fmt: skip
NOT_EVENTS[NOT_EVENTS.index(literal("transaction_id", '"\xff"'))] = literal("transaction_id", '"@"').replace(
    b'"@"', b'"\xff"'
)


@pytest.mark.parametrize("index", range(len(NOT_EVENTS)))
def test_a_body_that_is_no_event_is_a_bad_callback(index):
    with pytest.raises(BadCallback):
        GATEWAY.parse(Callback(new_id(), "msg_1", NOT_EVENTS[index], NOW), tenant_id="t1", account_id="a")


async def test_a_signed_body_that_is_no_event_is_400_and_leaves_nothing(payments: Payments):
    for body in NOT_EVENTS:
        answer = await payments.send(body, sign(payments.secret, body))
        assert answer.status_code == 400, (body[:100], answer.text)
        assert answer.json()["type"] == "urn:takings:problem:not-a-callback"
    async with connected(payments.running.urls.app, "t1") as conn:
        for table in ("payments", "callbacks", "requests"):
            assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608


async def test_the_limits_of_an_event_are_accepted(payments: Payments):
    for index, data in enumerate(
        [
            {"amount": 1},
            {"amount": 10**15, "fee": 10**15, "currency": "JPY"},
            {"transaction_id": "x" * 200, "request_id": "y" * 200},
            {"transaction_id": "\U0001f4b8 \u00e9'\";--"},
            {"paid_at": "2026-03-01T08:00:00.123456+14:00"},
            {"paid_at": "2000-01-01T00:00:00Z"},
            {"payer": {}, "failure": None, "unknown_field": [1]},
        ]
    ):
        answer = await payments.callback(**data)
        assert (answer.status_code, answer.json()) == (200, {"result": "recorded"}), (index, answer.text)


async def test_rotation_keeps_the_old_secret_for_a_day(payments: Payments):
    running = payments.running
    async with connected(running.urls.app, "t1") as conn:
        sealed = await conn.fetchval("SELECT encrypted FROM gateway_secrets")
    key = (await payments.callback()).json()
    assert key == {"result": "recorded"}
    assert payments.secret.encode() not in sealed
    answer = await payments.http.post(
        f"/api/v1/gateway-accounts/{payments.account}/rotate", headers=running.as_("admin")
    )
    new = answer.json()["secret"]
    assert new != payments.secret

    async def works(secret):
        body = callback_body()
        return (await payments.send(body, sign(secret, body))).status_code == 200

    async with asyncio.timeout(2):
        while not await works(new):  # within a second, says the contract
            await asyncio.sleep(0.05)
    assert await works(payments.secret)


async def test_an_expired_secret_is_gone_a_day_after_the_rotation(database, issuer):
    from shared.db import Database

    urls = await database("payments")
    db = Database(urls.app, "test")
    vault = Vault(Settings(**environment("payments", urls, issuer)).secrets_keys.get_secret_value())
    async with db.transaction("t1") as conn:
        await conn.execute("INSERT INTO gateway_accounts VALUES ('t1', 't1.abc', 'standard', 'n', $1)", NOW)
        first = await rotate_secret(conn, vault, tenant_id="t1", account_id="t1.abc", actor=Actor("a"), now=NOW)
        second = await rotate_secret(
            conn, vault, tenant_id="t1", account_id="t1.abc", actor=Actor("a"), now=NOW + timedelta(hours=1)
        )
    day_later = NOW + timedelta(hours=25)
    for at, secrets in (
        (day_later - timedelta(seconds=1), (second.secret, first.secret)),
        (day_later, (second.secret,)),
    ):
        account = await Accounts(db, vault).find("t1.abc", now=at)  # a new one each: nothing cached
        assert account.secrets == secrets
    await db.close()


async def test_a_new_account_is_usable_at_once(payments: Payments):
    for _ in range(3):
        opened = (
            await payments.http.post(
                "/api/v1/gateway-accounts", json={"gateway": "standard"}, headers=payments.running.as_("system")
            )
        ).json()
        body = callback_body()
        answer = await payments.http.post(
            f"/api/v1/webhooks/standard/{opened['id']}", content=body, headers=sign(opened["secret"], body)
        )
        assert (answer.status_code, answer.json()) == (200, {"result": "recorded"})


REFUSE_ONE = """
CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.transaction_id = 'poison' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse_poison BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION refuse_poison();
"""
REFUSE_ALL = """
CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION refuse_all();
"""
CALLBACKS = "SELECT webhook_id, body, handled_at, payment_id, attempts, error FROM callbacks ORDER BY received_at"


async def sweep(payments: Payments, *, later_s: float) -> int:
    service = payments.running.service

    async def record(receipt):
        (recorded,) = await service.db.run(
            lambda conn: record_payments(conn, [receipt], now=datetime.now(UTC)), receipt.tenant_id, lock_limit_ms=100
        )
        return recorded

    return await retry_due(service.db, service.system_db, record, now=datetime.now(UTC) + timedelta(seconds=later_s))


async def test_a_callback_whose_applying_fails_is_kept_and_gets_its_effect_exactly_once(payments: Payments):
    owner = await asyncpg.connect(payments.running.urls.owner)
    await owner.execute(REFUSE_ONE)
    request = await payments.request(1000)
    poison = callback_body(request_id=request["id"], transaction_id="poison", payer={"name": "Amina"})
    fine = [callback_body(transaction_id=f"x{n}") for n in range(20)]
    answers = await asyncio.gather(
        *(payments.send(body, sign(payments.secret, body)) for body in (*fine[:10], poison, *fine[10:]))
    )
    results = [answer.json()["result"] for answer in answers]
    assert [answer.status_code for answer in answers] == [200] * 21
    assert (results[10], results[:10] + results[11:]) == ("stored", ["recorded"] * 20)
    assert (await payments.see(request["id"]))["status"] == "pending_payment"

    async def kept():
        async with connected(payments.running.urls.app, "t1") as conn:
            return [row for row in await conn.fetch(CALLBACKS) if row["body"] == poison]

    (row,) = await kept()
    assert (row["handled_at"], row["payment_id"], row["attempts"]) == (None, None, 1)
    assert "not this one" in row["error"]

    assert await sweep(payments, later_s=0) == 0  # not due yet
    assert await sweep(payments, later_s=60) == 1  # still refused: it stays, and waits longer
    (row,) = await kept()
    assert (row["handled_at"], row["attempts"]) == (None, 2)
    assert (await payments.see(request["id"]))["paid"] == 0

    await owner.execute("DROP TRIGGER refuse_poison ON payments")
    await owner.close()
    assert await sweep(payments, later_s=3_600) == 1
    (row,) = await kept()
    (payment,) = [p for p in await payments.payments() if p["transaction_id"] == "poison"]
    assert (row["handled_at"] is not None, str(row["payment_id"]), row["error"]) == (True, payment["id"], None)
    seen = await payments.see(request["id"])
    assert (seen["status"], seen["paid"]) == ("completed", 1000)
    assert await sweep(payments, later_s=7_200) == 0
    assert (await payments.send(poison, sign(payments.secret, poison))).json() == {"result": "duplicate"}
    assert (await payments.see(request["id"]))["paid"] == 1000


async def test_two_sweeps_at_once_give_one_effect(payments: Payments):
    owner = await asyncpg.connect(payments.running.urls.owner)
    await owner.execute(REFUSE_ONE)
    request = await payments.request(1000)
    assert (await payments.callback(request_id=request["id"], transaction_id="poison")).json() == {"result": "stored"}
    await owner.execute("DROP TRIGGER refuse_poison ON payments")
    await owner.close()
    await asyncio.gather(*(sweep(payments, later_s=60) for _ in range(4)))
    assert (await payments.see(request["id"]))["paid"] == 1000
    async with connected(payments.running.urls.app, "t1") as conn:
        assert await conn.fetchval("SELECT count(*) FROM outbox WHERE topic = 'payments'") == 1


async def test_a_request_that_somebody_holds_stops_nobody_else(payments: Payments):
    other = await another_tenant(payments)
    request = await payments.request(1000)
    held = callback_body(request_id=request["id"], transaction_id="held")
    async with connected(payments.running.urls.app, "t1") as holder, holder.transaction():
        await holder.execute("SELECT FROM requests WHERE request_id = $1 FOR UPDATE", request["id"])
        started = time.monotonic()
        answers = await asyncio.gather(
            *(payments.callback(transaction_id=f"x{n}") for n in range(5)),
            payments.send(held, sign(payments.secret, held)),
            *(who.callback(transaction_id=f"y{n}") for n in range(10) for who in (payments, other)),
        )
        took_s = time.monotonic() - started
    refused = answers.pop(5)
    assert [answer.json() for answer in answers] == [{"result": "recorded"}] * 25
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert took_s < 3
    assert (await payments.send(held, sign(payments.secret, held))).json() == {"result": "recorded"}
    assert (await payments.see(request["id"]))["paid"] == 1000
    async with connected(payments.running.urls.app, "t1", "t2") as conn:
        assert await conn.fetchval("SELECT count(*) FROM payments") == 26
        assert await conn.fetchval("SELECT count(*) FROM callbacks WHERE handled_at IS NOT NULL") == 26
        assert await conn.fetchval("SELECT count(*) FROM outbox WHERE topic = 'payments'") == 26


async def test_a_stored_callback_whose_request_is_held_stops_no_other(payments: Payments):
    owner = await asyncpg.connect(payments.running.urls.owner)
    await owner.execute(REFUSE_ALL)
    request = await payments.request(1000)
    for data in ({"request_id": request["id"], "transaction_id": "held"}, {"transaction_id": "free"}):
        assert (await payments.callback(**data)).json() == {"result": "stored"}
    await owner.execute("DROP TRIGGER refuse ON payments")
    await owner.close()
    async with connected(payments.running.urls.app, "t1") as holder, holder.transaction():
        await holder.execute("SELECT FROM requests WHERE request_id = $1 FOR UPDATE", request["id"])
        assert await sweep(payments, later_s=60) == 2
        assert [payment["transaction_id"] for payment in await payments.payments()] == ["free"]
    assert await sweep(payments, later_s=3_600) == 1
    assert (await payments.see(request["id"]))["paid"] == 1000


async def test_every_delivery_is_kept_byte_for_byte(payments: Payments):
    body = callback_body(transaction_id="x1").replace(b", ", b" ,\t ")
    for number in range(3):
        await payments.send(body, sign(payments.secret, body, webhook_id=f"msg_{number}"))
    async with connected(payments.running.urls.app, "t1") as conn:
        rows = await conn.fetch(CALLBACKS)
    assert [row["webhook_id"] for row in rows] == ["msg_0", "msg_1", "msg_2"]
    assert {row["body"] for row in rows} == {body}
    assert len({row["payment_id"] for row in rows}) == 1
    assert all(row["handled_at"] for row in rows)
