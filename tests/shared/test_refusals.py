"""What a stranger gets back who has made a mistake: the same refusal wherever it is made, in words that need no source code."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from shared.clocks import CLOCKS_DIFFER
from shared.db import CALL_LIMIT_S
from tests.conftest import connected
from tests.payments.conftest import Payments, callback_body, create_tenant, new_payments, new_request, sign
from tests.shared.test_http import DEAD, WEBHOOK, check_problem

REQUESTS, PAYMENTS = "/api/v1/requests", "/api/v1/payments"
INTERNAL = re.compile(r"Input should|Value error|[a-z]In\b|codec|`|dictionary|Expecting|recursion|Extra inputs")


@pytest.fixture
async def payments(run) -> Payments:
    return await new_payments(run)


def cash(request_id: str, **fields) -> dict:
    return {"request_id": request_id, "transaction_id": f"cash-{request_id}", "amount": 1000, "currency": "KES",
            "method": "cash", "paid_at": "2026-03-01T08:00:00Z", **fields}  # fmt: skip


async def test_the_description_shows_what_is_really_answered(run):
    running = await run("payments")
    await create_tenant(running)

    async def boom() -> None:
        raise RuntimeError

    described = running.service.api.openapi()["paths"][REQUESTS]["post"]["responses"]
    system, json_type = running.as_("system"), {"content-type": "application/json"}
    running.service.api.add_api_route("/api/v1/boom", boom)
    http, body = running.http, new_request()
    dead = await run("payments", database_url=DEAD)
    answers = [
        await http.post(REQUESTS, content=b"{", headers={**system, **json_type}),
        await http.post(REQUESTS, json=body),
        await http.post(REQUESTS, json=body, headers=running.as_("driver")),
        await http.post(REQUESTS, content=b" " * 3_000_000, headers={**system, **json_type}),
        await http.post(REQUESTS, content=b"{}", headers=system),
        await http.post(REQUESTS, json={**body, "amount": "12"}, headers=system),
        await http.get("/api/v1/boom"),
        await dead.http.get("/api/v1/tenants/t1", headers=running.as_("operator", tenant=None)),
    ]
    assert [answer.status_code for answer in answers] == [400, 401, 403, 413, 415, 422, 500, 503]
    for answer in answers:
        example = described[str(answer.status_code)]["content"]["application/problem+json"]["example"]
        given = answer.json()
        if answer.status_code == 403:
            example["detail"] = given["detail"]  # the roles are the route's
        assert given == {**example, "request_id": given["request_id"]}
    assert set(described) == {"200", "201", "404", "409"} | {str(answer.status_code) for answer in answers}


async def test_the_description_names_the_types_of_a_services_own_problems(payments: Payments):
    described = payments.running.service.api.openapi()["paths"][PAYMENTS]["post"]["responses"]
    await payments.request(id="r1")
    await payments.request(id="r2")
    headers = payments.system
    for body, status in [(cash("nowhere"), 404), (cash("r1", amount=1), 422), (cash("r1"), 201), (cash("r2"), 201),
                         (cash("r2", transaction_id="cash-r1"), 409)]:  # fmt: skip
        answer = await payments.http.post(PAYMENTS, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert f"`{answer.json()['type'].rpartition(':')[2]}`" in described[str(status)]["description"]
    other_services = ("payout-unknown", "plan-exists", "rule-unknown")
    assert not any(f"`{code}`" in response["description"] for response in described.values() for code in other_services)


async def test_a_body_that_is_not_said_to_be_json_is_415_and_says_what_to_send(payments: Payments):
    for content_type in (None, "application/x-www-form-urlencoded", "text/plain", "application/jsonx", "\xff"):
        for path in (REQUESTS, PAYMENTS, f"{PAYMENTS}/batch"):
            headers = {**payments.system, **({"content-type": content_type.encode("latin-1")} if content_type else {})}
            problem = check_problem(await payments.http.post(path, content=b"{}", headers=headers), 415)
            assert "send application/json" in problem["detail"]
            assert (content_type or "missing")[:4] in problem["detail"]
    for content_type in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"):
        headers = {**payments.system, "content-type": content_type}
        assert (await payments.http.post(REQUESTS, content=b"{}", headers=headers)).status_code == 422


async def test_a_body_that_cannot_be_read_is_told_so_in_plain_words(payments: Payments):
    headers = {**payments.system, "content-type": "application/json"}
    for body, why in [
        (b"{not json", "It is not JSON from line 1, column 2 on."),
        (b'{"a": "\xff"}', "It is not UTF-8."),
        (b"[" * 100_000, "Its lists and objects lie too deep in each other."),
        (b'{"amount": 1, "amount": 2}', "The field 'amount' is there twice."),
    ]:
        assert check_problem(await payments.http.post(PAYMENTS, content=body, headers=headers), 400)["detail"] == why


async def test_a_callback_that_is_none_is_told_so_in_plain_words(payments: Payments):
    for fields, why in [
        ({"amount": "5"}, "data.amount: Expected a whole number, got a text"),
        ({"payer": []}, "data.payer: Expected an object or null, got a list"),
        ({"currency": "XAU"}, "'XAU' is not an ISO 4217 currency"),
    ]:
        answer = await payments.callback(**fields)
        assert check_problem(answer, 400, type_ends="not-a-callback")["detail"] == why


WRONG = [
    {"amount": None}, {"amount": "12"}, {"amount": 1.5}, {"amount": 0}, {"amount": 10**16}, {"amount": True},
    {"currency": "kes"}, {"currency": "XAU"}, {"currency": 5}, {"method": "Cash!"}, {"partial": "perhaps"},
    {"paid_at": "yesterday"}, {"paid_at": 1_700_000_000}, {"paid_at": "2026-03-01T08:00:00"},
    {"paid_at": "2200-01-01T00:00:00Z"}, {"request_id": ""}, {"request_id": "x" * 201}, {"request_id": "a\0b"},
    {"reference": []}, {"colour": "red", "shape": "round"},
]  # fmt: skip


async def test_an_item_of_a_batch_is_refused_as_the_single_call_is(payments: Payments):
    bodies = [*({**cash("r1"), **wrong} for wrong in WRONG), {}, [], "text", None]
    batch = await payments.http.post(f"{PAYMENTS}/batch", json={"items": bodies}, headers=payments.system)
    assert batch.status_code == 200, batch.text
    for body, result in zip(bodies, batch.json()["results"], strict=True):
        problem = check_problem(await payments.http.post(PAYMENTS, json=body, headers=payments.system), 422)
        if body is not None:  # which as a whole body is none at all
            assert {**result["problem"], "request_id": problem["request_id"]} == problem
        assert problem["type"] == "urn:takings:problem:invalid"
        for error in problem["errors"]:
            assert not INTERNAL.search(error["message"]), error
            assert error["message"] != "is not valid", error
        assert problem["errors"][0]["field"] in problem["detail"]


async def test_what_lies_further_ahead_than_clocks_differ_is_refused_where_a_caller_says_it(payments: Payments):
    now = datetime.now(UTC)
    soon, ahead = ((now + CLOCKS_DIFFER + more).isoformat() for more in (-timedelta(minutes=1), timedelta(minutes=1)))
    await payments.request(id="r1")
    await payments.request(id="r2")
    single = await payments.http.post(PAYMENTS, json=cash("r1", paid_at=ahead), headers=payments.system)
    assert check_problem(single, 422, type_ends="in-the-future")["errors"][0]["field"] == "paid_at"
    items = [cash("r1", paid_at=soon), cash("r2", paid_at=ahead)]
    batch = await payments.http.post(f"{PAYMENTS}/batch", json={"items": items}, headers=payments.system)
    assert [result["status"] for result in batch.json()["results"]] == [201, 422], batch.text
    for kind, status in [("trip", 422), ("booking", 201), ("appointment", 201)]:
        body = new_request(kind=kind, occurred_at=ahead)
        answer = await payments.http.post(REQUESTS, json=body, headers=payments.system)
        assert answer.status_code == status, answer.text
    bodies = [new_request(occurred_at=at) for at in (soon, ahead, soon)]
    batch = await payments.http.post(f"{REQUESTS}/batch", json={"items": bodies}, headers=payments.system)
    assert [(result["status"], result["id"]) for result in batch.json()["results"]] == [
        (201, bodies[0]["id"]), (422, None), (201, bodies[2]["id"])
    ]  # fmt: skip


async def test_money_that_a_gateway_says_is_of_the_future_is_not_lost(payments: Payments):
    answer = await payments.callback(request_id="r1", paid_at="2031-01-01T00:00:00Z")
    assert (answer.status_code, answer.json()) == (200, {"result": "recorded"})
    assert len(await payments.payments()) == 1


async def test_amounts_in_messages_are_written_as_money(payments: Payments):
    await payments.request(25_000, id="r1")
    for amount, detail in [
        (30_000, "Only KES 250.00 is due."),
        (20_000, "KES 250.00 is due; a smaller amount must say that it is partial."),
    ]:
        answer = await payments.http.post(PAYMENTS, json=cash("r1", amount=amount), headers=payments.system)
        assert check_problem(answer, 422, type_ends="amount-mismatch")["detail"] == detail


@pytest.mark.parametrize("key", [None, "key-1"])
async def test_whoever_wants_a_row_that_is_held_is_told_so_before_the_call_may_end(payments: Payments, key):
    await payments.request(id="r1")
    headers = {**payments.system, **({"idempotency-key": key} if key else {})}
    async with connected(payments.running.urls.app, "t1") as other, other.transaction():
        await other.execute("SELECT FROM requests FOR UPDATE")
        started = time.monotonic()
        answer = await payments.http.post(PAYMENTS, json=cash("r1"), headers=headers)
        waited_s = time.monotonic() - started
    problem = check_problem(answer, 503, type_ends="unavailable")
    assert "nothing was done" in problem["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    assert waited_s < CALL_LIMIT_S - 0.5, waited_s
    again = await payments.http.post(PAYMENTS, json=cash("r1"), headers=headers)
    assert again.status_code == 201, again.text


async def test_a_webhook_is_asked_for_nothing_of_this(payments: Payments):
    """Gateways may add what they like to the address, and say what they like of the body, which is signed."""
    body = callback_body()
    headers = {**sign(payments.secret, body), "content-type": "text/plain"}
    answer = await payments.http.post(f"{WEBHOOK[:-19]}{payments.account}?retry=1", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
