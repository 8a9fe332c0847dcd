"""Payouts, balances and commission plans over HTTP: every refusal, every list, every filter."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from shared.events.payments import Share
from shared.events.tenants import TenantConfigured
from shared.pages import write_cursor
from shared.tenants import TenantCopy
from tests.conftest import connected
from tests.payouts.conftest import Payouts, paid, received

PAYOUTS, BALANCES, PLANS = "/api/v1/payouts", "/api/v1/balances", "/api/v1/commission-plans"
LISTS = (PAYOUTS, f"{PAYOUTS}/driver/d1", BALANCES, PLANS)
ANY_ID = str(uuid4())
PLAN = {"commission_bp": 1000, "valid_from": "2026-01-01"}
# Every route, with a body that it takes.
ROUTES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", PAYOUTS, None),
    ("GET", f"{PAYOUTS}/{ANY_ID}", None),
    ("GET", f"{PAYOUTS}/driver/d1", None),
    ("GET", "/api/v1/payees/d1/balance", None),
    ("GET", BALANCES, None),
    ("GET", PLANS, None),
    ("POST", PLANS, PLAN),
    ("POST", f"{PAYOUTS}/request", {}),
    ("POST", f"{PAYOUTS}/request-batch", {"payee_ids": ["d1"]}),
    ("POST", f"{PAYOUTS}/approve", {"ids": [ANY_ID]}),
    ("POST", f"{PAYOUTS}/disburse", {"ids": [ANY_ID], "method": "cash"}),
    ("PUT", f"{PAYOUTS}/{ANY_ID}/status", {"status": "approved"}),
]
OF_A_DRIVER = {"/api/v1/payouts/request", f"{PAYOUTS}/driver/d1", "/api/v1/payees/d1/balance", f"{PAYOUTS}/{ANY_ID}"}


def check_problem(answer: Any, status: int, kind: str = "") -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"].endswith(kind)
    return problem


async def pages(payouts: Payouts, path: str, *, limit: int, **params: Any) -> AsyncIterator[list[dict[str, Any]]]:
    """The pages of a list as finance sees them, each fetched when it is asked for."""
    cursor: str | None = None
    while True:
        asked = {"limit": limit, **params, **({"cursor": cursor} if cursor else {})}
        answer = await payouts.http.get(path, params=asked, headers=payouts.finance)
        assert answer.status_code == 200, answer.text
        yield answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return


async def listed(payouts: Payouts, path: str, **params: Any) -> list[dict[str, Any]]:
    return [item async for items in pages(payouts, path, limit=100, **params) for item in items]


async def earned(payouts: Payouts, *payees: str, amount: int = 1000) -> None:
    await payouts.accrue(*(paid(amount, payees=(Share(payee, 10_000),)) for payee in payees))


async def requested(payouts: Payouts, *payees: str) -> list[str]:
    """A payout of each payee, in the order given."""
    await earned(payouts, *payees)
    answers = [await payouts.request(payee) for payee in payees]
    assert [answer.status_code for answer in answers] == [201] * len(payees)
    return [answer.json()["id"] for answer in answers]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_who_may_not(payouts: Payouts, method, path, body):
    refused = ["client", "manager", "operator"]
    refused += [] if path in OF_A_DRIVER else ["driver"]
    refused += ["finance", "admin", "system"] if path.endswith("/request") else []
    refused += ["system"] if method != "GET" or path == PLANS else []
    check_problem(await payouts.http.request(method, path, json=body), 401)
    for role in refused:
        headers = payouts.running.as_(role, driver_id="d1", client_id="c1", fleet_ids=["f1"])
        check_problem(await payouts.http.request(method, path, json=body, headers=headers), 403, "forbidden")
    headers = payouts.running.as_("finance", "driver", driver_id="d1", tenant=None)
    check_problem(await payouts.http.request(method, path, json=body, headers=headers), 403)


async def test_a_driver_reads_nothing_of_another_one(payouts: Payouts):
    (payout_id,) = await requested(payouts, "d1")
    paths = (f"{PAYOUTS}/{payout_id}", f"{PAYOUTS}/driver/d1", "/api/v1/payees/d1/balance")
    nobody = payouts.running.as_("driver")  # a token that names no driver
    for path in paths:
        for headers in (payouts.driver("d2"), nobody):
            problem = check_problem(await payouts.http.get(path, headers=headers), 403, "forbidden")
            assert payout_id not in str(problem)
        assert (await payouts.http.get(path, headers=payouts.driver("d1"))).status_code == 200
    check_problem(await payouts.http.post(f"{PAYOUTS}/request", json={}, headers=nobody), 403)


async def test_the_payouts_of_another_tenant_are_unknown_on_every_route(payouts: Payouts):
    configured = TenantConfigured(name="t2", time_zone="Africa/Nairobi", currency="KES", version=1)
    await TenantCopy(payouts.running.service.db, wait_s=0).keep([received(configured, tenant="t2")])
    (payout_id,) = await requested(payouts, "d1")
    stranger = payouts.running.as_("finance", "admin", "system", tenant="t2")
    own_path = f"{PAYOUTS}/{payout_id}"
    driver = payouts.running.as_("driver", tenant="t2", driver_id="d1")
    check_problem(await payouts.http.get(own_path, headers=stranger), 404, "payout-unknown")
    check_problem(await payouts.http.get(own_path, headers=driver), 404, "payout-unknown")
    for body in ({"status": "approved"}, {"status": "rejected", "reason": "no"}):
        answer = await payouts.http.put(f"{own_path}/status", json=body, headers=stranger)
        check_problem(answer, 404, "payout-unknown")
    for step, more in (("approve", {}), ("disburse", {"method": "cash"})):
        answer = await payouts.http.post(f"{PAYOUTS}/{step}", json={"ids": [payout_id], **more}, headers=stranger)
        assert [result["status"] for result in answer.json()["results"]] == [404]
    for path in (PAYOUTS, f"{PAYOUTS}/driver/d1", BALANCES):
        assert (await payouts.http.get(path, headers=stranger)).json() == {"items": [], "next_cursor": None}
    balance = (await payouts.http.get("/api/v1/payees/d1/balance", headers=stranger)).json()
    assert (balance["locked"], balance["lifetime_earned"]) == (0, 0)
    check_problem(await payouts.http.post(f"{PAYOUTS}/request", json={}, headers=driver), 409, "nothing-available")
    assert [item["status"] for item in await listed(payouts, PAYOUTS)] == ["requested"]


async def test_balances_come_once_each_in_pages_while_more_are_earned(payouts: Payouts):
    names = [f"payee-{number:02}" for number in range(10)]
    await earned(payouts, *reversed(names))
    seen: list[dict[str, Any]] = []
    async for items in pages(payouts, BALANCES, limit=3):
        seen += items
        await earned(payouts, "payee-00", "a-new-one", "payee-03-b")  # before, between and after what was read
    assert [item["payee_id"] for item in seen if item["payee_id"] != "payee-03-b"] == names
    assert len(seen) == len({item["payee_id"] for item in seen}) == 11
    assert {item["available"] for item in seen if item["payee_id"] in names} == {900}
    again = await listed(payouts, BALANCES)
    assert [item["payee_id"] for item in again] == ["a-new-one", "payee-00", *sorted([*names[1:], "payee-03-b"])]
    assert await listed(payouts, BALANCES, currency="USD") == []


async def test_payouts_come_once_each_in_pages_newest_first(payouts: Payouts):
    ids = await requested(payouts, *(f"d{number}" for number in range(7)))
    async with connected(payouts.running.urls.superuser) as conn:  # all at the same instant but the first
        await conn.execute("UPDATE payouts SET requested_at = '2026-03-01T12:00:00Z' WHERE payee_id <> 'd0'")
    seen: list[str] = []
    async for items in pages(payouts, PAYOUTS, limit=2):
        assert len(items) <= 2
        seen += [item["id"] for item in items]
        await requested(payouts, "late")
    assert seen == [ids[0], *sorted(ids[1:], reverse=True)]


async def test_a_drivers_payouts_are_listed_for_the_driver_and_for_finance(payouts: Payouts):
    first, _, last = await requested(payouts, "d1", "d2", "d3")
    await payouts.decide(first, "rejected", reason="later")
    again = (await payouts.request("d1")).json()["id"]
    path = f"{PAYOUTS}/driver/d1"
    for headers in (payouts.driver("d1"), payouts.finance, payouts.running.as_("system")):
        page = (await payouts.http.get(path, headers=headers)).json()
        assert [(item["id"], item["status"]) for item in page["items"]] == [(again, "requested"), (first, "rejected")]
    page = (await payouts.http.get(path, params={"limit": 1}, headers=payouts.driver("d1"))).json()
    assert [item["id"] for item in page["items"]] == [again]
    rest = await payouts.http.get(path, params={"cursor": page["next_cursor"]}, headers=payouts.driver("d1"))
    assert [item["id"] for item in rest.json()["items"]] == [first]
    assert [item["id"] for item in await listed(payouts, f"{PAYOUTS}/driver/d3")] == [last]
    assert await listed(payouts, f"{PAYOUTS}/driver/nobody") == []


async def test_payouts_are_filtered_by_status_payee_and_both(payouts: Payouts):
    first, second, third = await requested(payouts, "d1", "d2", "d3")
    for payout_id in (first, second):
        await payouts.decide(payout_id, "approved")

    async def found(**params: str) -> set[str]:
        return {item["id"] for item in await listed(payouts, PAYOUTS, **params)}

    assert await found(status="approved") == {first, second}
    assert await found(status="requested") == {third}
    assert await found(status="disbursed") == set()
    assert await found(payee_id="d2") == {second}
    assert await found(payee_id="d2", status="requested") == set()
    assert await found(payee_id="d2", status="approved") == {second}


async def test_payouts_are_filtered_by_days_of_the_tenants_zone(payouts: Payouts):
    late, midnight, evening = await requested(payouts, "late", "midnight", "evening")
    instants = {"late": "2026-03-01T20:59:59Z", "midnight": "2026-03-01T21:00:00Z", "evening": "2026-03-02T20:59:59Z"}
    async with connected(payouts.running.urls.superuser) as conn:
        for payee, instant in instants.items():
            await conn.execute(
                "UPDATE payouts SET requested_at = $2::text::timestamptz WHERE payee_id = $1", payee, instant
            )

    async def found(**params: str) -> set[str]:
        return {item["id"] for item in await listed(payouts, PAYOUTS, **params)}

    assert await found(date_from="2026-03-01", date_to="2026-03-01") == {late}
    assert await found(date_from="2026-03-02", date_to="2026-03-02") == {midnight, evening}
    assert await found(date_to="2026-03-01") == {late}
    assert await found(date_from="2026-03-02") == {midnight, evening}
    assert await found(date_from="2026-03-03") == set()


@pytest.mark.parametrize(
    "params",
    [{"status": "lost"}, {"limit": 0}, {"limit": 1001}, {"date_from": "March"},
     {"date_from": "2026-03-02", "date_to": "2026-03-01"}, {"payee_id": "x" * 201}],
)  # fmt: skip
async def test_what_cannot_be_listed(payouts: Payouts, params):
    check_problem(await payouts.http.get(PAYOUTS, params=params, headers=payouts.finance), 422)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "cursor",
    ["x", "%%%", "é", write_cursor("a", "b"), "bnVsbA", write_cursor(1, 2, 3), write_cursor("2026-03-01T00:00:00", ANY_ID),
     write_cursor("2026-03-01T00:00:00Z", "no-id"), write_cursor(5), write_cursor("\0"), "y" * 501],
)  # fmt: skip
async def test_a_cursor_of_no_list_is_refused(payouts: Payouts, path, cursor):
    problem = check_problem(await payouts.http.get(path, params={"cursor": cursor}, headers=payouts.finance), 422)
    assert problem["type"].endswith("bad-cursor") or len(cursor) > 500
    assert [error["field"].rpartition(".")[2] for error in problem["errors"]] == ["cursor"]


async def test_the_cursor_of_another_list_is_refused(payouts: Payouts):
    await earned(payouts, "d1", "d2")
    page = (await payouts.http.get(BALANCES, params={"limit": 1}, headers=payouts.finance)).json()
    for path in (PAYOUTS, f"{PAYOUTS}/driver/d1", PLANS):
        answer = await payouts.http.get(path, params={"cursor": page["next_cursor"]}, headers=payouts.finance)
        check_problem(answer, 422, "bad-cursor")


@pytest.mark.parametrize(
    ("path", "field", "more"),
    [("approve", "ids", {}), ("disburse", "ids", {"method": "cash"}), ("request-batch", "payee_ids", {})],
)
async def test_a_batch_has_at_most_a_thousand(payouts: Payouts, path, field, more):
    ids = [str(uuid4()) for _ in range(1_001)]
    answer = await payouts.http.post(f"{PAYOUTS}/{path}", json={field: ids, **more}, headers=payouts.finance)
    assert [error["field"] for error in check_problem(answer, 422)["errors"]] == [field]
    answer = await payouts.http.post(f"{PAYOUTS}/{path}", json={field: ids[:1_000], **more}, headers=payouts.finance)
    assert (answer.status_code, len(answer.json()["results"])) == (200, 1_000)
    answer = await payouts.http.post(f"{PAYOUTS}/{path}", json={field: [], **more}, headers=payouts.finance)
    assert (answer.status_code, answer.json()) == (200, {"results": []})


@pytest.mark.parametrize(
    "wrong",
    [
        {"fleet_id": "f1", "payee_id": "d1"},
        {"commission_bp": 10_001},
        {"commission_bp": -1},
        {"commission_bp": 12.5},
        {"commission_bp": "1000"},
        {"commission_bp": None},
        {"delay_days": -1},
        {"delay_days": 366},
        {"valid_from": "tomorrow"},
        {"valid_from": None},
        {"fleet_id": ""},
        {"payee_id": "d\0"},
        {"route_id": "r1"},
    ],
)
async def test_plans_that_mean_nothing_are_refused(payouts: Payouts, wrong):
    check_problem(await payouts.http.post(PLANS, json={**PLAN, **wrong}, headers=payouts.finance), 422)
    assert await listed(payouts, PLANS) == []
    assert await payouts.fetch("SELECT FROM audit") == []


async def test_plans_are_listed_in_pages_and_set_once_a_day(payouts: Payouts):
    scopes: list[dict[str, Any]] = [
        {},
        {"fleet_id": "f1"},
        {"payee_id": "d1"},
        {"commission_bp": 10_000, "fleet_id": "f2"},
    ]
    made = []
    for scope in scopes:
        answer = await payouts.http.post(PLANS, json={**PLAN, **scope}, headers=payouts.running.as_("admin"))
        assert answer.status_code == 201, answer.text
        made.append(answer.json())
        twice = await payouts.http.post(PLANS, json={**PLAN, **scope, "commission_bp": 1}, headers=payouts.finance)
        check_problem(twice, 409, "plan-exists")
    assert [item async for items in pages(payouts, PLANS, limit=3) for item in items] == made


async def test_an_unknown_tenant_can_do_nothing(payouts: Payouts):
    headers = payouts.running.as_("finance", tenant="nobody")
    check_problem(await payouts.http.post(PLANS, json=PLAN, headers=headers), 403)
    body = {"payee_ids": ["d1"]}
    check_problem(await payouts.http.post(f"{PAYOUTS}/request-batch", json=body, headers=headers), 403)


async def test_a_step_that_was_taken_is_not_taken_again(payouts: Payouts):
    (payout_id,) = await requested(payouts, "d1")
    check_problem(await payouts.decide(payout_id, "disbursed", method="cash"), 409, "payout-not-in-state")
    for status, more in (("approved", {}), ("disbursed", {"method": "cash"})):
        assert (await payouts.decide(payout_id, status, **more)).status_code == 200
        check_problem(await payouts.decide(payout_id, status, **more), 409, "payout-not-in-state")
    for status in ("rejected", "failed"):
        check_problem(await payouts.decide(payout_id, status, reason="late"), 409, "payout-not-in-state")
    check_problem(await payouts.decide(ANY_ID, "approved"), 404, "payout-unknown")
    check_problem(await payouts.decide("nonsense", "approved"), 422)
    assert len(await payouts.fetch("SELECT FROM audit")) == 3
    await payouts.check_books()


@pytest.mark.parametrize(
    "body",
    [{}, {"status": "requested"}, {"status": "lost"}, {"status": "rejected"}, {"status": "failed", "reason": ""},
     {"status": "disbursed"}, {"status": "disbursed", "method": "cheque"}, {"status": "approved", "colour": "red"}],
)  # fmt: skip
async def test_decisions_that_say_too_little_are_refused(payouts: Payouts, body):
    (payout_id,) = await requested(payouts, "d1")
    answer = await payouts.http.put(f"{PAYOUTS}/{payout_id}/status", json=body, headers=payouts.finance)
    check_problem(answer, 422)
    assert [item["status"] for item in await listed(payouts, PAYOUTS)] == ["requested"]


@pytest.mark.parametrize("body", [{"amount": 0}, {"amount": -1}, {"amount": 1.5}, {"amount": "1"}, {"currency": "XXX"}])
async def test_wishes_that_mean_nothing_are_refused(payouts: Payouts, body):
    await earned(payouts, "d1")
    check_problem(await payouts.request("d1", **body), 422)
    assert await listed(payouts, PAYOUTS) == []
