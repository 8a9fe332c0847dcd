"""Rules and alerts over HTTP, and every refusal."""

from datetime import timedelta
from uuid import uuid4

import pytest

from services.alerts.raise_alerts import raise_alerts
from tests.alerts.calls import NOW, completed, failed, payout_failed

RULES, ALERTS = "/api/v1/payments/alerts", "/api/v1/alerts"
RULE = {"kind": "payment_failed", "recipients": ["boss@acme.example"], "cooldown_seconds": 60, "enabled": True}


@pytest.fixture
def call(running):
    async def call(method, path, *roles, tenant="acme", json=None, params=None, **claims):
        headers = running.as_(*roles, tenant=tenant, **claims) if roles else {}
        return await running.http.request(method, path, headers=headers, json=json, params=params)

    return call


@pytest.fixture
def raised(running, call):
    """Create a rule of each kind and raise an alert per event, a second apart; their ids by subject."""

    async def raise_all(*events):
        for rule in (
            RULE,
            {**RULE, "kind": "high_value", "thresholds": {"KES": 100}},
            {**RULE, "kind": "payout_failed"},
        ):
            assert (await call("POST", RULES, "admin", json=rule)).status_code == 201
        ids = {}
        for number, event in enumerate(events):
            async with running.service.db.transaction("acme") as conn:
                for alert in await raise_alerts(conn, [event], now=NOW + timedelta(seconds=number)):
                    ids[alert.subject] = str(alert.alert_id)
        return ids

    return raise_all


async def test_rules_are_created_read_and_changed(call):
    made = await call("POST", RULES, "finance", json=RULE)
    assert made.status_code == 201
    rule = made.json()
    assert {name: rule[name] for name in RULE} == RULE
    assert rule["thresholds"] is None
    other = (
        await call("POST", RULES, "admin", json={"kind": "high_value", "thresholds": {"KES": 5}, "recipients": []})
    ).json()
    assert (other["cooldown_seconds"], other["enabled"], other["thresholds"]) == (300, True, {"KES": 5})
    changed = await call(
        "PUT", f"{RULES}/{rule['id']}", "admin", json={**RULE, "enabled": False, "cooldown_seconds": 0}
    )
    assert (changed.status_code, changed.json()["enabled"], changed.json()["cooldown_seconds"]) == (200, False, 0)
    listed = (await call("GET", RULES, "manager")).json()
    assert [item["id"] for item in listed["items"]] == [other["id"], rule["id"]]
    first = (await call("GET", RULES, "finance", params={"limit": 1})).json()
    second = (await call("GET", RULES, "finance", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in (*first["items"], *second["items"])] == [other["id"], rule["id"]]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "meteor"},
        {"kind": "high_value"},
        {"kind": "high_value", "thresholds": {}},
        {"kind": "high_value", "thresholds": {"KES": 0}},
        {"kind": "high_value", "thresholds": {"KES": 1.5}},
        {"kind": "high_value", "thresholds": {"XXX": 5}},
        {"thresholds": {"KES": 5}},
        {"recipients": ["boss"]},
        {"recipients": ["boss@localhost"]},
        {"recipients": ["boss@acme.example\nBcc: thief@evil.example"]},
        {"recipients": ["boss@acme.example\n"]},
        {"recipients": ["Boss <boss@acme.example>"]},
        {"recipients": ["a@acme.example", "A@acme.example"]},
        {"recipients": [f"r{n}@acme.example" for n in range(21)]},
        {"recipients": None},
        {"cooldown_seconds": -1},
        {"cooldown_seconds": 10**9},
        {"cooldown_seconds": "60"},
        {"colour": "red"},
    ],
)
async def test_rules_that_mean_nothing_are_refused(call, wrong):
    answer = await call("POST", RULES, "admin", json={**RULE, **wrong})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"]


async def test_a_rule_is_changed_within_its_kind_and_tenant(call):
    rule = (await call("POST", RULES, "admin", json=RULE)).json()
    path = f"{RULES}/{rule['id']}"
    assert (await call("PUT", path, "admin", json={**RULE, "kind": "payout_failed"})).status_code == 422
    assert (await call("PUT", path, "admin", tenant="other", json=RULE)).status_code == 404
    assert (await call("PUT", f"{RULES}/{uuid4()}", "admin", json=RULE)).status_code == 404
    assert (await call("PUT", f"{RULES}/nonsense", "admin", json=RULE)).status_code == 422
    assert (await call("GET", RULES, "admin", tenant="other")).json()["items"] == []


async def test_alerts_are_listed_newest_first_in_pages(call, raised):
    await raised(failed("p1"), completed("p2"), payout_failed("o1"))
    subjects, cursor = [], None
    while True:
        answer = (
            await call("GET", ALERTS, "finance", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        subjects += [item["subject"] for item in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert subjects == ["o1", "p2", "p1"]
    (item,) = (await call("GET", ALERTS, "finance", params={"kind": "high_value"})).json()["items"]
    assert {name: item[name] for name in ("kind", "subject", "fleet_id", "status", "mail", "acknowledged_by")} == {
        "kind": "high_value", "subject": "p2", "fleet_id": "f1", "status": "open", "mail": "pending",
        "acknowledged_by": None,
    }  # fmt: skip


async def test_an_alert_is_acknowledged_once(running, call, raised):
    alert_id = (await raised(failed("p1"), failed("p2")))["p1"]
    first = await call("POST", f"{ALERTS}/{alert_id}/acknowledge", "finance", subject="anne")
    assert (first.status_code, first.json()["status"], first.json()["acknowledged_by"]) == (200, "acknowledged", "anne")
    again = await call("POST", f"{ALERTS}/{alert_id}/acknowledge", "admin", subject="bob")
    assert (again.status_code, again.json()) == (200, first.json())
    open_ones = (await call("GET", ALERTS, "finance", params={"status": "open"})).json()["items"]
    assert [item["subject"] for item in open_ones] == ["p2"]
    async with running.service.db.transaction("acme") as conn:
        rows = await conn.fetch("SELECT actor, subject FROM audit WHERE action = 'alert-acknowledged'")
    assert [tuple(row) for row in rows] == [("anne", alert_id)]


async def test_a_manager_sees_and_acknowledges_alerts_of_the_own_fleets(call, raised):
    ids = await raised(failed("p1", fleet_id="f1"), failed("p2", fleet_id="f2"), payout_failed("o1"))
    listed = (await call("GET", ALERTS, "manager", fleet_ids=["f1"])).json()["items"]
    assert [item["subject"] for item in listed] == ["p1"]
    assert (await call("GET", ALERTS, "manager")).json()["items"] == []
    for subject, status in (("p1", 200), ("p2", 404), ("o1", 404)):
        answer = await call("POST", f"{ALERTS}/{ids[subject]}/acknowledge", "manager", fleet_ids=["f1"])
        assert answer.status_code == status


async def test_another_tenant_sees_nothing(call, raised):
    ids = await raised(failed("p1"))
    assert (await call("GET", ALERTS, "admin", tenant="other")).json()["items"] == []
    assert (await call("POST", f"{ALERTS}/{ids['p1']}/acknowledge", "admin", tenant="other")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "refused"),
    [
        ("GET", RULES, ("driver", "client", "operator", "system")),
        ("POST", RULES, ("manager", "driver", "client", "operator", "system")),
        ("PUT", f"{RULES}/{uuid4()}", ("manager", "driver", "client", "operator", "system")),
        ("GET", ALERTS, ("driver", "client", "operator", "system")),
        ("POST", f"{ALERTS}/{uuid4()}/acknowledge", ("driver", "client", "operator", "system")),
    ],
)
async def test_who_may_not(call, method, path, refused):
    body = RULE if method == "PUT" or path == RULES else None
    assert (await call(method, path, json=body)).status_code == 401
    for role in refused:
        answer = await call(method, path, role, json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert (await call(method, path, "admin", tenant=None, json=body)).status_code == 403


async def test_an_unknown_tenant_creates_no_rule(call):
    assert (await call("POST", RULES, "admin", tenant="nobody", json=RULE)).status_code == 403


@pytest.mark.parametrize(
    "params", [{"status": "lost"}, {"kind": "meteor"}, {"limit": 0}, {"cursor": "x"}, {"cursor": "WzEsMl0"}]
)
async def test_what_cannot_be_listed(call, params):
    answer = await call("GET", ALERTS, "finance", params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_an_unknown_alert_is_not_found(call):
    assert (await call("POST", f"{ALERTS}/{uuid4()}/acknowledge", "admin")).status_code == 404
