"""A transaction takes effect once, and money meets its request whoever comes first."""

import asyncio
import json
from uuid import uuid4

import pytest

from tests.conftest import connected
from tests.payments.conftest import PAID_AT, Payments, callback_body, new_request, sign

JOINED = "SELECT actor, subject, before, after FROM audit WHERE action = 'match-payment'"


async def outbox(payments: Payments) -> list[dict]:
    async with connected(payments.running.urls.app, "t1") as conn:
        rows = await conn.fetch("SELECT event::text FROM outbox WHERE topic = 'payments' ORDER BY id")
    return [json.loads(row["event"]) for row in rows]


async def test_exact_amount_completes_the_request(payments: Payments):
    request = await payments.request(1000)
    answer = await payments.callback(request_id=request["id"], amount=1000, fee=15)
    assert (answer.status_code, answer.json()) == (200, {"result": "recorded"})
    assert (await payments.see(request["id"]))["status"] == "completed"
    (payment,) = await payments.payments()
    assert (payment["applied"], payment["fee"], payment["flags"], payment["fleet_id"]) == (1000, 15, [], "f1")
    (event,) = await outbox(payments)
    assert event["type"] == "payment-completed"
    assert event["data"]["payees"] == [{"payee_id": "d1", "share_bp": 10_000}]
    assert "Amina" not in json.dumps(event)


@pytest.mark.parametrize(
    ("amounts", "status", "applied", "flags"),
    [
        ([400], "partially_paid", [400], []),
        ([400, 600], "completed", [400, 600], []),
        ([1200], "completed", [1000], ["overpaid"]),
        ([600, 600], "completed", [600, 400], ["overpaid"]),
    ],
)
async def test_amount_against_request(payments: Payments, amounts, status, applied, flags):
    request = await payments.request(1000)
    for amount in amounts:
        assert (await payments.callback(request_id=request["id"], amount=amount)).json() == {"result": "recorded"}
    seen = await payments.see(request["id"])
    assert (seen["status"], seen["flags"], seen["paid"]) == (status, flags, sum(amounts))
    assert sorted(p["applied"] for p in await payments.payments()) == sorted(applied)


async def test_other_currency_counts_towards_nothing(payments: Payments):
    request = await payments.request(1000)
    await payments.callback(request_id=request["id"], amount=1000, currency="USD")
    seen = await payments.see(request["id"])
    assert (seen["status"], seen["flags"], seen["paid"]) == ("pending_payment", ["currency_mismatch"], 0)
    (payment,) = await payments.payments()
    assert (payment["applied"], payment["flags"]) == (0, ["currency_mismatch"])


@pytest.mark.parametrize("order", [["pending", "failed", "completed"], ["completed", "failed", "pending"]])
async def test_completed_beats_all_in_any_order(payments: Payments, order):
    request = await payments.request(1000)
    results = [
        (await payments.callback(kind=kind, request_id=request["id"], transaction_id="x")).json()["result"]
        for kind in order
    ]
    assert results == (["recorded"] * 3 if order[0] == "pending" else ["recorded", "duplicate", "duplicate"])
    (payment,) = await payments.payments()
    assert payment["status"] == "completed"
    assert (await payments.see(request["id"]))["paid"] == 1000


async def test_same_transaction_under_other_webhook_ids_counts_once(payments: Payments):
    request = await payments.request(1000)
    body = callback_body(request_id=request["id"])
    answers = await asyncio.gather(*(payments.send(body, sign(payments.secret, body)) for _ in range(16)))
    results = [answer.json()["result"] for answer in answers]
    assert sorted(results) == ["duplicate"] * 15 + ["recorded"]
    assert (await payments.see(request["id"]))["paid"] == 1000
    assert len(await outbox(payments)) == 1


async def test_money_before_its_request_joins_it(payments: Payments):
    request_id = str(uuid4())
    assert (await payments.callback(request_id=request_id)).json() == {"result": "recorded"}
    (payment,) = await payments.payments()
    assert (payment["flags"], payment["applied"]) == (["unmatched"], 0)
    unseen = await payments.http.get(f"/api/v1/requests/{request_id}", headers=payments.system)
    assert unseen.status_code == 404
    headers = payments.running.as_("system", subject="wambui")
    request = (await payments.http.post("/api/v1/requests", json=new_request(id=request_id), headers=headers)).json()
    assert (request["status"], request["paid"]) == ("completed", 1000)
    (payment,) = await payments.payments()
    assert (payment["flags"], payment["applied"], payment["fleet_id"]) == ([], 1000, "f1")
    assert [event["type"] for event in await outbox(payments)] == ["payment-completed", "payment-matched"]
    async with connected(payments.running.urls.superuser) as conn:
        ((by, subject, before, after),) = await conn.fetch(JOINED)
    assert (by, subject) == ("wambui", payment["id"])
    before, after = json.loads(before), json.loads(after)
    assert (before["applied"], before["flags"], before["fleet_id"]) == (0, ["unmatched"], None)
    assert (after["applied"], after["flags"], after["fleet_id"]) == (1000, [], "f1")


@pytest.mark.parametrize("registered_first", [True, False])
async def test_a_request_named_after_the_money_came_is_joined(payments: Payments, registered_first: bool):
    request_id = str(uuid4())
    if registered_first:
        await payments.request(1000, id=request_id)
    await payments.callback(transaction_id="x")
    late = await payments.callback(kind="pending", transaction_id="x", request_id=request_id)
    assert late.json() == {"result": "duplicate"}
    if not registered_first:
        await payments.request(1000, id=request_id)
    assert (await payments.see(request_id))["status"] == "completed"
    (payment,) = await payments.payments()
    assert (payment["status"], payment["applied"], payment["flags"]) == ("completed", 1000, [])
    assert [event["type"] for event in await outbox(payments)] == ["payment-completed", "payment-matched"]


async def test_one_transaction_cannot_pay_two_requests(payments: Payments):
    first, second = await payments.request(1000), await payments.request(1000)
    body = {"transaction_id": "till-1", "amount": 1000, "currency": "KES", "method": "cash", "paid_at": PAID_AT}
    for request, status in ((first, 201), (first, 200), (second, 409)):
        answer = await payments.http.post(
            "/api/v1/payments", json={**body, "request_id": request["id"]}, headers=payments.system
        )
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("odd", [{"fee": None}, {"request_id": ""}, {"payer": {"name": "", "phone": None}}])
async def test_what_a_gateway_leaves_open_is_no_reason_to_refuse_money(payments: Payments, odd):
    assert (await payments.callback(**odd)).json() == {"result": "recorded"}


async def test_money_and_request_at_once_always_meet(payments: Payments):
    """Hundreds of races between a callback and the registration of its request: none leaves the money unmatched."""

    async def race(index: int) -> None:
        barrier = asyncio.Barrier(2)

        async def pay() -> None:
            await barrier.wait()
            answer = await payments.callback(request_id=f"q{index}", transaction_id=f"x{index}")
            assert answer.status_code == 200, answer.text

        async def register() -> None:
            await barrier.wait()
            answer = await payments.http.post(
                "/api/v1/requests", json=new_request(id=f"q{index}"), headers=payments.system
            )
            assert answer.status_code == 201, answer.text

        await asyncio.gather(pay(), register())

    for start in range(0, 300, 10):
        await asyncio.gather(*(race(index) for index in range(start, start + 10)))
    async with connected(payments.running.urls.app, "t1") as conn:
        assert await conn.fetchval("SELECT count(*) FROM payments WHERE flags <> '{}' OR applied <> 1000") == 0
        assert await conn.fetchval("SELECT count(*) FROM requests WHERE status = 'completed' AND paid = 1000") == 300
