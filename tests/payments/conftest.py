"""A payments service with a tenant and a gateway account, and short ways to speak to it."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Running

PAID_AT = "2026-03-01T08:00:00Z"


@dataclass(frozen=True)
class Payments:
    """The service, its tenant `t1` and its gateway account."""

    running: Running
    account: str
    secret: str

    @property
    def http(self) -> httpx.AsyncClient:
        return self.running.http

    @property
    def system(self) -> dict[str, str]:
        return self.running.as_("system")

    async def request(self, amount: int = 1000, **fields: Any) -> dict[str, Any]:
        """Register a request and answer it."""
        answer = await self.http.post(
            "/api/v1/requests", json=new_request(amount=amount, **fields), headers=self.system
        )
        assert answer.status_code in {200, 201}, answer.text
        return answer.json()

    async def callback(self, *, kind: str = "completed", webhook_id: str | None = None, **data: Any) -> httpx.Response:
        """Send a signed callback."""
        body = callback_body(kind=kind, **data)
        return await self.send(body, sign(self.secret, body, webhook_id=webhook_id))

    async def send(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return await self.http.post(f"/api/v1/webhooks/standard/{self.account}", content=body, headers=headers)

    async def payments(self, **filters: Any) -> list[dict[str, Any]]:
        answer = await self.http.get("/api/v1/payments", params=filters, headers=self.system)
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    async def see(self, request_id: str) -> dict[str, Any]:
        return (await self.http.get(f"/api/v1/requests/{request_id}", headers=self.system)).json()


def new_request(**fields: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "kind": "trip",
        "amount": 1000,
        "currency": "KES",
        "occurred_at": PAID_AT,
        "client_id": "c1",
        "client": {"name": "Amina W.", "phone": "+254700000001"},
        "fleet_id": "f1",
        "route_id": "r1",
        "vehicle_id": "v1",
        "payees": [{"payee_id": "d1"}],
        **fields,
    }


def callback_body(*, kind: str = "completed", **data: Any) -> bytes:
    fields = {
        "transaction_id": str(uuid4()),
        "amount": 1000,
        "currency": "KES",
        "method": "mobile",
        "paid_at": PAID_AT,
        **data,
    }
    return json.dumps({"type": f"payment.{kind}", "timestamp": PAID_AT, "data": fields}).encode()


def sign(secret: str, body: bytes, *, webhook_id: str | None = None, at: int | None = None) -> dict[str, str]:
    webhook_id, at = webhook_id or f"msg_{uuid4().hex}", at or int(time.time())
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.new(key, f"{webhook_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


async def create_tenant(running: Running, tenant: str = "t1", currency: str = "KES") -> None:
    body = {"tenant_id": tenant, "name": tenant, "time_zone": "Africa/Nairobi", "currency": currency}
    answer = await running.http.post("/api/v1/tenants", json=body, headers=running.as_("operator", tenant=None))
    assert answer.status_code == 201, answer.text


async def new_payments(run: Any) -> Payments:
    """A service of its own, with its tenant and account."""
    running = await run("payments")
    return await _with_tenant(running, "t1")


async def another_tenant(payments: Payments) -> Payments:
    """The tenant `t2` of the same service, with an account of its own; for its callbacks only."""
    return await _with_tenant(payments.running, "t2")


async def _with_tenant(running: Running, tenant: str) -> Payments:
    await create_tenant(running, tenant)
    answer = await running.http.post(
        "/api/v1/gateway-accounts", json={"gateway": "standard"}, headers=running.as_("admin", tenant=tenant)
    )
    assert answer.status_code == 201, answer.text
    return Payments(running, answer.json()["id"], answer.json()["secret"])


@pytest.fixture
async def payments(run: Any) -> Payments:
    return await new_payments(run)
