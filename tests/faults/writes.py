"""A write of each service that takes any, which changes nothing that a city's books are about."""

from collections.abc import Callable
from secrets import token_hex
from typing import Any, NamedTuple

from tests.faults.books import rows
from tests.faults.load import City


class Written(NamedTuple):
    """What a service answered, and the id of what it made."""

    status: int
    id: str = ""


# Of a day, and of a kind, that no traffic ever meets. Large: the last bytes of the pages that there are, are soon taken.
WRITES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "payments": ("/gateway-accounts", lambda: {"gateway": "standard", "name": token_hex(240)}),
    "payouts": ("/commission-plans", lambda: {
        "commission_bp": 0, "valid_from": "2099-01-01", "fleet_id": token_hex(100)}),
    "alerts": ("/payments/alerts", lambda: {
        "kind": "payout_failed", "recipients": [f"{token_hex(60)}@takings.example" for _ in range(20)], "enabled": False}),
}  # fmt: skip
KEPT = {
    "payments": "SELECT account_id FROM gateway_accounts WHERE tenant_id = $1",
    "payouts": "SELECT plan_id::text FROM commission_plans WHERE tenant_id = $1",
    "alerts": "SELECT rule_id::text FROM alert_rules WHERE tenant_id = $1",
}


async def write(city: City, service: str) -> Written:
    """Make something new: told yes, or to come again and when. Raises what aiohttp does when there is no answer."""
    path, body = WRITES[service]
    headers = city.servers.bearer("admin", tenant=city.tenant)
    url = f"{city.servers.url(service)}/api/v1{path}"
    async with city.session.post(url, json=body(), headers=headers) as answer:
        assert answer.status in {201, 503}, await answer.text()
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) >= 1
            return Written(503)
        made: dict[str, Any] = await answer.json()
        return Written(201, made["id"])


async def kept(city: City, service: str) -> set[str]:
    """The ids of what was made."""
    return {row[0] for row in await rows(city.servers, service, KEPT[service], city.tenant)}
