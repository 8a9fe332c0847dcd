"""The whole way through the real stack: a signed payment becomes revenue, an earning, a payout and an alert."""

import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deploy.databases import SERVICES
from deploy.simulator.run import DemoOptions, run_demo
from deploy.state import PROJECT
from tests.conftest import SHARED_FILES, until
from tests.e2e.conftest import LocalStack
from tests.payments.conftest import callback_body, new_request, sign


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


def bearer(stack: LocalStack, *roles: str, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {stack.issuer.mint(list(roles), **claims)}"}


@pytest.mark.parametrize("service", SERVICES)
async def test_what_a_process_says_of_itself_is_in_the_docs(stack: LocalStack, http: httpx.AsyncClient, service: str):
    described = (await http.get(stack.url(service) + "/openapi.json")).json()
    assert described == json.loads((PROJECT / "docs" / "openapi" / f"{service}.json").read_text())


async def test_a_signed_payment_goes_the_whole_way(stack: LocalStack, http: httpx.AsyncClient):
    stack.takings("tenant", "create", "whole-way", "--time-zone", "Africa/Nairobi", "--currency", "KES")
    admin = {"authorization": "Bearer " + stack.takings("token", "--role", "admin", "--tenant", "whole-way").strip()}
    system = bearer(stack, "system", tenant_id="whole-way")
    payments, payouts = stack.url("payments") + "/api/v1", stack.url("payouts") + "/api/v1"
    reporting, alerts = stack.url("reporting") + "/api/v1", stack.url("alerts") + "/api/v1"
    account = (await http.post(f"{payments}/gateway-accounts", json={"gateway": "standard"}, headers=admin)).json()

    rule = {
        "kind": "high_value",
        "thresholds": {"KES": 100_000},
        "recipients": ["boss@whole-way.example"],
        "cooldown_seconds": 0,
    }

    async def rule_created() -> bool:
        return (await http.post(f"{alerts}/payments/alerts", json=rule, headers=admin)).status_code == 201

    await until(rule_created)
    request = new_request(amount=150_000)
    assert (await http.post(f"{payments}/requests", json=request, headers=system)).status_code == 201
    body = callback_body(request_id=request["id"], amount=150_000, fee=500)
    address = f"{payments}/webhooks/standard/{account['id']}"
    answer = await http.post(address, content=body, headers=sign(account["secret"], body))
    assert (answer.status_code, answer.json()) == (200, {"result": "recorded"})
    assert (await http.post(address, content=body, headers=sign("whsec_AAAA", body))).status_code == 401

    async def revenue() -> bool:
        answer = await http.get(f"{reporting}/reports/revenue", headers=admin)
        return answer.status_code == 200 and answer.json()["total"] == 150_000

    await until(revenue)
    driver = bearer(stack, "driver", tenant_id="whole-way", driver_id="d1")

    async def payout() -> Any:
        answer = await http.post(f"{payouts}/payouts/request", json={}, headers=driver)
        return answer.json() if answer.status_code == 201 else None

    asked = await until(payout)
    assert asked["amount"] == 135_000
    for body_ in ({"status": "approved"}, {"status": "disbursed", "method": "bank_transfer", "reference": "r1"}):
        answer = await http.put(f"{payouts}/payouts/{asked['id']}/status", json=body_, headers=admin)
        assert answer.status_code == 200, answer.text

    async def books() -> Any:
        profits = (await http.get(f"{reporting}/reports/profits", headers=admin)).json()
        return profits if profits["payouts_disbursed"] and profits["payee_earnings"] else None  # in any order

    profits = await until(books)
    assert (profits["net_profit"], profits["earned_profit"]) == (14_500, 14_500)
    assert (profits["owed_by_payees"], profits["owed_to_payees"]) == (0, 0)

    async def mailed() -> Any:
        url = stack.description["mail"]["url"]
        answer = await http.get(f"{url}/messages", params={"to": "boss@whole-way.example"})
        return answer.json()["items"]

    (mail,) = await until(mailed)
    assert "1,500.00" in mail["subject"] + mail["text"]
    (alert,) = (await http.get(f"{alerts}/alerts", headers=admin)).json()["items"]
    assert (await http.post(f"{alerts}/alerts/{alert['id']}/acknowledge", headers=admin)).status_code == 200


async def test_a_killed_service_is_back_within_seconds(stack: LocalStack, http: httpx.AsyncClient):
    (pid,) = stack.description["services"]["reporting"]["pids"]
    killed_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)

    async def restarted() -> Any:
        pids = stack.description["services"]["reporting"]["pids"]
        return pids and pids != [pid] and psutil.pid_exists(pids[0])

    await until(restarted, within_s=10)
    assert time.monotonic() - killed_at < 5  # 2 s is the promise; this machine is shared

    async def ready() -> bool:
        try:
            return (await http.get(stack.url("reporting") + "/health/ready")).status_code == 200
        except httpx.TransportError:
            return False

    await until(ready, within_s=30)


async def test_the_simulators_day_holds_every_check(stack: LocalStack, tmp_path: Path):
    report = tmp_path / "report.json"
    options = DemoOptions(trips=None, mapping=None, count=300, seed=11, report=report)
    assert await run_demo(stack.description, stack.issuer.mint, options) == 0
    written = json.loads(report.read_text())
    assert written["trips"]["read"] == 300
    assert all(check["ok"] for check in written["checks"])


@pytest.mark.timeout(300)
async def test_a_real_day_of_chicago(stack: LocalStack, tmp_path: Path):
    trips = SHARED_FILES / "data" / "1_chicago_taxi_2022" / "trips.csv.gz"
    if not trips.exists():
        pytest.skip("the Chicago trips are not on this machine (../shared/data)")
    report = tmp_path / "report.json"
    mapping = PROJECT / "deploy" / "mappings" / "chicago.toml"
    options = DemoOptions(trips=trips, mapping=mapping, count=0, seed=1, report=report)
    assert await run_demo(stack.description, stack.issuer.mint, options) == 0
    written = json.loads(report.read_text())
    assert (written["trips"]["read"], written["trips"]["nothing_due"]) == (34_092, 43)
    assert (written["payments"]["completed"], written["payments"]["failed"]) == (34_017, 32)
    assert written["revenue"]["total"] == 82_940_550
    profits, payouts = written["profits"], written["payouts"]
    assert (profits["payee_earnings"], profits["commission_earned"]) == (74_638_124, 8_300_356)
    assert (profits["cash_held"], profits["net_profit"], profits["earned_profit"]) == (21_781_187, 8_104_554, 8_302_426)
    assert (payouts["payees_paid"], payouts["disbursed"]) == (1_883, 53_054_809)
    assert (payouts["payees_owing"], payouts["owed"]) == (58, 197_872)
