"""Hostile deliveries to the webhook: changed, replayed, huge, endless, ambiguous. None is accepted, none harms another."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared import http as edge
from tests.faults.seeds import seeded
from tests.faults.sizes import size
from tests.payments.conftest import Payments, callback_body, new_payments, sign
from tests.payments.mutations import mutated
from tests.shared.sockets import exchange, listening

MUTATIONS = size(short=500, long=10_000)
MEGABYTE = 1_000_000
PROBLEM = b"application/problem+json"


@pytest.fixture
async def payments(run: Any) -> Payments:
    return await new_payments(run)


async def callbacks_of(payments: Payments) -> int:
    async with payments.running.service.db.transaction("t1") as conn:
        return await conn.fetchval("SELECT count(*) FROM callbacks")


@pytest.mark.timeout(size(short=120, long=900))
async def test_no_changed_delivery_is_accepted(payments: Payments):
    chance = seeded("changed deliveries")
    for _ in range(MUTATIONS):
        body = callback_body(transaction_id=f"x{chance.randrange(10**9)}")
        headers, changed = mutated(chance, sign(payments.secret, body), body)
        raw: Any = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = await payments.send(changed, raw)
        assert answer.status_code == 401, (headers, changed, answer.text)
    assert await payments.payments() == []
    assert await callbacks_of(payments) == 0


@pytest.mark.timeout(size(short=120, long=900))
async def test_a_changed_body_that_is_signed_is_refused_or_means_what_it_says(payments: Payments):
    """The gateway's own key, and a body that was damaged before it signed: 400 or recorded, and never an error of ours."""
    chance = seeded("damaged bodies")
    accepted = 0
    for number in range(MUTATIONS):
        body = bytearray(callback_body(transaction_id=f"x{number}", request_id="trip", payer={"name": "A"}, fee=3))
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(body))
            match chance.randrange(4):
                case 0:
                    body[place] ^= 1 << chance.randrange(8)
                case 1:
                    del body[place : place + chance.randrange(1, 30)]
                case 2:
                    body[place:place] = chance.choice(
                        [b"\0", b"\xff", b"9" * 50, b"[" * 500, b'"', b"{}", b"\\ud800", b"NaN"]
                    )
                case 3:
                    other = chance.randrange(len(body))
                    body[place:place] = body[other : other + 40]
        answer = await payments.send(bytes(body), sign(payments.secret, bytes(body)))
        assert answer.status_code in {200, 400}, (bytes(body), answer.text)
        accepted += answer.status_code == 200
    assert 0 < accepted < MUTATIONS / 2
    assert await callbacks_of(payments) == accepted


async def test_a_replay_counts_within_300_seconds_and_has_no_effect(payments: Payments):
    body = callback_body(transaction_id="x1")
    sent_at = int(datetime(2026, 3, 1, 8, tzinfo=UTC).timestamp())
    delivery = sign(payments.secret, body, webhook_id="msg_1", at=sent_at)
    answers = {}
    for after_s in (0, 0, 299, 300, 301, 3_600, -299, -301):
        now = datetime.fromtimestamp(sent_at, UTC) + timedelta(seconds=after_s)
        payments.running.service.app._webhooks._clock = lambda now=now: now
        answer = await payments.send(body, delivery)
        answers.setdefault(after_s, []).append((answer.status_code, answer.json().get("result")))
    assert answers == {
        0: [(200, "recorded"), (200, "duplicate")],
        299: [(200, "duplicate")],
        300: [(200, "duplicate")],
        301: [(401, None)],
        3_600: [(401, None)],
        -299: [(200, "duplicate")],
        -301: [(401, None)],
    }
    (payment,) = await payments.payments()
    assert payment["amount"] == 1000


def amounts(text: str) -> bytes:
    return callback_body().replace(b'"amount": 1000', f'"amount": {text}'.encode())


def with_extra(value: bytes) -> bytes:
    return callback_body().replace(b'"data"', b'"extra": ' + value + b', "data"')


MALFORMED = {
    "100,000 deep": b"[" * 100_000,
    "100,000 deep in a field": with_extra(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "100,000 deep amount": amounts("[" * 100_000),
    "NaN": amounts("NaN"),
    "infinite": amounts("Infinity"),
    "1e400": amounts("1e400"),
    "400 digits": amounts("9" * 400),
    "a million digits": amounts("9" * MEGABYTE),
    "named twice": amounts("1000, \"amount\": 1"),
    "named twice, once in disguise": amounts("1000, \"\\u0061mount\": 1"),
    "data twice": callback_body().replace(b'"data"', b'"data": {}, "data"'),
    "bad UTF-8": callback_body().replace(b'"mobile"', b'"mobile\xff"'),
    "bad UTF-8 where nobody looks": with_extra(b'"\xc3\x28"'),
    "UTF-16": callback_body().decode().encode("utf-16"),
    "nul": callback_body().replace(b'"mobile"', b'"mobile\\u0000"'),
    "half a surrogate": callback_body(transaction_id="@").replace(b"@", b"\\ud800"),
}  # fmt: skip


async def test_a_malformed_body_is_a_clear_refusal(payments: Payments):
    for name, body in MALFORMED.items():
        for headers, status in ((sign(payments.secret, body), 400), ({}, 401)):
            answer = await payments.send(body, headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM.decode()), (
                name,
                answer.text,
            )
            assert len(answer.content) < 2_000, name
    assert await callbacks_of(payments) == 0


async def test_endless_and_huge_bodies_are_refused_while_others_are_served(payments: Payments, monkeypatch):
    """Over a real socket: forty of them at once, and good deliveries in between."""
    monkeypatch.setattr(edge, "BODY_TIME_LIMIT_S", 1.0)
    path = f"/api/v1/webhooks/standard/{payments.account}"
    chunk = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
    huge = b" " * (10 * MEGABYTE)

    def head(*more: str, hang_up: bool = False) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "host: x", *(["connection: close"] if hang_up else []), *more, "", ""]
        return "\r\n".join(lines).encode()

    hostile = {
        b"413": [
            (head(f"content-length: {len(huge)}"), huge),
            (head("transfer-encoding: chunked"), *[chunk] * 100, b"0\r\n\r\n"),
        ],
        b"408": [
            (head("content-length: 100"), b'{"type": '),
            (head("transfer-encoding: chunked"), b'5\r\n{"a":\r\n'),
            (head("content-length: 100"),),
        ],
    }

    async def attack(port: int, status: bytes, parts: tuple[bytes, ...]) -> None:
        answer = await exchange(port, *parts)
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
        assert PROBLEM in answer

    async def deliver(port: int, number: int) -> None:
        body = callback_body(transaction_id=f"good-{number}")
        signed = [f"{name}: {value}" for name, value in sign(payments.secret, body).items()]
        answer = await exchange(port, head(*signed, f"content-length: {len(body)}", hang_up=True) + body)
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"result": "recorded"}

    async with listening(payments.running.service.app) as port:
        attacks = [attack(port, status, parts) for status, all_parts in hostile.items() for parts in all_parts * 8]
        await asyncio.gather(*attacks, *(deliver(port, number) for number in range(40)))
    assert len(await payments.payments(limit=100)) == 40
    assert await callbacks_of(payments) == 40
