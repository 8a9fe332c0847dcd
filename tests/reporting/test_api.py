"""The reports over HTTP: figures, days, groups, pages, and every refusal."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.reporting.api.revenue import average
from tests.reporting.calls import project
from tests.reporting.events import NOON, earning, payment, payout, unmatched

REVENUE, PROFITS, HISTORY = "/reports/revenue", "/reports/profits", "/reports/history"


@pytest.fixture
def service(running):
    return running.service


async def get(call, path, **params):
    answer = await call("GET", path, "finance", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(("total", "count", "expected"), [(0, 0, 0), (10, 4, 3), (9, 4, 2), (1, 2, 1), (-1, 2, 0)])
def test_the_average_is_rounded_half_up(total, count, expected):
    assert average(total, count) == expected


async def test_revenue_without_payments_is_zero(call):
    answer = await get(call, REVENUE)
    assert answer == {
        "currency": "KES", "date_from": None, "date_to": None, "group_by": "day", "periods": [], "total": 0,
        "average": 0, "count": 0, "by": None, "groups": None, "next_cursor": None,
    }  # fmt: skip


async def test_revenue_by_day_week_and_month(service, call):
    for day, amount in (("2026-02-28", 100), ("2026-03-01", 200), ("2026-03-02", 301)):  # Saturday, Sunday, Monday
        at = datetime.fromisoformat(day).replace(hour=12, tzinfo=ZoneInfo("Africa/Nairobi"))
        await project(service.db, payment(day, amount=amount, paid_at=at))
    by_day = await get(call, REVENUE)
    assert [p["date"] for p in by_day["periods"]] == ["2026-02-28", "2026-03-01", "2026-03-02"]
    assert (by_day["total"], by_day["count"], by_day["average"]) == (601, 3, 200)
    by_week = await get(call, REVENUE, group_by="week")
    assert by_week["periods"] == [
        {"date": "2026-02-23", "revenue": 300, "count": 2},
        {"date": "2026-03-02", "revenue": 301, "count": 1},
    ]
    by_month = await get(call, REVENUE, group_by="month")
    assert by_month["periods"] == [
        {"date": "2026-02-01", "revenue": 100, "count": 1},
        {"date": "2026-03-01", "revenue": 501, "count": 2},
    ]
    inclusive = await get(call, REVENUE, date_from="2026-03-01", date_to="2026-03-02")
    assert (inclusive["total"], inclusive["date_from"], inclusive["date_to"]) == (501, "2026-03-01", "2026-03-02")


async def test_currencies_are_never_summed(service, call):
    await project(service.db, payment("p1", amount=5), payment("p2", amount=7, currency="USD"))
    assert (await get(call, REVENUE))["total"] == 5
    assert (await get(call, REVENUE, currency="USD"))["total"] == 7
    assert (await get(call, REVENUE, currency="JPY"))["total"] == 0


async def test_groups_come_by_revenue_then_key_in_pages(service, call):
    fleets = {"a": 10, "b": 30, "c": 10, None: 30, "e": 5}
    await project(service.db, *[payment(f"p{n}", amount=a, fleet_id=f) for n, (f, a) in enumerate(fleets.items())])
    pages, cursor = [], None
    while True:
        answer = await get(call, REVENUE, by="fleet", limit=2, **({"cursor": cursor} if cursor else {}))
        assert (answer["total"], answer["count"], answer["by"]) == (85, 5, "fleet")
        pages.append([(g["key"], g["revenue"], g["count"], g["average"]) for g in answer["groups"]])
        assert all(sum(p["revenue"] for p in g["periods"]) == g["revenue"] for g in answer["groups"])
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert pages == [[(None, 30, 1, 30), ("b", 30, 1, 30)], [("a", 10, 1, 10), ("c", 10, 1, 10)], [("e", 5, 1, 5)]]


@pytest.mark.parametrize(
    ("group_by", "limit", "pages"),
    [
        ("day", 100, [{"a": 3}, {"b": 1, "c": 1}, {"d": 4}, {"e": 1}]),
        ("week", 100, [{"a": 2, "b": 1}, {"c": 1}, {"d": 4}, {"e": 1}]),
        ("week", 1, [{"a": 2}, {"b": 1}, {"c": 1}, {"d": 4}, {"e": 1}]),
    ],
)
async def test_a_page_of_groups_with_many_periods_is_cut_but_never_empty(
    service, call, monkeypatch, *, group_by, limit, pages
):
    monkeypatch.setattr("services.reporting.api.revenue.PERIODS_ON_A_PAGE", 3)
    monday, tuesday = NOON - timedelta(days=NOON.weekday()), NOON - timedelta(days=NOON.weekday() - 1)
    weeks = timedelta(weeks=1)
    paid = {
        "a": [monday, tuesday, monday + weeks],
        "b": [monday],
        "c": [monday],
        "d": [monday + n * weeks for n in range(4)],
        "e": [monday],
    }
    await project(
        service.db,
        *[
            payment(f"{fleet}{n}", amount=10_000 // 10**rank, fleet_id=fleet, paid_at=at)
            for rank, (fleet, instants) in enumerate(paid.items())
            for n, at in enumerate(instants)
        ],
    )
    seen, more = [], {}
    while not seen or more["cursor"]:
        answer = await get(call, REVENUE, by="fleet", group_by=group_by, limit=limit, **more)
        seen.append({group["key"]: len(group["periods"]) for group in answer["groups"]})
        more = {"cursor": answer["next_cursor"]}
    assert seen == pages


@pytest.mark.parametrize(("group_by", "dates"), [("day", ["2026-03-02", "2026-03-04"]), ("month", ["2026-03-01"])])
async def test_a_group_has_its_periods_with_payments_in_order(service, call, group_by, dates):
    """In days that have rows of the fleet but no payment, there is no period."""
    events = [payment(f"p{n}", paid_at=NOON + timedelta(days=days)) for n, days in enumerate((2, 0))]
    await project(service.db, *events, earning(paid_at=NOON + timedelta(days=1)))
    (group,) = (await get(call, REVENUE, by="fleet", group_by=group_by))["groups"]
    assert [period["date"] for period in group["periods"]] == dates
    assert sum(period["count"] for period in group["periods"]) == group["count"] == 2


async def test_by_payee_splits_the_revenue(service, call):
    await project(service.db, payment(amount=101, payees={"d1": 5000, "d2": 5000}), payment("p2", amount=9, payees={}))
    groups = (await get(call, REVENUE, by="payee"))["groups"]
    assert [(g["key"], g["revenue"], g["count"]) for g in groups] == [("d1", 51, 1), ("d2", 50, 1), (None, 9, 1)]


async def test_unmatched_and_overpaid_money_is_revenue(service, call):
    await project(service.db, unmatched("p1", amount=5), payment("p2", amount=9, applied=7, flags=("overpaid",)))
    assert (await get(call, REVENUE))["total"] == 14


async def test_profits_of_a_cash_fare_and_a_card_fare_paid_out(service, call):
    events = [
        payment("p1", method="cash", amount=10_000),
        earning("e1", payment_id="p1", cash_held=10_000),
        payment("p2", amount=10_000, fee=50, payees={"d2": 10_000}),
        earning("e2", payment_id="p2", payee_id="d2"),
        payment("p3", amount=10_000, payees={"d3": 10_000}),
        earning("e3", payment_id="p3", payee_id="d3"),
        payout("o1", payee_id="d2", at=NOON + timedelta(days=1)),
        payout("o2", "requested", payee_id="d3"),
    ]
    await project(service.db, *events)
    answer = await get(call, PROFITS)
    assert answer == {
        "currency": "KES", "date_from": None, "date_to": None, "count_payments": 3, "revenue": 30_000, "refunds": 0,
        "payouts_disbursed": 9_000, "cash_held": 10_000, "fees": 50, "costs": 0, "net_profit": 10_950,
        "payee_earnings": 27_000, "commission_earned": 3_000, "earned_profit": 2_950, "owed_by_payees": 1_000,
        "owed_to_payees": 9_000,
    }  # fmt: skip
    assert answer["earned_profit"] - answer["net_profit"] == answer["owed_by_payees"] - answer["owed_to_payees"]
    one_day = await get(call, PROFITS, date_from="2026-03-02", date_to="2026-03-02")
    assert (one_day["payouts_disbursed"], one_day["net_profit"], one_day["owed_to_payees"]) == (0, 19_950, 9_000)


async def test_history_shows_every_payment_and_payout_newest_first(service, call):
    events = [payment(f"p{n}", "failed" if n % 2 else "completed", paid_at=NOON + timedelta(hours=n)) for n in range(5)]
    await project(service.db, *events, payout("o1", "requested", at=NOON + timedelta(hours=2)))
    items, cursor = [], None
    while True:
        answer = await get(call, HISTORY, limit=2, **({"cursor": cursor} if cursor else {}))
        assert len(answer["items"]) <= 2
        items += answer["items"]
        if not items[2:]:  # a row that arrives above the page does not disturb the pages below
            await project(service.db, payment("p9", paid_at=NOON + timedelta(days=1)))
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert [item["id"] for item in items] == ["p4", "p3", "p2", "o1", "p1", "p0"]
    assert [item["status"] for item in items][:4] == ["completed", "failed", "completed", "requested"]
    assert (items[3]["kind"], items[3]["payee_id"], items[3]["fleet_id"]) == ("payout", "d1", None)
    assert datetime.fromisoformat(items[0]["at"]) == NOON + timedelta(hours=4)


async def test_history_of_days_and_of_a_currency(service, call):
    late = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)  # the 2nd in Nairobi
    await project(service.db, payment("p1", paid_at=late), payment("p2", paid_at=NOON, currency="USD"))

    async def ids(**params):
        return [item["id"] for item in (await get(call, HISTORY, **params))["items"]]

    assert await ids(date_from="2026-03-02", date_to="2026-03-02") == ["p2", "p1"]
    assert await ids(date_to="2026-03-01") == []
    assert await ids(currency="USD") == ["p2"]


async def test_a_manager_sees_the_revenue_of_the_own_fleets(service, call):
    await project(service.db, *[payment(f"p{n}", amount=n, fleet_id=f"f{n}") for n in (1, 2, 3)])

    async def revenue(fleets, **params):
        answer = await call("GET", REVENUE, "manager", claims={"fleet_ids": fleets}, params=params)
        assert answer.status_code == 200
        return answer.json()

    assert (await revenue(["f1", "f3"]))["total"] == 4
    assert [g["key"] for g in (await revenue(["f1", "f3"], by="fleet"))["groups"]] == ["f3", "f1"]
    assert (await revenue([]))["total"] == 0
    refused = await call("GET", REVENUE, "manager", claims={"fleet_ids": ["f1"]}, params={"by": "payee"})
    assert refused.status_code == 403


@pytest.mark.parametrize("path", [REVENUE, PROFITS, HISTORY])
async def test_who_may_not_read(service, call, path):
    await project(service.db, payment(), earning(), payout())
    assert (await call("GET", path)).status_code == 401
    for role in ("driver", "client", "operator", "system", *(["manager"] if path != REVENUE else [])):
        answer = await call("GET", path, role)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert (await call("GET", path, "finance", tenant=None)).status_code == 403
    assert (await call("GET", path, "finance", tenant="nobody")).status_code == 403
    other = (await call("GET", path, "admin", tenant="other", params={"currency": "KES"})).json()
    assert other.get("items", []) == []
    assert (other.get("total", 0), other.get("revenue", 0), other.get("owed_to_payees", 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        (REVENUE, {"date_from": "2026-03-02", "date_to": "2026-03-01"}, "date_from"),
        (REVENUE, {"date_from": "2001-01-01", "date_to": "2026-03-01"}, "date_to"),
        (REVENUE, {"date_from": "yesterday"}, "query.date_from"),
        (REVENUE, {"currency": "XXX"}, "query.currency"),
        (REVENUE, {"currency": "kes"}, "query.currency"),
        (REVENUE, {"group_by": "year"}, "query.group_by"),
        (REVENUE, {"by": "client"}, "query.by"),
        (REVENUE, {"limit": 1001}, "query.limit"),
        (REVENUE, {"by": "fleet", "cursor": "rubbish"}, "cursor"),
        (PROFITS, {"currency": "ZZZ"}, "query.currency"),
        (PROFITS, {"date_from": "2026-03-02", "date_to": "2026-03-01"}, "date_from"),
        (HISTORY, {"limit": 0}, "query.limit"),
        (HISTORY, {"cursor": "WzEsMl0"}, "cursor"),
        (HISTORY, {"cursor": "WyJ4IiwieSIsInoiXQ"}, "cursor"),
        (HISTORY, {"date_from": "2026-03-02", "date_to": "2026-03-01"}, "date_from"),
    ],
)
async def test_what_cannot_be_asked(call, path, params, field):
    answer = await call("GET", path, "finance", params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("params", [{"date_to": "9999-12-31"}, {"date_from": "0001-01-01"}])
@pytest.mark.parametrize("path", [REVENUE, PROFITS, HISTORY])
async def test_the_ends_of_the_calendar(service, call, path, params):
    await project(service.db, payment())
    assert await get(call, path, **params) | {"date_from": None, "date_to": None} == (
        await get(call, path) | {"date_from": None, "date_to": None}
    )


def test_the_api_declares_problems_and_examples(service):
    description = service.api.openapi()
    for path in (REVENUE, PROFITS, HISTORY):
        operation = description["paths"][f"/api/v1{path}"]["get"]
        assert {"200", "401", "403", "422"} <= operation["responses"].keys()
        assert operation["tags"] == ["reports"]
    assert all("example" in description["components"]["schemas"][name] for name in ("Revenue", "Profits", "Happening"))


async def test_metrics_name_the_reports_by_their_full_paths(running, call):
    for path in (REVENUE, PROFITS, HISTORY):
        await get(call, path)
    text = (await running.http.get("/metrics")).text
    routes = set(re.findall(r'^takings_http_requests_total\{.*route="([^"]*)"', text, re.MULTILINE))
    assert {f"/api/v1{path}" for path in (REVENUE, PROFITS, HISTORY)} <= routes
    assert not {"/revenue", "/profits", "/history"} & routes
