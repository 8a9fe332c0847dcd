"""A gateway may name the request once, when it announces the payment: the money still finds it."""

import asyncio

import pytest

from tests.conftest import connected
from tests.payments.conftest import Payments


@pytest.mark.parametrize("earlier", ["pending", "failed"])
async def test_completed_news_without_the_request_counts_towards_the_one_named_before(payments: Payments, earlier):
    request = await payments.request(1000)
    await payments.callback(kind=earlier, request_id=request["id"], transaction_id="x1")
    assert (await payments.callback(transaction_id="x1")).json() == {"result": "recorded"}
    seen = await payments.see(request["id"])
    assert (seen["status"], seen["paid"]) == ("completed", 1000)
    (payment,) = await payments.payments()
    assert (payment["request_id"], payment["flags"], payment["applied"]) == (request["id"], [], 1000)


async def test_only_a_failed_payment_keeps_why(payments: Payments):
    """Gateways repeat the failure of an earlier try beside the news that the money is there."""
    failure = {"code": "no_funds", "message": "No funds."}
    for kind, kept in ("pending", None), ("failed", failure), ("completed", None):
        await payments.callback(kind=kind, transaction_id="x1", failure=failure)
        (payment,) = await payments.payments()
        assert (payment["status"], payment["failure"]) == (kind, kept)


async def test_and_when_that_request_arrives_last(payments: Payments):
    await payments.callback(kind="pending", request_id="q1", transaction_id="x1")
    await payments.callback(transaction_id="x1")
    (payment,) = await payments.payments()
    assert (payment["flags"], payment["applied"]) == (["unmatched"], 0)
    request = await payments.request(1000, id="q1")
    assert (request["status"], request["paid"]) == ("completed", 1000)
    (payment,) = await payments.payments()
    assert (payment["flags"], payment["applied"]) == ([], 1000)


async def test_pending_and_completed_at_once_always_meet_the_request(payments: Payments):
    """Some of these fall into one batch, some into two: either way the money is found."""
    for index in range(0, 100, 20):
        calls = []
        for number in range(index, index + 20):
            await payments.request(1000, id=f"q{number}")
            calls += [
                payments.callback(kind="pending", request_id=f"q{number}", transaction_id=f"x{number}"),
                payments.callback(kind="completed", transaction_id=f"x{number}"),
                payments.callback(kind="completed", transaction_id=f"x{number}", request_id=f"q{number}"),
            ]
        answers = await asyncio.gather(*calls)
        assert {answer.status_code for answer in answers} == {200}
    async with connected(payments.running.urls.app, "t1") as conn:
        rows = await conn.fetch("SELECT status, request_id, applied FROM payments")
        paid = await conn.fetchval("SELECT sum(paid) FROM requests")
    assert {row["status"] for row in rows} == {"completed"}
    # Money that came wholly without a name, before any news that had one, is unmatched by right; it is never counted twice.
    assert paid == sum(row["applied"] for row in rows)
    assert all(row["applied"] == (1000 if row["request_id"] else 0) for row in rows)
