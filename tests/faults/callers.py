"""Callers of each service who do something right or wrong, and in whose every text their tenant is named."""

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from services.alerts.raise_alerts import raise_alerts
from services.payouts.accrue_earnings import accrue_earnings
from services.reporting.project_events import project_events
from shared.clocks import utc_now
from shared.db import Connection, is_transient
from shared.events.tenants import TenantConfigured
from shared.tenants import TenantCopy
from tests.conftest import Running
from tests.faults.victims import cash_payment
from tests.payments.conftest import create_tenant, new_request
from tests.payouts.conftest import received
from tests.reporting.events import payment


class Answer(NamedTuple):
    """What a caller was told."""

    status: int
    text: str


async def open_tenants(running: Running, service: str, tenants: Sequence[str]) -> None:
    """Make the tenants known to the service, with something to begin with."""
    if service == "payments":
        for tenant in tenants:
            await create_tenant(running, tenant)
        return
    copy = TenantCopy(running.service.db, wait_s=0)
    for tenant in tenants:
        configured = TenantConfigured(name=tenant, time_zone="Africa/Nairobi", currency="KES", version=1)
        await copy.keep([received(configured, tenant=tenant)])
        if service == "alerts":
            await _add_rule(running, tenant, number=0)


async def call_payments(running: Running, tenants: Sequence[str], number: int, chance: Random) -> Answer:
    """Requests and cash written, tenants, requests and payments read."""
    http, tenant = running.http, tenants[0]
    headers = running.as_("system", tenant=tenant)
    request = new_request(id=f"{tenant}-{number}", reference=tenant, fleet_id=tenant, client={"name": tenant})
    match chance.randrange(6):
        case 0:
            return _told(await http.post("/api/v1/requests", json=request, headers=headers))
        case 1:
            return _told(await http.post("/api/v1/requests/batch", json={"items": [request] * 3}, headers=headers))
        case 2:
            cash = cash_payment("nobody's") | {"reference": tenant}
            return _told(await http.post("/api/v1/payments", json=cash, headers=headers))
        case 3:
            return _told(await http.get(f"/api/v1/tenants/{tenant}", headers=headers))
        case 4:
            path = f"/api/v1/requests/{tenant}-{chance.randrange(number + 1)}"
            return _told(await http.get(path, headers=headers))
        case _:
            return _told(await http.get(f"/api/v1/payments/{uuid4()}", headers=headers))


async def call_payouts(running: Running, tenants: Sequence[str], number: int, chance: Random) -> Answer:
    """Earnings of two tenants in one batch, payouts requested and decided, plans; payouts and balances read."""
    http, tenant = running.http, tenants[0]
    finance, payee = running.as_("finance", tenant=tenant), f"{tenant}-d{chance.randrange(3)}"
    match chance.randrange(6):
        case 0:
            events = [payment(str(uuid4()), tenant=each, fleet_id=each, payees={f"{each}-d{n}": 10_000})
                      for each in tenants for n in range(3)]  # fmt: skip
            return await _in_one_batch(running, tenants, lambda conn: accrue_earnings(conn, events, now=utc_now()))
        case 1:
            driver = running.as_("driver", tenant=tenant, driver_id=payee)
            return _told(await http.post("/api/v1/payouts/request", json={}, headers=driver))
        case 2:
            plan = {"commission_bp": 1_000, "valid_from": "2027-01-01", "fleet_id": f"{tenant}-{number}"}
            return _told(await http.post("/api/v1/commission-plans", json=plan, headers=finance))
        case 3:
            return await _reject_first(running, tenant)
        case _:
            paths = [f"payees/{payee}/balance", "commission-plans", "balances", f"payouts/{uuid4()}"]
            return _told(await http.get(f"/api/v1/{chance.choice(paths)}", headers=finance))


async def _reject_first(running: Running, tenant: str) -> Answer:
    headers = running.as_("finance", tenant=tenant)
    listed = await running.http.get("/api/v1/payouts", params={"status": "requested"}, headers=headers)
    if listed.status_code != 200 or not listed.json()["items"]:
        return _told(listed)
    path = f"/api/v1/payouts/{listed.json()['items'][0]['id']}/status"
    return _told(await running.http.put(path, json={"status": "rejected", "reason": tenant}, headers=headers))


async def call_reporting(running: Running, tenants: Sequence[str], number: int, chance: Random) -> Answer:
    """Facts of two tenants in one batch; reports read, of ranges that there are and that there are not."""
    if chance.randrange(3) == 0:
        events = [payment(f"{each}-{number}", tenant=each, fleet_id=each, client_id=each, route_id=each,
                          payees={f"{each}-d1": 10_000}) for each in tenants]  # fmt: skip
        return await _in_one_batch(running, tenants, lambda conn: project_events(conn, events))
    path = f"/api/v1/reports/{chance.choice(['revenue', 'profits', 'history'])}"
    params = {"date_from": chance.choice(["2026-03-01", "no day"]), "date_to": "2026-03-31"}
    return _told(await running.http.get(path, params=params, headers=running.as_("finance", tenant=tenants[0])))


async def call_alerts(running: Running, tenants: Sequence[str], number: int, chance: Random) -> Answer:
    """Alerts of two tenants in one batch, rules made and changed, alerts acknowledged; both read."""
    http, tenant = running.http, tenants[0]
    admin = running.as_("admin", tenant=tenant)
    match chance.randrange(6):
        case 0:
            events = [payment(f"{each}-{number}", tenant=each, fleet_id=each) for each in tenants]
            return await _in_one_batch(running, tenants, lambda conn: raise_alerts(conn, events, now=utc_now()))
        case 1:
            return await _add_rule(running, tenant, number)
        case 2:
            path = f"/api/v1/payments/alerts/{uuid4()}"
            return _told(await http.put(path, json=_rule(tenant, number), headers=admin))
        case 3:
            listed = await http.get("/api/v1/alerts", params={"status": "open"}, headers=admin)
            if listed.status_code != 200 or not listed.json()["items"]:
                return _told(listed)
            path = f"/api/v1/alerts/{listed.json()['items'][0]['id']}/acknowledge"
            return _told(await http.post(path, headers=admin))
        case _:
            return _told(await http.get(chance.choice(["/api/v1/payments/alerts", "/api/v1/alerts"]), headers=admin))


async def _add_rule(running: Running, tenant: str, number: int) -> Answer:
    headers = running.as_("admin", tenant=tenant)
    return _told(await running.http.post("/api/v1/payments/alerts", json=_rule(tenant, number), headers=headers))


def _rule(tenant: str, number: int) -> dict[str, Any]:
    # Of the many rules only the first has alerts raised: else each event would raise hundreds.
    return {"kind": "high_value" if number == 0 else "payout_failed", "recipients": [f"{number}@{tenant}.example"],
            **({"thresholds": {"KES": 1}} if number == 0 else {})}  # fmt: skip


async def _in_one_batch(
    running: Running, tenants: Sequence[str], effect: Callable[[Connection], Awaitable[Any]]
) -> Answer:
    """What a consumer does with events of these tenants; what passes by itself is tried again by it, as by a caller."""
    try:
        await running.service.db.run(effect, *tenants)
    except Exception as error:
        if not is_transient(error):
            raise
        return Answer(503, "")
    return Answer(200, "")


def _told(answer: httpx.Response) -> Answer:
    return Answer(answer.status_code, answer.text)


Call = Callable[[Running, Sequence[str], int, Random], Awaitable[Answer]]
CALLERS: dict[str, tuple[Call, set[str]]] = {
    "payments": (call_payments, {"200", "201", "404"}),
    "payouts": (call_payouts, {"200", "201", "404", "409"}),
    "reporting": (call_reporting, {"200", "422"}),
    "alerts": (call_alerts, {"200", "201", "404"}),
}
