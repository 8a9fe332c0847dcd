"""Requests through HTTP: registered once, refused with the reason, read by those they concern."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.payments import register_requests as module
from services.payments.register_requests import NewRequest, Registered, RequestDiffers, register_requests
from shared.audit import Actor
from tests.conftest import connected
from tests.payments.conftest import Payments, create_tenant, new_request

ROUTE = "/api/v1/requests"


async def post(payments, body, *, roles=("system",), path=ROUTE, **claims):
    return await payments.http.post(path, json=body, headers=payments.running.as_(*roles, **claims))


async def get(payments, request_id, *roles, **claims):
    return await payments.http.get(f"{ROUTE}/{request_id}", headers=payments.running.as_(*roles, **claims))


async def test_a_request_is_what_was_sent(payments: Payments):
    body = new_request(payees=[{"payee_id": "d1", "share_bp": 7000}, {"payee_id": "d2", "share_bp": 3000}],
                       platform="app", reference="R-1", occurred_at="2026-03-01T11:00:00+03:00")  # fmt: skip
    answer = await post(payments, body)
    assert answer.status_code == 201, answer.text
    seen = answer.json()
    assert {name: seen[name] for name in body if name != "occurred_at"} == {
        n: v for n, v in body.items() if n != "occurred_at"
    }
    assert seen["occurred_at"] == "2026-03-01T08:00:00Z"
    assert (seen["status"], seen["paid"], seen["flags"]) == ("pending_payment", 0, [])
    assert (await get(payments, body["id"], "finance")).json() == seen


async def test_the_same_again_is_200_and_another_body_409(payments: Payments):
    body = new_request()
    first = await post(payments, body)
    again = await post(payments, {**body, "occurred_at": "2026-03-01T11:00:00+03:00"})  # the same instant
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    for change in (
        {"amount": 1001},
        {"client": {"name": "Other"}},
        {"payees": []},
        {"route_id": None},
        {"kind": "booking"},
    ):
        other = await post(payments, body | change)
        assert (other.status_code, other.json()["type"]) == (409, "urn:takings:problem:request-differs"), change
    assert (await get(payments, body["id"], "system")).json() == first.json()


async def test_many_registrations_at_once_make_one_request(payments: Payments):
    for round_ in range(5):
        body, barrier = new_request(id=f"q{round_}"), asyncio.Barrier(8)

        async def register(amount, body=body, barrier=barrier):
            await barrier.wait()
            return await post(payments, {**body, "amount": amount})

        answers = await asyncio.gather(*(register(1000 + number % 2) for number in range(8)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200] * 3 + [201] + [409] * 4


async def test_without_an_id_each_is_a_new_one(payments: Payments):
    body = new_request()
    del body["id"]
    first, second = (await post(payments, body)).json()["id"], (await post(payments, body)).json()["id"]
    assert first != second


async def test_with_nothing_due_it_is_complete_at_once(payments: Payments):
    answer = await post(payments, new_request(amount=0))
    assert (answer.status_code, answer.json()["status"]) == (201, "completed")


async def test_shares_left_out_are_equal(payments: Payments):
    answer = await post(payments, new_request(payees=[{"payee_id": p} for p in ("a", "b", "c")]))
    assert [payee["share_bp"] for payee in answer.json()["payees"]] == [3334, 3333, 3333]


async def test_each_item_of_a_batch_stands_on_its_own(payments: Payments):
    await payments.request(1000, id="known")
    known = (await get(payments, "known", "system")).json()
    good = [new_request(id=f"q{n}") for n in range(3)]
    nameless = {name: value for name, value in new_request().items() if name != "id"}
    items = [
        good[0],
        "text",
        None,
        {},
        7,
        good[1] | {"amount": -1},
        good[1],
        new_request(id="known", amount=1000, client=known["client"]),
        new_request(id="known", amount=999),
        good[0],
        good[0] | {"amount": 5},
        nameless,
        good[2] | {"surprise": 1},
        good[2] | {"payees": [{"payee_id": "a", "share_bp": 1}]},
        good[2],
    ]
    answer = await post(payments, {"items": items}, path=f"{ROUTE}/batch")
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [r["index"] for r in results] == list(range(len(items)))
    expected = [201, 422, 422, 422, 422, 422, 201, 200, 409, 200, 409, 201, 422, 422, 201]
    assert [r["status"] for r in results] == expected
    for result in results:
        if result["status"] < 400:
            assert result["problem"] is None
            assert (await get(payments, result["id"], "system")).status_code == 200
        else:
            assert result["id"] is None
            assert result["problem"]["status"] == result["status"]
            assert result["problem"]["type"].startswith("urn:takings:problem:")
    assert results[5]["problem"]["errors"][0]["field"] == "amount"
    assert results[12]["problem"]["errors"][0]["field"] == "surprise"


async def test_a_batch_holds_a_thousand_and_no_more(payments: Payments):
    items = [new_request(id=f"q{n}") for n in range(1000)]
    answer = await post(payments, {"items": items}, path=f"{ROUTE}/batch")
    assert [r["status"] for r in answer.json()["results"]] == [201] * 1000
    again = await post(payments, {"items": items}, path=f"{ROUTE}/batch")
    assert [r["status"] for r in again.json()["results"]] == [200] * 1000
    assert (await post(payments, {"items": [{}] * 1001}, path=f"{ROUTE}/batch")).status_code == 422
    assert (await post(payments, {"items": []}, path=f"{ROUTE}/batch")).json() == {"results": []}
    for wrong in ({}, {"items": {}}, {"items": "x"}, [], {"items": [], "more": 1}):
        assert (await post(payments, wrong, path=f"{ROUTE}/batch")).status_code == 422


async def test_only_those_it_concerns_can_read_it(payments: Payments):
    await create_tenant(payments.running, "t2")
    await payments.request(1000, id="q1", client_id="c1", fleet_id="f1")
    for roles, claims, status in [
        (["admin"], {}, 200),
        (["finance"], {}, 200),
        (["system"], {}, 200),
        (["manager"], {"fleet_ids": ["f0", "f1"]}, 200),
        (["manager"], {"fleet_ids": ["f0"]}, 404),
        (["manager"], {}, 404),
        (["manager", "finance"], {}, 200),
        (["client"], {"client_id": "c1"}, 200),
        (["client"], {"client_id": "c2"}, 403),
        (["client"], {}, 403),
        (["driver"], {"driver_id": "d1"}, 403),
        (["operator"], {}, 403),
        (["admin"], {"tenant": "t2"}, 404),
        (["client"], {"tenant": "t2", "client_id": "c1"}, 404),
    ]:
        answer = await get(payments, "q1", *roles, **claims)
        assert answer.status_code == status, (roles, claims, answer.text)
        assert status == 200 or "Amina" not in answer.text
    assert (await get(payments, "q2", "admin")).status_code == 404


@pytest.mark.parametrize("path", [ROUTE, f"{ROUTE}/batch"])
async def test_only_systems_and_admins_register(payments: Payments, path):
    body = new_request() if path == ROUTE else {"items": [new_request()]}
    for role in ("finance", "manager", "driver", "client", "operator"):
        assert (await post(payments, body, roles=[role], path=path)).status_code == 403, role
    assert (await post(payments, body, roles=["system"], path=path, tenant="unheard-of")).status_code == 403
    assert (await post(payments, body, roles=["admin"], path=path)).status_code in {200, 201}


async def test_the_same_id_in_two_tenants_is_two_requests(payments: Payments):
    await create_tenant(payments.running, "t2")
    assert (await post(payments, new_request(id="q1", amount=1))).status_code == 201
    assert (await post(payments, new_request(id="q1", amount=2), tenant="t2")).status_code == 201
    assert (await get(payments, "q1", "admin")).json()["amount"] == 1
    assert (await get(payments, "q1", "admin", tenant="t2")).json()["amount"] == 2
    async with connected(payments.running.urls.app, "t1") as conn:
        assert await conn.fetchval("SELECT count(*) FROM requests") == 1


async def test_requests_of_many_tenants_are_registered_together_each_read_once(payments: Payments, monkeypatch):
    """Whose a request is it says itself, and its content is hashed once, also where another one has its id."""
    await create_tenant(payments.running, "t2")
    now = datetime(2026, 3, 2, tzinfo=UTC)
    mine = NewRequest("t1", "q1", "trip", 1, "KES", now, "c", None, None, "f", None, None, None, "[]", None)
    yours, other = replace(mine, tenant_id="t2", amount=2), replace(mine, request_id="q2")
    hashed, content_hash = [], module.content_hash
    monkeypatch.setattr(module, "content_hash", lambda request: hashed.append(request) or content_hash(request))

    async def registered(*requests):
        hashed.clear()
        db = payments.running.service.db
        outcomes = await db.run(lambda conn: register_requests(conn, requests, actor=Actor("a"), now=now), "t1", "t2")
        assert hashed == list(requests)
        return [None if isinstance(outcome, RequestDiffers) else outcome for outcome in outcomes]

    assert await registered(mine, yours) == [Registered("q1", True), Registered("q1", True)]
    assert await registered(yours, mine, other, other) == [
        Registered("q1", False),
        Registered("q1", False),
        Registered("q2", True),
        Registered("q2", False),
    ]
    assert await registered(replace(mine, amount=2), yours) == [None, Registered("q1", False)]
