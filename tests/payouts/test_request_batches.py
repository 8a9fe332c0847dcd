"""A batch of payouts is requested a hundred at a time: what was requested is told, whatever becomes of the others."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from services.payouts.api import payout_requests
from services.payouts.request_payouts import request_payouts
from shared import idempotency
from shared.auth import Verifier
from shared.db import CALL_LIMIT_S
from shared.errors import Conflict
from shared.events.payments import Share
from shared.idempotency import once
from tests.conftest import connected
from tests.payouts.conftest import Payouts, paid

PAYEES = [f"d{number}" for number in range(250)]
KEYS = pytest.mark.parametrize("key", [{}, {"idempotency-key": "payday"}], ids=["without a key", "with a key"])


@pytest.fixture
async def earned(payouts: Payouts) -> Payouts:
    await payouts.accrue(*(paid(1000, payees=(Share(payee, 10_000),)) for payee in PAYEES))
    return payouts


@asynccontextmanager
async def held(payouts: Payouts, payee: str) -> AsyncIterator[None]:
    """Somebody else is at work on the payee's wallet."""
    async with connected(payouts.running.urls.app, "t1") as holder, holder.transaction():
        await holder.execute("SELECT FROM wallets WHERE payee_id = $1 FOR UPDATE", payee)
        yield


async def request_all(payouts: Payouts, key: dict[str, str]) -> httpx.Response:
    headers = payouts.finance | key
    return await payouts.http.post("/api/v1/payouts/request-batch", json={"payee_ids": PAYEES}, headers=headers)


def results_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The results, of which each stands where its payee does."""
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [(result["index"], result["payee_id"]) for result in results] == list(enumerate(PAYEES))
    return results


async def check_told(payouts: Payouts, results: list[dict[str, Any]]) -> None:
    """Every payout that there is was answered, and none that is not there."""
    there = {str(row["payout_id"]) for row in await payouts.fetch("SELECT payout_id FROM payouts")}
    assert there == {result["id"] for result in results if result["status"] == 201}
    await payouts.check_books()


@KEYS
async def test_a_wallet_that_somebody_holds_takes_nothing_from_those_before_it(earned: Payouts, key):
    async with held(earned, "d150"):
        results = results_of(await request_all(earned, key))
    assert [result["status"] for result in results] == [201] * 100 + [503] * 150
    assert [result["problem"]["status"] for result in results[100:]] == [503] * 150
    assert all("Somebody else is at work" in result["problem"]["detail"] for result in results[100:200])
    assert all("nothing was done" in result["problem"]["detail"] for result in results[200:])
    await check_told(earned, results)
    again = results_of(await request_all(earned, key))
    assert [result["status"] for result in again[100:]] == [201] * 150
    if key:
        assert again[:100] == results[:100]
    else:
        assert {result["problem"]["type"] for result in again[:100]} == {"urn:takings:problem:nothing-available"}
    await check_told(earned, results[:100] + again[100:])


@KEYS
async def test_where_the_first_cannot_be_requested_the_call_fails(earned: Payouts, key):
    async with held(earned, "d50"):
        answer = await request_all(earned, key)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    await check_told(earned, [])
    again = results_of(await request_all(earned, key))
    assert [result["status"] for result in again] == [201] * 250
    await check_told(earned, again)


async def test_what_was_requested_is_told_before_the_time_of_the_call_is_over(earned: Payouts, monkeypatch):
    monkeypatch.setattr(idempotency, "LOCK_LIMIT_MS", 10_000)  # longer than a call may take
    key = {"idempotency-key": "payday"}
    async with held(earned, "d150"):
        results = results_of(await request_all(earned, key))
    assert [result["status"] for result in results] == [201] * 100 + [503] * 150
    assert all("is not known" in result["problem"]["detail"] for result in results[100:200])
    await check_told(earned, results)
    again = results_of(await request_all(earned, key))
    assert again[:100] == results[:100]
    assert [result["status"] for result in again[100:]] == [201] * 150
    await check_told(earned, again)


async def test_whom_there_is_no_time_left_for_is_not_tried(earned: Payouts, monkeypatch):
    limit_s = 2
    monkeypatch.setattr(payout_requests, "TO_TELL_S", CALL_LIMIT_S - limit_s)

    async def long(*arguments, **options):
        answer = await once(*arguments, **options)
        time.sleep(limit_s)  # noqa: ASYNC251 - nothing else happens: the first part is done, in time
        return answer

    monkeypatch.setattr(payout_requests, "once", long)
    results = results_of(await request_all(earned, {}))
    assert [result["status"] for result in results] == [201] * 100 + [503] * 150
    assert all("nothing was done" in result["problem"]["detail"] for result in results[100:])
    await check_told(earned, results)


async def test_the_time_of_a_call_begins_when_its_body_is_there(earned: Payouts, monkeypatch):
    """Not when its token has been checked, for which the issuer's keys may have been waited for."""
    limit_s = 1
    monkeypatch.setattr(payout_requests, "TO_TELL_S", CALL_LIMIT_S - limit_s)
    principal = Verifier.principal

    async def slow(*arguments):
        await asyncio.sleep(limit_s)
        return await principal(*arguments)

    monkeypatch.setattr(Verifier, "principal", slow)
    assert (await request_all(earned, {})).status_code == 503
    await check_told(earned, [])


async def test_a_refusal_takes_nothing_from_those_before_it_either(earned: Payouts, monkeypatch):
    async def only_the_first(conn, asks, **terms):
        if asks[0].payee_id != "d0":
            raise Conflict("Not these.")
        return await request_payouts(conn, asks, **terms)

    monkeypatch.setattr(payout_requests, "request_payouts", only_the_first)
    results = results_of(await request_all(earned, {"idempotency-key": "payday"}))
    assert [result["status"] for result in results] == [201] * 100 + [409] * 100 + [503] * 50
    await check_told(earned, results)


async def test_nobody_chooses_the_key_of_a_part(earned: Payouts):
    for other in ("payday100", "payday#100", "payday/100"):
        headers = earned.finance | {"idempotency-key": other}
        answer = await earned.http.post("/api/v1/payouts/approve", json={"ids": []}, headers=headers)
        assert answer.status_code == 200
    headers = earned.finance | {"idempotency-key": "payday 100"}
    refused = await earned.http.post("/api/v1/payouts/approve", json={"ids": []}, headers=headers)
    assert refused.status_code == 422
    results = results_of(await request_all(earned, {"idempotency-key": "payday"}))
    assert [result["status"] for result in results] == [201] * 250
