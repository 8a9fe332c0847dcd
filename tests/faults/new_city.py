"""A city of its own for a test: its tenant in all services, its gateway account, its rules."""

import random
from pathlib import Path
from typing import Any

import aiohttp

from tests.conftest import until
from tests.faults.journal import Journal
from tests.faults.load import AT_ONCE, CALL_LIMIT_S, City
from tests.faults.servers import Servers
from tests.faults.trips import CURRENCY, HIGH_VALUE


async def new_city(servers: Servers, tenant: str, journal: Path, chance: random.Random) -> City:
    """A tenant that all services know, with a gateway account and rules for alerts. Close it in the end."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=2 * AT_ONCE, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(total=CALL_LIMIT_S),
    )
    city = City(servers, tenant, "", "", Journal(journal), chance, session)
    try:
        await _make_known(city)
    except BaseException:
        await city.close()
        raise
    return city


async def _make_known(city: City) -> None:
    settings = {"tenant_id": city.tenant, "name": city.tenant, "time_zone": "Africa/Nairobi", "currency": CURRENCY}
    operator, admin = city.servers.bearer("operator", tenant=None), city.servers.bearer("admin", tenant=city.tenant)
    await _post(city, "payments", "/tenants", settings, operator)
    made = await _post(city, "payments", "/gateway-accounts", {"gateway": "standard"}, admin)
    city.account, city.secret = made["id"], made["secret"]
    for kind in ("payment_failed", "high_value", "payout_failed"):
        rule = {"kind": kind, "recipients": []} | (
            {"thresholds": {CURRENCY: HIGH_VALUE}} if kind == "high_value" else {}
        )
        await _post(city, "alerts", "/payments/alerts", rule, admin)
    for service, path in (("payouts", "/payouts"), ("reporting", "/reports/revenue")):
        await until(lambda service=service, path=path: _knows(city, service, path, admin))


async def _post(city: City, service: str, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
    async def made() -> Any:
        url = f"{city.servers.url(service)}/api/v1{path}"
        async with city.session.post(url, json=body, headers=headers) as answer:
            assert answer.status in {200, 201, 403}, await answer.text()  # 403: the tenant has not come here yet
            return None if answer.status == 403 else await answer.json()

    return await until(made)


async def _knows(city: City, service: str, path: str, headers: dict[str, str]) -> bool:
    async with city.session.get(f"{city.servers.url(service)}/api/v1{path}", headers=headers) as answer:
        return answer.status == 200
