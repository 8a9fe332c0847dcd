"""No tenant gets at another one's rows: by no route, in no role, and not when the queries forget to ask for their tenant.

The routes are those of the OpenAPI descriptions: a new one takes part by itself, or fails the test until it is said here
how it is attacked.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from shared.auth import Role
from tests.conftest import Running, connected
from tests.faults.victims import AMOUNT, IN_SERVICE, INTRUDER, KEY, MARK, VICTIM, Found, cash_payment
from tests.payments.conftest import callback_body, new_request

PUBLIC = {"/health", "/health/live", "/health/ready", "/metrics"}
WEBHOOK = "/api/v1/webhooks/standard/{account_id}"
RULE = {"kind": "high_value", "thresholds": {"KES": 1}, "recipients": ["intruder@example.com"]}
# What stands in the bodies: everything of the victim's that a body can name.
BODIES: dict[tuple[str, str, str], Any] = {
    ("payments", "POST", "/api/v1/tenants"): lambda _: {
        "tenant_id": VICTIM, "name": "Mine", "time_zone": "Africa/Nairobi", "currency": "KES"},
    ("payments", "PATCH", "/api/v1/tenants/{tenant_id}"): lambda _: {"name": "Mine"},
    ("payments", "POST", "/api/v1/gateway-accounts"): lambda _: {"gateway": "standard"},
    ("payments", "POST", "/api/v1/requests"): lambda ids: new_request(id=ids["request_id"], amount=1),
    ("payments", "POST", "/api/v1/requests/batch"): lambda ids: {"items": [new_request(id=ids["request_id"], amount=1)]},
    ("payments", "POST", "/api/v1/payments"): lambda _: cash_payment("trip-2"),
    ("payments", "POST", "/api/v1/payments/batch"): lambda _: {"items": [cash_payment("trip-2")]},
    ("payments", "POST", WEBHOOK): lambda _: json.loads(callback_body(request_id="trip-2")),
    ("payouts", "POST", "/api/v1/commission-plans"): lambda ids: {
        "commission_bp": 0, "valid_from": "2020-01-01", "payee_id": ids["payee_id"]},
    ("payouts", "PUT", "/api/v1/payouts/{payout_id}/status"): lambda _: {"status": "disbursed", "method": "cash"},
    ("payouts", "POST", "/api/v1/payouts/approve"): lambda ids: {"ids": [ids["requested"], ids["payout_id"]]},
    ("payouts", "POST", "/api/v1/payouts/disburse"): lambda ids: {"ids": [ids["payout_id"]], "method": "cash"},
    ("payouts", "POST", "/api/v1/payouts/request"): lambda _: {},
    ("payouts", "POST", "/api/v1/payouts/request-batch"): lambda _: {"payee_ids": ["d1", "d2", "d3"]},
    ("alerts", "POST", "/api/v1/payments/alerts"): lambda _: RULE,
    ("alerts", "PUT", "/api/v1/payments/alerts/{rule_id}"): lambda _: RULE,
}  # fmt: skip
# Parameters that name nothing of anybody's.
NEUTRAL = {"date_from", "date_to", "limit", "status", "kind", "group_by", "by", "method", "currency"}
WIDE = {"limit": "1000", "date_from": "2026-01-01", "date_to": "2026-12-31", "group_by": "day"}
# Those who keep all tenants, where they do: the operator creates, changes and reads them.
OPERATORS_ROUTE = "/api/v1/tenants"
TABLES = """
SELECT relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND attname = 'tenant_id'
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname
"""
ROWS = "SELECT to_jsonb(t)::text AS row FROM {table} AS t WHERE tenant_id = $1 ORDER BY 1"


def operations(running: Running) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation that is not public; reading first, before anything is written."""
    yield from sorted(_operations(running), key=lambda operation: operation[0] != "GET")


def _operations(running: Running) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, described in running.service.api.openapi()["paths"].items():
        if path not in PUBLIC:
            for method, operation in described.items():
                yield method.upper(), path, operation


def attacks(service: str, found: Found, method: str, path: str, operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The requests that name the victim's things wherever the operation takes something."""
    names = [(p["name"], p["in"]) for p in operation.get("parameters", [])]
    unknown = {name for name, place in names if place != "header"} - found.keys() - NEUTRAL
    assert not unknown, f"say in victims.py what {service} {path} is given as {unknown}"
    url = re.sub(r"\{(\w+)\}", lambda match: found[match[1]], path)
    taken = [name for name, place in names if place == "query"]
    wide = {name: WIDE[name] for name in taken if name in WIDE}
    queries = [wide, *({**wide, name: found[name]} for name in taken if name in found)]
    body = None
    if "requestBody" in operation:
        assert (service, method, path) in BODIES, f"say in BODIES what {service} {method} {path} is sent"
        body = BODIES[service, method, path](found)
    for query in queries:
        yield {"method": method, "url": url, "params": query, "json": body}
    if ("Idempotency-Key", "header") in names:
        yield {"method": method, "url": url, "json": body, "headers": {"idempotency-key": KEY}}


async def rows_of(running: Running, tenant: str) -> dict[str, list[str]]:
    """Everything that the service has of the tenant."""
    async with connected(running.urls.superuser) as conn:
        tables = [row["relname"] for row in await conn.fetch(TABLES)]
        return {table: [row["row"] for row in await conn.fetch(ROWS.format(table=table), tenant)] for table in tables}


def leaks(answer: httpx.Response) -> bool:
    """Whether there is something of the victim's in the answer."""
    return MARK in answer.text or str(AMOUNT) in answer.text


async def attack(service: str, running: Running, found: Found) -> tuple[int, list[str]]:
    """Call every route in every role as the intruder; how many calls, and which went through."""
    before, calls, wrong = await rows_of(running, VICTIM), 0, []
    for method, path, operation in operations(running):
        for role in Role:
            claims = {"driver_id": "d1", "client_id": "c1", "fleet_ids": ["f1", MARK], "subject": "intruder"}
            tenant = None if role is Role.OPERATOR else INTRUDER
            own = running.as_(role, tenant=tenant, **{k: v for k, v in claims.items() if k != "subject"})
            for request in attacks(service, found, method, path, operation):
                if role is Role.OPERATOR and path.startswith(OPERATORS_ROUTE):
                    continue
                answer = await running.http.request(**{**request, "headers": {**own, **request.get("headers", {})}})
                calls += 1
                what = f"{role} {method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
                refused = answer.status_code in {401, 403, 404, 409, 422} or answer.is_success
                if leaks(answer) or not refused or ("{" in path and answer.is_success and _is_one_thing(path)):
                    wrong.append(what)
    if await rows_of(running, VICTIM) != before:
        wrong.append("the victim's rows have changed")
    return calls, wrong


def _is_one_thing(path: str) -> bool:
    """A path that ends in an id, or in what is done to it, names one thing of the victim's; a driver's payouts do not."""
    return not re.search(r"/(driver|client|payees)/\{", path)


class Careless(asyncpg.Connection):
    """A connection on which no query says which tenant it is about; only row-level security still does."""

    forgotten = 0

    @classmethod
    def careless(cls, query: str) -> str:
        query, count = re.subn(r"(?:\b\w+\.)?\btenant_id = \$(\d+)", r"($\1::text IS NOT NULL)", query)
        query, more = re.subn(r"(?:\b\w+\.)?\btenant_id = ANY \(\$(\d+)\)", r"($\1::text[] IS NOT NULL)", query)
        cls.forgotten += count + more
        return query

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        return await super().fetch(self.careless(query), *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        return await super().fetchrow(self.careless(query), *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        return await super().fetchval(self.careless(query), *args, **options)

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        return await super().execute(self.careless(query), *args, **options)


@pytest.fixture
def careless(monkeypatch):
    create_pool = asyncpg.create_pool
    monkeypatch.setattr(asyncpg, "create_pool", lambda *a, **k: create_pool(*a, **k, connection_class=Careless))


every_service = pytest.mark.parametrize("service", IN_SERVICE)


@every_service
async def test_no_route_gives_or_takes_another_tenants_things(run, service):
    running, found = await IN_SERVICE[service](run)
    calls, wrong = await attack(service, running, found)
    assert calls >= 7 * 3
    assert wrong == []


@every_service
async def test_row_level_security_alone_still_refuses(run, service, careless):
    running, found = await IN_SERVICE[service](run)
    before = Careless.forgotten
    _, wrong = await attack(service, running, found)
    assert Careless.forgotten - before > 20
    assert wrong == []


@every_service
async def test_the_attack_succeeds_when_both_walls_are_down(run, service, careless):
    """What proves that the two tests above look where there is something to find."""
    running, found = await IN_SERVICE[service](run)
    async with connected(running.urls.superuser) as conn:
        for row in await conn.fetch(TABLES):
            await conn.execute(f"ALTER TABLE {row['relname']} DISABLE ROW LEVEL SECURITY")
    _, wrong = await attack(service, running, found)
    leaking = {line.split("?")[0].split(": ")[0] for line in wrong}
    assert len(leaking) >= 3, wrong
