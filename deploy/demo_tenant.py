"""The tenant of a fresh stack and its gateway account, made through the payments service's own HTTP API."""

from pathlib import Path
from typing import Any

import httpx

from deploy.errors import StackError
from deploy.state import read_json, write_private_json
from deploy.tokens import TokenIssuer

DEMO_TENANT = "demo"
DEMO_TIME_ZONE = "Africa/Nairobi"
DEMO_CURRENCY = "KES"


async def ensure_demo_tenant(payments_url: str, issuer: TokenIssuer, state: Path) -> dict[str, str]:
    """The id and secret of the demo tenant's Standard Webhooks account; made on the first run and remembered.

    A secret is shown only once, so an account that this state folder does not know is left alone and a new one made.
    """
    async with httpx.AsyncClient(base_url=f"{payments_url}/api/v1", timeout=15) as client:
        await create_tenant(
            client,
            issuer,
            tenant_id=DEMO_TENANT,
            name="Demo fleet",
            time_zone=DEMO_TIME_ZONE,
            currency=DEMO_CURRENCY,
            may_differ=True,
        )
        admin = {"Authorization": f"Bearer {issuer.mint(['admin'], tenant_id=DEMO_TENANT)}"}
        file = state / "gateway-account.json"
        known = read_json(file)
        answer = checked(
            await client.get("/gateway-accounts", params={"limit": 1000}, headers=admin), "listing the gateway accounts"
        )
        if known and any(account["id"] == known["id"] for account in answer["items"]):
            return {"id": str(known["id"]), "secret": str(known["secret"])}
        made = checked(
            await client.post("/gateway-accounts", json={"gateway": "standard", "name": "Demo gateway"}, headers=admin),
            "creating the gateway account",
        )
    account = {"id": str(made["id"]), "secret": str(made["secret"])}
    write_private_json(file, account)
    return account


async def create_tenant(
    client: httpx.AsyncClient,
    issuer: TokenIssuer,
    *,
    tenant_id: str,
    name: str,
    time_zone: str,
    currency: str,
    may_differ: bool = False,
) -> None:
    """Create a tenant; the same again changes nothing. StackError when it is there with other settings or refused.

    `may_differ` accepts one that is there with other settings.
    """
    answer = await client.post(
        "/tenants",
        json={"tenant_id": tenant_id, "name": name, "time_zone": time_zone, "currency": currency},
        headers={"Authorization": f"Bearer {issuer.mint(['operator'])}"},
    )
    if not (may_differ and answer.status_code == httpx.codes.CONFLICT):
        checked(answer, f"creating the tenant {tenant_id}")


def checked(answer: httpx.Response, what: str) -> Any:
    """The JSON of a good answer; StackError with the problem's own words for any other."""
    if answer.is_success:
        return answer.json()
    try:
        problem = answer.json()
        details = [
            f"{error.get('field', '')} {error.get('message', '')}".strip() for error in problem.get("errors", [])
        ]
        reason = "; ".join(details) or problem.get("detail") or problem.get("title")
    except (ValueError, AttributeError):
        reason = answer.text[:200]
    raise StackError(f"{what}: HTTP {answer.status_code}: {reason}")
