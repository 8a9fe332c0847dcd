"""Every route of every service says who may call it, keeps the others out, and survives odd parameters."""

import re
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest

from shared.auth import Allow, Public, Role
from shared.describe_api import with_all_below
from tests.conftest import ADD_TENANT

SERVICES = sorted(file.parent.name for file in (Path(__file__).parents[2] / "services").glob("*/__main__.py"))
OPEN_TO_ALL = {"/health", "/health/live", "/health/ready", "/metrics"}
ODD = ["%00", "a%00b", "%ff", "%ed%a0%80", "%0a", "a%2Fb", "x" * 600, quote("'; DROP TABLE payments; --"), "WyI5OTk5Il0",
       "-1", "9" * 40, "NaN", "0001-01-01", "9999-12-31", "%F0%9F%92%B8"]  # fmt: skip


def declarations(route):
    """The Allow and Public instances anywhere among the route's dependants."""
    calls = (dependant.call for dependant in with_all_below(route.dependant))
    return [call for call in calls if isinstance(call, Allow | Public)]


def routes_of(running):
    """The routes with their full paths, checked against the description so that none is overlooked."""
    api = running.service.api
    routes = list(_flat(api.routes))
    ours = [route for route in routes if hasattr(route, "dependant")]
    assert {route.path for route in routes if route not in ours} <= {api.openapi_url}, "served by other means"
    described = {path for path in api.openapi()["paths"] if not path.startswith("/api/v1/webhooks/")}
    assert {route.path for route in ours} == described
    return ours


def _flat(routes):
    for route in routes:
        if hasattr(route, "effective_candidates"):  # an included router, which FastAPI keeps as one entry
            yield from _flat(route.effective_candidates())
        else:
            yield route


@pytest.fixture(params=SERVICES)
async def running(request, run):
    return await run(request.param)


async def test_every_route_declares_who_may_call_it_and_means_it(running):
    routes = routes_of(running)
    assert len(routes) >= 6
    for route in routes:
        declared = declarations(route)
        assert declared, f"{route.methods} {route.path} declares neither roles nor that it is public"
        is_public = any(isinstance(one, Public) for one in declared)
        assert is_public == (route.path in OPEN_TO_ALL), f"{route.path} is open to all"
        for one in declared:
            assert isinstance(one, Public) or (one.roles and one.roles <= set(Role))
        path = route.path
        for name in re.findall(r"{(\w+)}", route.path):
            path = path.replace(f"{{{name}}}", str(uuid4()))
        for method in route.methods:
            await check_admission(running, method, path, declared, is_public=is_public)


async def check_admission(running, method, path, declared, *, is_public):
    answer = await running.http.request(method, path)
    if is_public:
        assert answer.status_code == 200, (method, path, answer.text)
        return
    assert answer.status_code == 401, (method, path, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:takings:problem:unauthorized"
    admitted = set.intersection(*(set(one.roles) for one in declared))
    outsiders = [role for role in Role if role not in admitted]
    assert outsiders, f"{method} {path} admits everyone who has any token"
    answer = await running.http.request(method, path, headers=running.as_(*outsiders, driver_id="d", client_id="c"))
    assert answer.status_code == 403, (method, path, answer.text)


async def add_tenant(running):
    async with running.service.db.transaction("t1") as conn:
        await conn.execute(ADD_TENANT, "t1", "Africa/Nairobi", "KES")


async def call_each(running, headers, query=""):
    """Every route and method that is not open to all, with its answer; what stands in the path is nowhere."""
    for route in routes_of(running):
        if route.path not in OPEN_TO_ALL:
            path = re.sub(r"{\w+}", lambda _: str(uuid4()), route.path)
            for method in route.methods:
                yield f"{method} {route.path}", await running.http.request(method, path + query, headers=headers)


async def test_a_tenant_that_is_not_known_is_403_on_every_route(running):
    everyone = running.as_(*set(Role) - {Role.OPERATOR}, driver_id="d", client_id="c", fleet_ids=["f"])
    unknown = {name: answer.status_code async for name, answer in call_each(running, everyone)}
    assert set(unknown.values()) == {403}, unknown
    await add_tenant(running)
    known = {name: answer.text async for name, answer in call_each(running, everyone)}
    assert not [name for name, text in known.items() if "tenant is not known" in text]


async def test_a_parameter_that_a_route_does_not_have_is_422_and_named(running):
    await add_tenant(running)
    everyone = running.as_(*Role, driver_id="d", client_id="c", fleet_ids=["f"])
    async for name, answer in call_each(running, everyone, "?form=2026-01-01&limti=5"):
        assert answer.status_code == 422, (name, answer.text)
        problem = answer.json()
        assert problem["type"] == "urn:takings:problem:invalid"
        assert [error["field"] for error in problem["errors"]] == ["query.form", "query.limti"]
    assert (await running.http.get("/health/live?probe=1")).status_code == 200


async def test_a_parameter_that_is_given_twice_is_422_and_named(running):
    await add_tenant(running)
    everyone = running.as_(*Role, driver_id="d", client_id="c", fleet_ids=["f"])
    for route in routes_of(running):
        if "GET" not in route.methods or "{" in route.path:
            continue
        for name in (param.alias for dependant in with_all_below(route.dependant) for param in dependant.query_params):
            answer = await running.http.get(f"{route.path}?{name}=1&{name}=2", headers=everyone)
            assert answer.status_code == 422, (route.path, name, answer.text)
            assert answer.json()["errors"] == [{"field": f"query.{name}", "message": "is given more than once"}]


async def test_every_operation_is_described_with_its_roles_and_in_a_few_words(running):
    described = running.service.api.openapi()["paths"]
    for route in routes_of(running):
        for method in route.methods:
            operation = described[route.path][method.lower()]
            assert len(operation["summary"].split()) > 1, operation["summary"]
            allows = [one for one in declarations(route) if isinstance(one, Allow)]
            roles = sorted(set.intersection(*(set(one.roles) for one in allows))) if allows else []
            assert operation.get("security", []) == [{"bearer": [role]} for role in roles]
            assert not roles or operation["description"].endswith(f"Roles, any of: {', '.join(roles)}.")


async def test_nothing_that_is_sent_is_described_as_anything(running):
    schemas = running.service.api.openapi()["components"]["schemas"]
    vague = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, described in schema.get("properties", {}).items()
        if described.get("items", True) == {}
    ]
    assert vague == []


async def test_no_odd_parameter_makes_a_route_fail(running):
    """Nothing that anyone can write into an address may be answered with 500."""
    await add_tenant(running)
    everyone = running.as_(*Role, driver_id="d", client_id="c", fleet_ids=["f"])
    failures = []
    for route in routes_of(running):
        if "GET" not in route.methods or route.path in OPEN_TO_ALL:
            continue
        paths = [route.path]
        for name in re.findall(r"{(\w+)}", route.path):
            paths = [path.replace(f"{{{name}}}", odd) for path in paths for odd in ODD]
        if not re.findall(r"{(\w+)}", route.path):
            names = [param.alias for param in route.dependant.query_params]
            paths = [f"{route.path}?{name}={odd}" for name in names for odd in ODD]
        for path in paths:
            answer = await running.http.get(path, headers=everyone)
            if answer.status_code >= 500:
                failures.append(path)
    assert failures == []


async def test_the_webhook_survives_odd_addresses(run):
    running = await run("payments")
    for odd in ODD:
        for path in (
            f"/api/v1/webhooks/standard/{odd}",
            f"/api/v1/webhooks/standard/t1.{odd}",
            f"/api/v1/webhooks/{odd}/t1.x",
        ):
            answer = await running.http.post(path, content=b"{}")
            assert answer.status_code in {401, 404}, (path, answer.text)
