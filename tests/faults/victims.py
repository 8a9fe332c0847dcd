"""A tenant with something of everything, in each service, that another tenant must never see; all of it is marked."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from services.alerts.raise_alerts import raise_alerts
from services.reporting.project_events import project_events
from shared.events.payments import Share
from tests.conftest import ADD_TENANT, Running
from tests.payments.conftest import Payments, new_payments
from tests.payouts.conftest import Payouts, new_payouts, paid
from tests.reporting.events import earning, payment, payout

MARK = "marked-as-the-victims"  # in every text that is shown and not asked for
AMOUNT = 73_519  # and in every sum
NET = 66_167  # of that for the payee, after the tenth that is kept: payouts and balances show no other sum
VICTIM, INTRUDER = "t1", "t2"
KEY = "the-victims-key"
Found = dict[str, str]  # what the intruder has found out: the ids of everything, by the parameters that take them


async def in_payments(run: Any) -> tuple[Running, Found]:
    """A tenant, a gateway account, a request, money for it in two ways."""
    payments = await new_payments(run)
    running, admin = payments.running, payments.running.as_("admin")
    await running.http.post("/api/v1/gateway-accounts", json={"gateway": "standard", "name": MARK}, headers=admin)
    request = await payments.request(
        AMOUNT, id="trip-1", client_id="c1", client={"name": MARK}, reference=MARK, payees=[{"payee_id": "d1"}]
    )
    await payments.callback(request_id="trip-1", transaction_id="x1", amount=AMOUNT, payer={"name": MARK})
    await payments.request(AMOUNT, id="trip-2", reference=MARK)
    cash = cash_payment("trip-2")
    answer = await payments.http.post(
        "/api/v1/payments", json=cash, headers={**payments.system, "idempotency-key": KEY}
    )
    assert answer.status_code == 201, answer.text
    await _other_tenant(payments)
    return running, {
        "tenant_id": VICTIM, "account_id": payments.account, "request_id": request["id"], "client_id": "c1",
        "payment_id": answer.json()["id"], "payee_id": "d1", "fleet_id": "f1", "vehicle_id": "v1", "route_id": "r1",
        "cursor": await _cursor(running, "/api/v1/payments"),
    }  # fmt: skip


def cash_payment(request_id: str) -> dict[str, Any]:
    return {"request_id": request_id, "transaction_id": "cash-1", "amount": AMOUNT, "currency": "KES", "method": "cash",
            "paid_at": "2026-03-01T08:00:00Z", "reference": MARK}  # fmt: skip


async def _other_tenant(payments: Payments) -> None:
    body = {"tenant_id": INTRUDER, "name": "Intruder", "time_zone": "Africa/Nairobi", "currency": "KES"}
    headers = payments.running.as_("operator", tenant=None)
    assert (await payments.http.post("/api/v1/tenants", json=body, headers=headers)).status_code == 201


async def in_payouts(run: Any) -> tuple[Running, Found]:
    """Earnings, a plan, payouts in each state."""
    payouts: Payouts = await new_payouts(run)
    running = payouts.running
    async with running.service.db.transaction(INTRUDER) as conn:
        await conn.execute(ADD_TENANT, INTRUDER, "Africa/Nairobi", "KES")
    plan = {"commission_bp": 1234, "valid_from": "2026-01-01", "fleet_id": MARK}
    assert (await payouts.http.post("/api/v1/commission-plans", json=plan, headers=payouts.finance)).status_code == 201
    await payouts.accrue(*(paid(AMOUNT, payees=(Share(f"d{n}", 10_000),)) for n in (1, 2, 3)))
    ids = []
    for driver in ("d1", "d2"):
        headers = {**payouts.driver(driver), "idempotency-key": KEY}
        answer = await payouts.http.post("/api/v1/payouts/request", json={}, headers=headers)
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["id"])
    assert (await payouts.decide(ids[0], "approved")).status_code == 200
    await payouts.accrue(paid(AMOUNT))  # that a payout could be requested of
    return running, {
        "payee_id": "d1", "driver_id": "d1", "payout_id": ids[0], "requested": ids[1],
        "cursor": await _cursor(running, "/api/v1/payouts"),
    }  # fmt: skip


async def in_reporting(run: Any) -> tuple[Running, Found]:
    """Facts of each kind, and their roll-ups."""
    running = await run("reporting")
    db = running.service.db
    for tenant in (VICTIM, INTRUDER):
        async with db.transaction(tenant) as conn:
            await conn.execute(ADD_TENANT, tenant, "Africa/Nairobi", "KES")
    events = [payment(f"p{n}", tenant=VICTIM, amount=AMOUNT, fleet_id=MARK, client_id=MARK) for n in (1, 2)]
    events += [earning(tenant=VICTIM, gross=AMOUNT, amount=AMOUNT, commission=0)]
    events += [payout("o1", tenant=VICTIM, amount=AMOUNT, reference=MARK), payout("o2", "failed", tenant=VICTIM)]
    async with db.transaction(VICTIM) as conn:
        await project_events(conn, events)
    return running, {"currency": "KES", "cursor": await _cursor(running, "/api/v1/reports/history")}


async def in_alerts(run: Any) -> tuple[Running, Found]:
    """A rule, and alerts that it raised."""
    running = await run("alerts")
    db = running.service.db
    for tenant in (VICTIM, INTRUDER):
        async with db.transaction(tenant) as conn:
            await conn.execute(ADD_TENANT, tenant, "Africa/Nairobi", "KES")
    rule = {"kind": "high_value", "thresholds": {"KES": AMOUNT}, "recipients": [f"{MARK}@example.com"]}
    answers = [
        await running.http.post("/api/v1/payments/alerts", json=rule, headers=running.as_("admin")) for _ in range(2)
    ]
    async with db.transaction(VICTIM) as conn:
        await raise_alerts(conn, [payment("p1", tenant=VICTIM, amount=AMOUNT, fleet_id=MARK)], now=datetime.now(UTC))
    (alert, _) = (await running.http.get("/api/v1/alerts", headers=running.as_("admin"))).json()["items"]
    return running, {
        "rule_id": answers[0].json()["id"], "alert_id": alert["id"],
        "cursor": await _cursor(running, "/api/v1/payments/alerts"),
    }  # fmt: skip


async def _cursor(running: Running, path: str) -> str:
    answer = await running.http.get(path, params={"limit": 1}, headers=running.as_("admin"))
    assert answer.json()["next_cursor"], answer.text
    return answer.json()["next_cursor"]


IN_SERVICE: dict[str, Callable[[Any], Awaitable[tuple[Running, Found]]]] = {
    "payments": in_payments,
    "payouts": in_payouts,
    "reporting": in_reporting,
    "alerts": in_alerts,
}
