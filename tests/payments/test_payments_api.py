"""Payments through HTTP: recorded by hand once and only when they fit, found by every filter, shown to whom they concern."""

import asyncio
import io
import json
import logging
from uuid import uuid4

import asyncpg
import pytest
import structlog

from tests.conftest import connected
from tests.payments.conftest import Payments, create_tenant, new_request

ROUTE = "/api/v1/payments"
PERSONAL = ("Amina", "+254700000001", "Wanjiru", "+254711111111")


def cash(request_id, **fields):
    return {"request_id": request_id, "transaction_id": str(uuid4()), "amount": 1000, "currency": "KES", "method": "cash",
            "paid_at": "2026-03-01T08:00:00Z", **fields}  # fmt: skip


async def post(payments, body, *, role="finance", path=ROUTE, **claims):
    return await payments.http.post(path, json=body, headers=payments.running.as_(role, **claims))


async def get(payments, path="", role="finance", params=None, **claims):
    return await payments.http.get(ROUTE + path, params=params, headers=payments.running.as_(role, **claims))


async def test_cash_is_recorded_once(payments: Payments):
    request = await payments.request(1000)
    body = cash(request["id"], reference="till 4")
    first, again = await post(payments, body), await post(payments, body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    said = first.json()
    assert (said["status"], said["applied"], said["account_id"], said["reference"]) == (
        "completed",
        1000,
        "manual",
        "till 4",
    )
    assert (said["client_id"], said["fleet_id"], said["route_id"], said["vehicle_id"]) == ("c1", "f1", "r1", "v1")
    assert (await payments.see(request["id"]))["paid"] == 1000
    assert (await get(payments, f"/{said['id']}")).json() == said
    other = await payments.request(1000)
    for change in (
        {"amount": 1, "partial": True},
        {"currency": "USD"},
        {"method": "card"},
        {"request_id": other["id"]},
    ):
        changed = await post(payments, body | change)
        assert (changed.status_code, changed.json()["type"]) == (409, "urn:takings:problem:transaction-differs"), change
    later = body | {"paid_at": "2026-03-01T09:00:00Z"}
    assert (await post(payments, later)).json() == said


async def test_what_does_not_fit_is_refused_and_leaves_nothing(payments: Payments):
    request = await payments.request(1000)
    for body, status, type_, field in [
        ({"amount": 999}, 422, "amount-mismatch", "amount"),
        ({"amount": 1001}, 422, "amount-mismatch", "amount"),
        ({"amount": 1001, "partial": True}, 422, "amount-mismatch", "amount"),
        ({"currency": "USD"}, 422, "currency-mismatch", "currency"),
        ({"request_id": "unheard-of"}, 404, "request-unknown", "request_id"),
    ]:
        answer = await post(payments, {**cash(request["id"]), **body})
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:takings:problem:{type_}")
        assert answer.json()["errors"][0]["field"] == field
    assert await payments.payments() == []
    assert (await payments.see(request["id"]))["status"] == "pending_payment"


async def test_a_partial_payment_says_so_and_the_rest_completes(payments: Payments):
    request = await payments.request(1000)
    assert (await post(payments, cash(request["id"], amount=400, partial=True))).status_code == 201
    assert (await payments.see(request["id"]))["status"] == "partially_paid"
    assert (await post(payments, cash(request["id"], amount=400))).status_code == 422
    assert (await post(payments, cash(request["id"], amount=600))).status_code == 201
    assert (await payments.see(request["id"]))["status"] == "completed"
    assert (await post(payments, cash(request["id"], amount=1, partial=True))).status_code == 422


async def test_of_two_full_payments_at_once_one_is_refused(payments: Payments):
    for _ in range(10):
        request = await payments.request(1000)
        barrier = asyncio.Barrier(3)

        async def pay(request=request, barrier=barrier):
            await barrier.wait()
            return (await post(payments, cash(request["id"]))).status_code

        assert sorted(await asyncio.gather(*(pay() for _ in range(3)))) == [201, 422, 422]
        assert (await payments.see(request["id"]))["paid"] == 1000


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "batch-1"}], ids=["without a key", "with a key"])
async def test_each_item_of_a_batch_stands_on_its_own(payments: Payments, key):
    one, two = await payments.request(1000), await payments.request(500)
    first = cash(one["id"])
    items = [
        first,
        "text",
        cash(two["id"], amount=501),
        cash("unheard-of"),
        first,
        cash(one["id"], amount=1, partial=True),
        {**cash(two["id"]), "amount": "500"},
        cash(two["id"], amount=200, partial=True),
        cash(two["id"], amount=300),
    ]
    headers = payments.running.as_("finance") | key
    answer = await payments.http.post(f"{ROUTE}/batch", json={"items": items}, headers=headers)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [r["status"] for r in results] == [201, 422, 422, 404, 200, 422, 422, 201, 201]
    assert [r["index"] for r in results] == list(range(9))
    assert results[0]["id"] == results[4]["id"]
    assert all((r["id"] is None) == (r["status"] >= 400) == (r["problem"] is not None) for r in results)
    assert [(await payments.see(r["id"]))["status"] for r in (one, two)] == ["completed", "completed"]
    assert (await post(payments, {"items": [{}] * 1001}, path=f"{ROUTE}/batch")).status_code == 422
    assert (await post(payments, {"items": []}, path=f"{ROUTE}/batch")).json() == {"results": []}


async def test_batches_at_once_share_transactions_and_nothing_else(payments: Payments):
    """Overlapping batches of two tenants, 12 callers: each payment once, and its audit row names the call that made it."""
    await create_tenant(payments.running, "t2")
    bodies, callers = {}, range(12)
    for tenant in ("t1", "t2"):
        requests = [new_request(id=f"same-{n}") for n in range(40)]
        as_system = payments.running.as_("system", tenant=tenant)
        answer = await payments.http.post("/api/v1/requests/batch", json={"items": requests}, headers=as_system)
        assert {item["status"] for item in answer.json()["results"]} == {201}
        bodies[tenant] = [cash(request["id"], transaction_id=f"cash-{request['id']}") for request in requests]
    barrier = asyncio.Barrier(len(callers))

    async def call(n):
        tenant, items = ("t1", "t2")[n % 2], bodies[("t1", "t2")[n % 2]]
        some = {"items": [*items[n : n + 28], cash(f"unheard-of-{n}")]}
        headers = payments.running.as_("finance", tenant=tenant) | {"X-Request-ID": f"the-call-{n:02}"}
        await barrier.wait()
        answer = await payments.http.post(f"{ROUTE}/batch", json=some, headers=headers)
        *results, unheard_of = answer.json()["results"]
        assert unheard_of["status"] == 404
        assert {r["status"] for r in results} <= {200, 201}
        return [(tenant, r["id"], f"the-call-{n:02}") for r in results if r["status"] == 201], {
            r["id"] for r in results
        }

    answers = await asyncio.gather(*(call(n) for n in callers))
    made = sorted(one for new, _ in answers for one in new)
    assert len(made) == len({payment_id for _, payment_id, _ in made}) == 2 * 38
    assert {payment_id for _, payment_id, _ in made} == set().union(*(seen for _, seen in answers))
    async with connected(payments.running.urls.app, "t1,t2") as conn:
        rows = await conn.fetch("SELECT tenant_id, subject, request_id FROM audit WHERE action = 'record-payment'")
        transactions = await conn.fetchval(
            "SELECT count(DISTINCT xmin::text) FROM audit WHERE action = 'record-payment'"
        )
    assert sorted(tuple(row) for row in rows) == made
    assert transactions < len({call for _, _, call in made})


async def test_a_request_that_somebody_holds_fails_the_batches_that_name_it_and_no_others(payments: Payments):
    names = [f"r{n}" for n in range(8)]
    for name in names:
        await payments.request(1000, id=name)
    async with connected(payments.running.urls.app, "t1") as holder, holder.transaction():
        await holder.execute("SELECT FROM requests WHERE request_id = 'r5' FOR UPDATE")
        answers = await asyncio.gather(
            *(post(payments, {"items": [cash(name, transaction_id=name)]}, path=f"{ROUTE}/batch") for name in names)
        )
    assert [answer.status_code for answer in answers] == [503 if name == "r5" else 200 for name in names]
    again = await post(payments, {"items": [cash("r5", transaction_id="r5")]}, path=f"{ROUTE}/batch")
    assert again.json()["results"][0]["status"] == 201
    assert {(await payments.see(name))["paid"] for name in names} == {1000}


async def test_who_may_record(payments: Payments):
    request = await payments.request(1000)
    for role in ("manager", "driver", "client", "operator"):
        assert (await post(payments, cash(request["id"]), role=role)).status_code == 403
        assert (await post(payments, {"items": []}, role=role, path=f"{ROUTE}/batch")).status_code == 403
    await create_tenant(payments.running, "t2")
    assert (await post(payments, cash(request["id"]), tenant="t2")).status_code == 404
    assert (await post(payments, cash(request["id"]), tenant="unheard-of")).status_code == 403


async def test_that_a_tenant_is_not_known_yet_is_no_answer_to_keep(payments: Payments):
    """Whose configuration comes a moment later may send the same call again, with the same key."""
    body, later = cash("early"), payments.running.as_("finance", tenant="t2") | {"Idempotency-Key": "early-1"}
    for path, sent in (("", body), ("/batch", {"items": [body]})):
        assert (await payments.http.post(ROUTE + path, json=sent, headers=later)).status_code == 403
    await create_tenant(payments.running, "t2")
    as_system = payments.running.as_("system", tenant="t2")
    made = await payments.http.post("/api/v1/requests", json=new_request(id="early"), headers=as_system)
    assert made.status_code == 201
    assert (await payments.http.post(ROUTE, json=body, headers=later)).status_code == 201


async def test_who_sees_what(payments: Payments):
    await create_tenant(payments.running, "t2")
    for fleet, client in (("f1", "c1"), ("f2", "c2")):
        request = await payments.request(1000, fleet_id=fleet, client_id=client)
        await payments.callback(request_id=request["id"], payer={"name": "Wanjiru"})
    await payments.callback(request_id="unknown")  # unmatched: of no fleet
    ids = {payment["fleet_id"]: payment["id"] for payment in await payments.payments()}
    assert set(ids) == {"f1", "f2", None}

    async def fleets(role, **claims):
        answer = await get(payments, role=role, **claims)
        assert answer.status_code == 200, answer.text
        return {item["fleet_id"] for item in answer.json()["items"]}

    for role in ("admin", "finance", "system"):
        assert await fleets(role) == {"f1", "f2", None}
    assert await fleets("manager", fleet_ids=["f1"]) == {"f1"}
    assert await fleets("manager") == set()
    assert await fleets("admin", tenant="t2") == set()
    for role, claims, fleet, status in [
        ("manager", {"fleet_ids": ["f1"]}, "f1", 200),
        ("manager", {"fleet_ids": ["f1"]}, "f2", 404),
        ("manager", {"fleet_ids": ["f1"]}, None, 404),
        ("admin", {"tenant": "t2"}, "f1", 404),
        ("driver", {"driver_id": "d1"}, "f1", 403),
        ("client", {"client_id": "c1"}, "f1", 403),
    ]:
        assert (await get(payments, f"/{ids[fleet]}", role, **claims)).status_code == status, (role, fleet)
    wanted = await get(payments, role="manager", params={"fleet_id": "f2"}, fleet_ids=["f1"])
    assert wanted.json()["items"] == []
    for role, claims, client, status, count in [
        ("finance", {}, "c1", 200, 1),
        ("client", {"client_id": "c1"}, "c1", 200, 1),
        ("client", {"client_id": "c1"}, "c2", 403, 0),
        ("client", {}, "c1", 403, 0),
        ("manager", {"fleet_ids": ["f1"]}, "c1", 403, 0),
        ("driver", {}, "c1", 403, 0),
        ("client", {"client_id": "c1", "tenant": "t2"}, "c1", 200, 0),
    ]:
        answer = await get(payments, f"/client/{client}", role, **claims)
        assert answer.status_code == status, (role, claims, answer.text)
        assert len(answer.json().get("items", [])) == count
    assert (await get(payments, f"/{uuid4()}")).status_code == 404
    assert (await get(payments, "/not-a-uuid")).status_code == 422


@pytest.mark.parametrize(
    ("failure", "answered"),
    [
        ({"code": "no_funds", "message": "Too little money"}, {"code": "no_funds", "message": "Too little money"}),
        ({"code": "no_funds"}, {"code": "no_funds", "message": None}),
        ({"message": "Too little money"}, {"code": None, "message": "Too little money"}),
        ({"code": "", "message": ""}, None),
        ({}, None),
        (None, None),
    ],
)
async def test_a_failure_is_answered_as_far_as_the_gateway_explains_it(payments: Payments, failure, answered):
    await payments.callback(kind="failed", failure=failure)
    (listed,) = await payments.payments(status="failed")
    assert listed["failure"] == answered
    assert (await get(payments, f"/{listed['id']}")).json()["failure"] == answered


async def test_every_filter_narrows(payments: Payments):
    for number in range(8):
        payees = [{"payee_id": f"d{number % 2}"}, {"payee_id": "both"}]
        places = {"fleet_id": f"f{number % 2}", "vehicle_id": f"v{number % 3}", "route_id": f"r{number % 4}"}
        await payments.request(1000, id=f"q{number}", payees=payees, **places)
        kind = "failed" if number == 7 else "completed"
        await payments.callback(
            kind=kind, request_id=f"q{number}", transaction_id=f"x{number}", method=["card", "mobile"][number % 2]
        )

    async def found(**params):
        return {int(item["transaction_id"][1:]) for item in await payments.payments(**params)}

    every = set(range(8))
    assert await found() == every
    assert await found(status="failed") == {7}
    assert await found(status="completed") == every - {7}
    assert await found(status="pending") == set()
    assert await found(fleet_id="f1") == {1, 3, 5, 7}
    assert await found(vehicle_id="v2") == {2, 5}
    assert await found(route_id="r3") == {3, 7}
    assert await found(payee_id="d0") == {0, 2, 4, 6}
    assert await found(payee_id="both") == every
    assert await found(payee_id="d") == set()
    assert await found(method="card") == {0, 2, 4, 6}
    assert await found(method="card", vehicle_id="v0", fleet_id="f0") == {0, 6}
    assert (await get(payments, params={"status": "lost"})).status_code == 422


async def test_pages_are_complete_stable_and_without_repetition(payments: Payments):
    """Forty payments, many at the same instant, read in pages while new ones arrive at the front."""
    for number in range(40):
        await payments.callback(transaction_id=f"x{number:02}", paid_at=f"2026-03-01T08:00:{number // 10:02}Z")
    whole = [item["transaction_id"] for item in await payments.payments(limit=1000)]
    assert len(whole) == 40
    for limit in (1, 7, 10, 39, 40, 41):
        seen, cursor = [], None
        while True:
            page = (await get(payments, params={"limit": limit, **({"cursor": cursor} if cursor else {})})).json()
            assert len(page["items"]) <= limit
            seen += [item["transaction_id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            assert len(page["items"]) == limit
        assert seen == whole
    first = (await get(payments, params={"limit": 20})).json()
    await payments.callback(transaction_id="newer", paid_at="2026-03-01T09:00:00Z")
    rest = (await get(payments, params={"limit": 20, "cursor": first["next_cursor"]})).json()
    assert [i["transaction_id"] for i in first["items"] + rest["items"]] == whole
    assert rest["next_cursor"] is None
    instants = [item["paid_at"] for item in await payments.payments()]
    assert instants == sorted(instants, reverse=True)
    for bad in ("nonsense", "WzFd", "W10", "bnVsbA", "WyJ4IiwieSJd", "e30", "\u00e9", "WyIyMDI2LTAzLTAxIiwgIngiXQ"):
        answer = await get(payments, params={"cursor": bad})
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:takings:problem:bad-cursor"), bad
    for limit in ("0", "1001", "-1", "ten"):
        assert (await get(payments, params={"limit": limit})).status_code == 422


async def test_days_are_cut_in_the_tenants_zone_and_ranges_are_inclusive(payments: Payments):
    at = {"28 last": "2026-02-28T20:59:59.999999Z", "1 first": "2026-02-28T21:00:00Z", "1 last": "2026-03-01T20:59:59.999999Z",
          "2 first": "2026-03-01T21:00:00Z"}  # fmt: skip
    for name, instant in at.items():
        await payments.callback(transaction_id=name, paid_at=instant)

    async def found(**params):
        return [item["transaction_id"] for item in reversed(await payments.payments(**params))]

    assert await found(date_from="2026-03-01", date_to="2026-03-01") == ["1 first", "1 last"]
    assert await found(date_to="2026-02-28") == ["28 last"]
    assert await found(date_from="2026-03-02") == ["2 first"]
    assert await found(date_from="2026-02-28", date_to="2026-03-02") == list(at)
    assert await found(date_from="0001-01-01", date_to="9999-12-31") == list(at)
    assert (await get(payments, params={"date_from": "2026-03-02", "date_to": "2026-03-01"})).status_code == 422
    for odd in ("2026-02-30", "yesterday", "2026-03-01T00:00:00X"):
        assert (await get(payments, params={"date_from": odd})).status_code == 422


@pytest.fixture
def log_text():
    """What the service logs from here on, as it would write it."""
    root = logging.getLogger()
    like = next(h for h in root.handlers if isinstance(h.formatter, structlog.stdlib.ProcessorFormatter))
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(like.formatter)
    root.addHandler(handler)
    yield text
    root.removeHandler(handler)


async def test_personal_data_stays_in_its_tables(payments: Payments, log_text):
    """Name and phone of passenger and payer: neither in events, audit nor logs, also when things go wrong."""
    payer = {"name": "Wanjiru", "phone": "+254711111111"}
    request = await payments.request(1000)
    await payments.callback(request_id=request["id"], payer=payer)
    await payments.callback(kind="failed", payer=payer, failure={"code": "1", "message": "Wanjiru has no money"})
    other = await payments.request(500)
    await post(payments, cash(other["id"], amount=500))
    await post(payments, new_request(id=request["id"], amount=7), role="system", path="/api/v1/requests")
    owner = await asyncpg.connect(payments.running.urls.owner)
    await owner.execute("ALTER TABLE payments ADD CHECK (transaction_id <> 'poison') NOT VALID")
    await owner.close()
    stored = await payments.callback(transaction_id="poison", payer=payer)
    assert stored.json() == {"result": "stored"}
    async with connected(payments.running.urls.app, "t1") as conn:
        for table in ("outbox", "audit", "idempotency_keys"):
            rows = await conn.fetch(f"SELECT row_to_json({table})::text FROM {table}")  # noqa: S608
            assert rows or table == "idempotency_keys"
            assert not [word for word in PERSONAL if any(word in row[0] for row in rows)], table
        assert not [
            word
            for word in PERSONAL
            if word in json.dumps(await conn.fetchval("SELECT array_agg(error) FROM callbacks"))
        ]
        assert await conn.fetchval("SELECT count(*) FROM payments WHERE payer_name = 'Wanjiru'") == 2
    assert '"callback kept without effect"' in log_text.getvalue()  # with the whole traceback
    assert "CheckViolationError" in log_text.getvalue()
    assert not [word for word in PERSONAL if word in log_text.getvalue()]
    mine = [p for p in await payments.payments() if p["status"] == "failed"]
    assert mine[0]["payer"] == payer


async def test_recording_by_hand_is_audited(payments: Payments):
    request = await payments.request(1000)
    body = cash(request["id"])
    answer = await payments.http.post(
        ROUTE, json=body, headers={**payments.running.as_("finance", subject="wambui"), "x-request-id": "request-77"}
    )
    await post(payments, body)  # the same again changes nothing
    await post(payments, cash(request["id"]))  # refused
    async with connected(payments.running.urls.app, "t1") as conn:
        (row,) = await conn.fetch(
            "SELECT actor, request_id, subject, before::text, after::text FROM audit WHERE action = 'record-payment'"
        )
    assert (row["actor"], row["request_id"], row["subject"]) == ("wambui", "request-77", answer.json()["id"])
    assert row["before"] is None
    assert json.loads(row["after"])["amount"] == 1000
