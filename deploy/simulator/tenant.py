"""A tenant of its own for each run: created, given a gateway account and alert rules, awaited in every service."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import aiohttp

from deploy.simulator.client import Answer, Api, DemoFailed
from deploy.simulator.gateway import Gateway
from deploy.simulator.settle import until

NOT_YET = (401, 403, 404, 409, 503)  # how a service may answer for a tenant that has not reached it yet
USABLE_WITHIN_S = 30.0
RULES = ("payment_failed", "high_value", "payout_failed")


class Mint(Protocol):
    """Makes a bearer token of the local stack."""

    def __call__(
        self,
        roles: list[str],
        *,
        tenant_id: str | None = None,
        driver_id: str | None = None,
        client_id: str | None = None,
        fleet_ids: list[str] | None = None,
    ) -> str: ...


@dataclass(frozen=True)
class Plan:
    """The tenant to be: `high_value_from` in minor units of `currency`."""

    tenant_id: str
    currency: str
    time_zone: str
    high_value_from: int

    @property
    def finance_address(self) -> str:
        """Where this tenant's alerts are mailed."""
        return f"finance@{self.tenant_id}.example"


@dataclass(frozen=True)
class Stage:
    """Everyone's way in: one Api per service and role, the gateway, and a maker of a driver's own Api to payouts."""

    plan: Plan
    booking: Api
    payments: Api
    payouts: Api
    reporting: Api
    alerts: Api
    mail: Api
    gateway: Gateway
    driver: Callable[[str], Api]


async def open_tenant(
    session: aiohttp.ClientSession, stack: dict[str, Any], mint: Mint, plan: Plan, *, clock: Callable[[], float]
) -> Stage:
    """Create the tenant, its account and rules; return once every service takes calls for it. Raises DemoFailed."""
    urls = {name: str(service["url"]) for name, service in stack["services"].items()}
    tenant_id = plan.tenant_id

    def api(service: str, role: str) -> Api:
        return Api(session, urls[service], mint([role], tenant_id=tenant_id))

    def driver(driver_id: str) -> Api:
        return Api(session, urls["payouts"], mint(["driver"], tenant_id=tenant_id, driver_id=driver_id))

    operator = Api(session, urls["payments"], mint(["operator"]))
    tenant = {
        "tenant_id": tenant_id,
        "name": f"Demo {tenant_id}",
        "time_zone": plan.time_zone,
        "currency": plan.currency,
    }
    await operator.post("/api/v1/tenants", tenant)
    system, finance, admin = api("payments", "system"), api("payouts", "finance"), api("alerts", "admin")
    ledger, books = api("payments", "finance"), api("reporting", "finance")
    await _answers("payments", system, "/api/v1/gateway-accounts")
    # A second account would be a second secret: not to be asked for again when the answer is lost.
    account = await system.post("/api/v1/gateway-accounts", {"gateway": "standard", "name": "demo"}, repeatable=False)
    gateway = Gateway(session, urls["payments"], account_id=account["id"], secret=account["secret"], clock=clock)
    await _answers("payouts", finance, "/api/v1/balances")
    await _answers("reporting", books, "/api/v1/reports/profits")
    for kind in RULES:
        rule: dict[str, Any] = {
            "kind": kind,
            "recipients": [plan.finance_address],
            "cooldown_seconds": 0,
            "enabled": True,
        }
        if kind == "high_value":
            rule["thresholds"] = {plan.currency: plan.high_value_from}
        create = partial(
            admin.call, "POST", "/api/v1/payments/alerts", body=rule, expect=(200, 201, *NOT_YET), repeatable=False
        )
        await _usable("alerts", create)
    known = await until(gateway.is_known, lambda yes: "" if yes else "the account", stalled_s=USABLE_WITHIN_S)
    if known.missing:
        raise DemoFailed(f"payments does not know the new gateway account after {known.seconds:.0f} s")
    return Stage(
        plan=plan,
        booking=system,
        payments=ledger,
        payouts=finance,
        reporting=books,
        alerts=admin,
        mail=Api(session, str(stack["mail"]["url"])),
        gateway=gateway,
        driver=driver,
    )


async def _answers(service: str, api: Api, path: str) -> None:
    await _usable(service, partial(api.call, "GET", path, expect=(200, *NOT_YET)))


async def _usable(service: str, call: Callable[[], Awaitable[Answer]]) -> None:
    def missing(answer: Answer) -> str:
        return f"{answer.status}: {answer.body}" if answer.status in NOT_YET else ""

    arrival = await until(call, missing, stalled_s=USABLE_WITHIN_S)
    if arrival.missing:
        raise DemoFailed(f"{service} does not know the new tenant after {arrival.seconds:.0f} s: {arrival.missing}")
