"""A gateway may name the request once, when it announces the payment: the money still finds it."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from services.payments.models import PaymentStatus, Receipt
from services.payments.record_payments import record_payments
from tests.conftest import connected
from tests.faults.seeds import seeded
from tests.faults.sizes import size
from tests.payments.conftest import Payments

AT = datetime(2026, 3, 1, 8, tzinfo=UTC)
RANKS = tuple(PaymentStatus)  # pending, failed, completed


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


async def test_the_word_that_counts_brings_its_reference(payments: Payments):
    words = [(PaymentStatus.PENDING, "announced"), (PaymentStatus.COMPLETED, "paid"), (PaymentStatus.FAILED, "late")]
    for status, reference in words:
        receipt = Receipt(
            "t1", payments.account, "x1", status, 1000, "KES", "mobile", AT, request_id="q1", reference=reference
        )
        await payments.running.service.db.run(lambda conn: record_payments(conn, [receipt], now=AT), "t1")  # noqa: B023
    (payment,) = await payments.payments()
    assert (payment["status"], payment["reference"]) == ("completed", "paid")


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


async def told(payments: Payments) -> list[dict]:
    """All that was said of payments."""
    async with connected(payments.running.urls.app, "t1") as conn:
        rows = await conn.fetch("SELECT event::text AS event FROM outbox WHERE topic = 'payments' ORDER BY id")
    return [json.loads(row["event"]) for row in rows]


@pytest.mark.parametrize("first", ["pending", "failed"])
async def test_a_name_in_news_without_effect_is_kept(payments: Payments, first):
    request = await payments.request(1000)
    for kind, result in (first, "recorded"), ("pending", "duplicate"), ("completed", "recorded"):
        named = {"request_id": request["id"]} if result == "duplicate" else {}
        assert (await payments.callback(kind=kind, transaction_id="x1", **named)).json() == {"result": result}
    (payment,) = await payments.payments()
    assert (payment["request_id"], payment["flags"], payment["applied"]) == (request["id"], [], 1000)
    assert (await payments.see(request["id"]))["status"] == "completed"
    events = await told(payments)
    assert [event["type"] for event in events] == [f"payment-{first}", "payment-completed"]
    assert [event["data"]["fleet_id"] for event in events] == [None, "f1"]


async def test_names_in_any_words_in_any_order_and_batches_end_the_same(payments: Payments):
    """Each transaction has a few words, any of them with the name of its request, which is registered at any time."""
    chance = seeded("late names")
    account, expected = payments.account, {}

    async def say(number: int, words: list[tuple[PaymentStatus, bool]]) -> None:
        receipts = [
            Receipt(
                "t1",
                account,
                f"x{number}",
                status,
                1000,
                "KES",
                "mobile",
                AT,
                request_id=f"q{number}" if named else None,
            )
            for status, named in words
        ]
        await payments.running.service.db.run(lambda conn: record_payments(conn, receipts, now=AT), "t1")

    for number in range(size(short=60, long=1_500)):
        words = [(chance.choice(RANKS), chance.random() < 0.4) for _ in range(chance.randrange(1, 6))]
        cuts = sorted(chance.choices(range(len(words) + 1), k=2))
        batches = [words[: cuts[0]], words[cuts[0] : cuts[1]], words[cuts[1] :]]
        registered_before = chance.randrange(len(batches) + 1)
        for place, batch in enumerate([*batches, []]):
            if place == registered_before:
                await payments.request(1000, id=f"q{number}")
            await say(number, batch)
        status = max((status for status, _ in words), key=RANKS.index)
        is_named = any(named for _, named in words)
        applied = 1000 if is_named and status == PaymentStatus.COMPLETED else 0
        expected[f"x{number}"] = (status, f"q{number}" if is_named else None, applied, applied)
    async with connected(payments.running.urls.app, "t1") as conn:
        rows = await conn.fetch(
            """
            SELECT transaction_id, p.status, p.request_id, applied, coalesce(r.paid, 0)
            FROM payments AS p LEFT JOIN requests AS r USING (tenant_id, request_id)
            """
        )
    assert {row[0]: tuple(row)[1:] for row in rows} == expected
