"""What the command line does with a stack that runs in another terminal."""

import re
from typing import Any

import httpx

from deploy.demo_tenant import create_tenant
from deploy.errors import StackError
from deploy.state import read_json, state_folder
from deploy.tokens import TokenIssuer

TENANT_ID_LIMIT = 63


def running_stack() -> dict[str, Any]:
    """The content of stack.json; StackError when no stack runs."""
    file = state_folder() / "stack.json"
    stack = read_json(file)
    if not isinstance(stack, dict):
        raise StackError(f"no stack is running (there is no {file}): start one with `make up`")
    return stack


def tenant_id_from(name: str) -> str:
    """A tenant id made from a name: `Nairobi Shuttle (West)` becomes `nairobi-shuttle-west`."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:TENANT_ID_LIMIT].rstrip("-")
    if not made:
        raise StackError(f"no id can be made from the name {name!r}: give one with --id")
    return made


async def create_tenant_on(stack: dict[str, Any], tenant_id: str, *, name: str, time_zone: str, currency: str) -> None:
    """Create the tenant through the payments API. StackError when it is refused or nobody answers."""
    url = stack["services"]["payments"]["url"]
    try:
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=15) as client:
            issuer = TokenIssuer(state_folder())
            await create_tenant(client, issuer, tenant_id=tenant_id, name=name, time_zone=time_zone, currency=currency)
    except httpx.HTTPError as error:
        raise StackError(f"payments does not answer at {url}: {error or type(error).__name__}") from None
