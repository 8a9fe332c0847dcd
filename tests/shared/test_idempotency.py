"""`Idempotency-Key`: one effect, the first answer again to the byte, and a key that a crash has not used up."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import asyncpg
import pytest
from starlette.requests import Request

from services.payments.books import await_requests
from shared.auth import Principal, Role
from shared.errors import Conflict
from shared.events.payments import Share
from shared.idempotency import once
from tests.conftest import connected
from tests.payments.conftest import create_tenant, new_request
from tests.payouts.conftest import new_payouts, paid

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
BREAK = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION refuse();
"""


class Till:
    """Records cash for requests of 1,000."""

    def __init__(self, running):
        self.running, self.http = running, running.http

    async def request(self, *, tenant="t1", **fields):
        body = new_request(**fields)
        answer = await self.http.post("/api/v1/requests", json=body, headers=self.running.as_("system", tenant=tenant))
        assert answer.status_code == 201, answer.text
        return body["id"]

    async def pay(self, request_id, key, *, transaction="x1", amount=1000, tenant="t1", path="", role="finance"):
        body = {"request_id": request_id, "transaction_id": transaction, "amount": amount, "currency": "KES",
                "method": "cash", "paid_at": "2026-03-01T09:00:00Z"}  # fmt: skip
        headers = self.running.as_(role, tenant=tenant)
        if key is not None:
            headers["idempotency-key"] = key
        content = {"items": [body]} if path else body
        return await self.http.post(f"/api/v1/payments{path}", json=content, headers=headers)

    async def recorded(self, tenant="t1"):
        async with connected(self.running.urls.app, tenant) as conn:
            return await conn.fetchval("SELECT count(*) FROM payments")


@pytest.fixture
async def till(run):
    running = await run("payments")
    await create_tenant(running)
    return Till(running)


@pytest.mark.parametrize("path", ["", "/batch"])
async def test_the_same_again_is_the_first_answer_byte_for_byte(till, path):
    request_id = await till.request()
    first = await till.pay(request_id, "key-1", path=path)
    again = await till.pay(request_id, "key-1", path=path)
    assert first.status_code == (200 if path else 201), first.text  # without the key the second would differ
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["content-type"] == first.headers["content-type"] == "application/json"
    without = await till.pay(request_id, None, path=path)
    assert (without.status_code, without.content) != (first.status_code, first.content)
    assert await till.recorded() == 1


async def test_another_body_or_another_route_under_a_used_key_is_422(till):
    request_id = await till.request()
    first = await till.pay(request_id, "key-1", amount=1000)
    assert first.status_code == 201
    for other in (
        await till.pay(request_id, "key-1", transaction="x2"),
        await till.pay(request_id, "key-1", amount=999),
        await till.pay(request_id, "key-1", path="/batch"),
    ):
        assert other.status_code == 422, other.text
        assert other.json()["type"] == "urn:takings:problem:idempotency-key-reused"
        assert other.headers["content-type"] == "application/problem+json"
    assert await till.recorded() == 1
    assert (await till.pay(request_id, "key-1")).content == first.content


async def test_many_at_once_have_one_effect_and_one_answer(till):
    request_id = await till.request()
    for round_ in range(5):
        barrier = asyncio.Barrier(6)

        async def pay(barrier=barrier, key=f"key-{round_}", transaction=f"x{round_}"):
            await barrier.wait()
            return await till.pay(request_id, key, transaction=transaction, path="/batch")

        answers = await asyncio.gather(*(pay() for _ in range(6)))
        assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
        wanted = 201 if round_ == 0 else 422  # after the first round nothing is due any more
        assert answers[0].json()["results"][0]["status"] == wanted
    assert await till.recorded() == 1


async def test_a_refusal_is_an_answer_too(till):
    request_id = await till.request()
    refused = await till.pay(request_id, "key-1", amount=400)
    assert refused.status_code == 422
    assert refused.json()["type"].endswith("amount-mismatch")
    again = await till.pay(request_id, "key-1", amount=400)
    assert (again.status_code, again.content) == (422, refused.content)
    assert again.headers["content-type"] == "application/problem+json"
    assert await till.recorded() == 0


@pytest.mark.parametrize("fails", [False, True], ids=["its writes", "a statement's error"])
async def test_a_refusal_undoes_what_came_before_it_and_keeps_the_key(till, fails):
    runs = []

    async def effect(conn):
        runs.append(1)
        await await_requests(conn, [("t1", "r1")], now=NOW)
        if fails:
            with suppress(asyncpg.DivisionByZeroError):
                await conn.execute("SELECT 1 / 0")
        raise Conflict("Not now.")

    caller = Principal("s", frozenset({Role.SYSTEM}), "t1", frozenset(), None, None)
    answers = [
        await once(_request(), till.running.service.db, effect, caller=caller, key="k", now=NOW) for _ in range(2)
    ]
    assert {(answer.status_code, answer.body) for answer in answers} == {(409, answers[0].body)}
    assert len(runs) == 1
    async with connected(till.running.urls.app, "t1") as conn:
        assert await conn.fetchval("SELECT count(*) FROM requests") == 0


def _request():
    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": [], "server": ("t", 80)}
    return Request(scope, receive)


async def test_a_conflict_is_replayed_though_the_reason_is_gone(till):
    """A 409 under a key stays a 409: whoever asks again with the same key asks about that first time."""
    request_id = await till.request()
    headers = {**till.running.as_("system"), "idempotency-key": "k409"}
    other = new_request(id=request_id, amount=77)
    refused = await till.http.post("/api/v1/requests", json=other, headers=headers)
    assert refused.status_code == 409, refused.text
    owner = await asyncpg.connect(till.running.urls.superuser)
    await owner.execute("DELETE FROM requests")
    await owner.close()
    again = await till.http.post("/api/v1/requests", json=other, headers=headers)
    assert (again.status_code, again.content) == (409, refused.content)


async def test_an_unexpected_error_leaves_the_key_unused(till):
    request_id = await till.request()
    owner = await asyncpg.connect(till.running.urls.owner)
    await owner.execute(BREAK)
    broken = await till.pay(request_id, "key-1")
    assert broken.status_code == 500
    assert await till.recorded() == 0
    await owner.execute("DROP TRIGGER refuse ON payments")
    await owner.close()
    assert (await till.pay(request_id, "key-1")).status_code == 201
    assert await till.recorded() == 1


async def test_a_key_belongs_to_its_tenant(till):
    await create_tenant(till.running, "t2")
    ours, theirs = await till.request(), await till.request(tenant="t2")
    first = await till.pay(ours, "key-1")
    second = await till.pay(theirs, "key-1", tenant="t2")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    assert (await till.recorded("t1"), await till.recorded("t2")) == (1, 1)


async def test_a_key_that_is_none_is_refused(till):
    request_id = await till.request()
    for key in ("", " ", "with space", "x" * 201, "tab\there", "\u00fcn\u00ef".encode()):
        answer = await till.pay(request_id, key)
        assert answer.status_code == 422, (key, answer.text)
    assert await till.recorded() == 0


async def test_a_caller_without_the_role_learns_nothing_from_a_key(till):
    request_id = await till.request()
    assert (await till.pay(request_id, "key-1")).status_code == 201
    assert (await till.pay(request_id, "key-1", role="driver")).status_code == 403


async def test_two_callers_whose_names_read_alike_do_not_share_a_key(run):
    payouts = await new_payouts(run)
    running = payouts.running
    for driver in ("b c", "c", "b"):
        await payouts.accrue(paid(payees=(Share(driver, 10_000),)))
    seen = set()
    for subject, driver in (("a", "b c"), ("a b", "c"), ("a%20b%20c", "b")):
        headers = {**running.as_("driver", subject=subject, driver_id=driver), "idempotency-key": "key-1"}
        first = await payouts.http.post("/api/v1/payouts/request", json={}, headers=headers)
        again = await payouts.http.post("/api/v1/payouts/request", json={}, headers=headers)
        assert (first.status_code, first.json()["payee_id"]) == (201, driver), first.text
        assert again.content == first.content
        seen.add(first.json()["id"])
    assert len(seen) == 3


@pytest.mark.parametrize(("subject", "driver", "kept_as"), [("an app", None, "an app "), ("sub-1", "d1", "sub-1 d1")])
async def test_keys_that_were_kept_before_names_were_told_apart_are_still_found(run, subject, driver, kept_as):
    payouts = await new_payouts(run)
    headers = payouts.running.as_("finance", "driver", subject=subject, driver_id=driver)
    answer = await payouts.http.post(
        "/api/v1/payouts/approve", json={"ids": []}, headers={**headers, "idempotency-key": "key-1"}
    )
    assert answer.status_code == 200, answer.text
    assert [row["caller"] for row in await payouts.fetch("SELECT caller FROM idempotency_keys")] == [kept_as]
