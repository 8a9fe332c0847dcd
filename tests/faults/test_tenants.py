"""No tenant gets at another one's rows: by no route, in no role, and not when the queries forget to ask for their tenant.

The routes are those of the OpenAPI descriptions: a new one takes part by itself, or fails the test until it is said here
how it is attacked.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import asyncpg
import httpx
import pytest

from shared.auth import Role
from tests.conftest import Running, connected
from tests.faults.careless import SAYS, Careless
from tests.faults.victims import AMOUNT, IN_SERVICE, INTRUDER, KEY, MARK, NET, VICTIM, Found, cash_payment
from tests.payments.conftest import callback_body, new_request
from tests.shared.test_db import sql_constants

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
    ("payouts", "POST", "/api/v1/payouts/disburse"): lambda ids: {
        "ids": [ids["requested"], ids["payout_id"]], "method": "cash"},
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
CLAIMS = {"driver_id": "d1", "client_id": "c1", "fleet_ids": ["f1", MARK]}
FORGETFUL = {"payments": 12, "payouts": 15, "reporting": 8, "alerts": 8}  # distinct statements at least
# What nobody gets into even so, and why.
NOT_OWN = "the token names another tenant, which is seen before any query"
IN_MEMORY = "what is found is looked up once more by tenant and id"
MADE = "what it makes is the intruder's own, and it shows nothing else"
HARMLESS: dict[tuple[str, str], str] = {
    ("payments", "POST /api/v1/tenants"): NOT_OWN,
    ("payments", "GET /api/v1/tenants/{tenant_id}"): NOT_OWN,
    ("payments", "PATCH /api/v1/tenants/{tenant_id}"): NOT_OWN,
    ("payments", "POST /api/v1/gateway-accounts"): MADE,
    ("payments", "POST /api/v1/gateway-accounts/{account_id}/rotate"): "a secret's foreign key has the tenant in it",
    ("payments", "POST /api/v1/requests/batch"): MADE,
    ("payments", "POST /api/v1/payments"): IN_MEMORY,
    ("payments", "POST /api/v1/payments/batch"): IN_MEMORY,
    ("payments", f"POST {WEBHOOK}"): "it is signed with the victim's secret",
    ("payouts", "POST /api/v1/commission-plans"): MADE,
    ("alerts", "POST /api/v1/payments/alerts"): MADE,
}
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
    # Sums as words of their own: the digits of one may come up in a random id.
    return MARK in answer.text or re.search(rf"\b({AMOUNT}|{NET})\b", answer.text) is not None


@dataclass
class Attack:
    """What came of calling everything."""

    calls: int = 0
    got_in: dict[str, str] = field(default_factory=dict)  # the first call by which, of each operation
    failed: list[str] = field(default_factory=list)


async def attack(service: str, running: Running, found: Found) -> Attack:
    """Call every route in every role as the intruder."""
    made, before = Attack(), await rows_of(running, VICTIM)
    for method, path, operation in operations(running):
        name = f"{method} {path}"
        for role, request in _calls(service, found, method, path, operation):
            own = running.as_(role, tenant=None if role is Role.OPERATOR else INTRUDER, **CLAIMS)
            answer = await running.http.request(**{**request, "headers": {**own, **request.get("headers", {})}})
            made.calls += 1
            what = f"{role} {method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
            if leaks(answer) or ("{" in path and answer.is_success and _is_one_thing(path)):
                made.got_in.setdefault(name, what)
            if not answer.is_success and answer.status_code not in {401, 403, 404, 409, 422}:
                made.failed.append(what)
        if (after := await rows_of(running, VICTIM)) != before:
            made.got_in.setdefault(name, "the victim's rows have changed")
            before = after
    return made


def _calls(
    service: str, found: Found, method: str, path: str, operation: dict[str, Any]
) -> Iterator[tuple[Role, dict[str, Any]]]:
    """Every call of an operation, in every role."""
    for role in Role:
        if role is not Role.OPERATOR or not path.startswith(OPERATORS_ROUTE):
            for request in attacks(service, found, method, path, operation):
                yield role, request


def _is_one_thing(path: str) -> bool:
    """A path that ends in an id, or in what is done to it, names one thing of the victim's; a driver's payouts do not."""
    return not re.search(r"/(driver|client|payees)/\{", path)


@pytest.fixture
def careless(monkeypatch):
    Careless.forgetful.clear()
    create_pool = asyncpg.create_pool
    monkeypatch.setattr(asyncpg, "create_pool", lambda *a, **k: create_pool(*a, **k, connection_class=Careless))


every_service = pytest.mark.parametrize("service", IN_SERVICE)


@every_service
async def test_no_route_gives_or_takes_another_tenants_things(run, service):
    running, found = await IN_SERVICE[service](run)
    made = await attack(service, running, found)
    assert made.calls >= 7 * 3
    assert (made.got_in, made.failed) == ({}, [])


@every_service
async def test_row_level_security_alone_still_refuses(run, service, careless):
    running, found = await IN_SERVICE[service](run)
    made = await attack(service, running, found)
    assert len(Careless.forgetful) >= FORGETFUL[service]
    assert (made.got_in, made.failed) == ({}, [])


@every_service
async def test_the_attack_succeeds_when_both_walls_are_down(run, service, careless):
    """What proves that the two tests above look where there is something to find."""
    running, found = await IN_SERVICE[service](run)
    async with connected(running.urls.superuser) as conn:
        for row in await conn.fetch(TABLES):
            await conn.execute(f"ALTER TABLE {row['relname']} DISABLE ROW LEVEL SECURITY")
    made = await attack(service, running, found)
    named = {f"{method} {path}" for method, path, _ in operations(running)}
    harmless = {name for of_service, name in HARMLESS if of_service == service}
    assert named - made.got_in.keys() == harmless


@every_service
async def test_a_careless_statement_is_one_that_the_database_takes(run, service):
    """And none is left that compares tenants: where a new way of saying it is used, it is to be taken away as well."""
    running = await run(service)
    async with connected(running.urls.superuser) as conn:
        for name, statement in sql_constants(import_module(f"services.{service}")):
            less = Careless.careless(statement)
            assert not re.search(SAYS, less), f"say in UNSAID how {name} says which tenant it is about"
            await conn.prepare(less)
