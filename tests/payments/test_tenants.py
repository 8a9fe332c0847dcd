"""Tenants: the operator's to create and change, and every change told to the other services."""

import asyncio
import json

import pytest

from tests.conftest import connected

ROUTE = "/api/v1/tenants"
ACME = {"tenant_id": "acme", "name": "Acme Sacco", "time_zone": "Africa/Nairobi", "currency": "KES"}


@pytest.fixture
async def running(run):
    return await run("payments")


async def create(running, *, roles=("operator",), tenant=None, **changes):
    return await running.http.post(ROUTE, json=ACME | changes, headers=running.as_(*roles, tenant=tenant))


async def change(running, body, *, tenant_id="acme", roles=("operator",)):
    return await running.http.patch(f"{ROUTE}/{tenant_id}", json=body, headers=running.as_(*roles, tenant=None))


async def told(running, tenant="acme"):
    async with connected(running.urls.app, tenant) as conn:
        rows = await conn.fetch("SELECT key, topic, event::text FROM outbox ORDER BY id")
    assert {(row["key"], row["topic"]) for row in rows} <= {(tenant, "tenants")}
    return [json.loads(row["event"])["data"] for row in rows]


async def test_created_once_and_told_once(running):
    first, again = await create(running), await create(running)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == ACME
    for differing in ({"name": "Other"}, {"time_zone": "UTC"}, {"currency": "USD"}):
        refused = await create(running, **differing)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:takings:problem:tenant-differs")
    assert await told(running) == [
        {"name": "Acme Sacco", "time_zone": "Africa/Nairobi", "currency": "KES", "version": 1}
    ]


async def test_of_many_at_once_one_creates(running):
    barrier = asyncio.Barrier(6)

    async def one():
        await barrier.wait()
        return (await create(running)).status_code

    assert sorted(await asyncio.gather(*(one() for _ in range(6)))) == [200] * 5 + [201]
    assert len(await told(running)) == 1


async def test_changes_are_told_in_order_and_audited(running):
    await create(running)
    assert (await change(running, {"name": "New"})).json() == ACME | {"name": "New"}
    assert (await change(running, {"currency": "USD"})).json() == ACME | {"name": "New", "currency": "USD"}
    assert [(t["name"], t["currency"], t["version"]) for t in await told(running)] == [
        ("Acme Sacco", "KES", 1), ("New", "KES", 2), ("New", "USD", 3)]  # fmt: skip
    async with connected(running.urls.app, "acme") as conn:
        trail = await conn.fetch(
            "SELECT action, subject, before::text, after::text, actor, request_id FROM audit ORDER BY at"
        )
    assert [(row["action"], row["subject"]) for row in trail] == [("configure-tenant", "acme")] * 3
    assert trail[0]["before"] is None
    assert json.loads(trail[2]["before"])["currency"] == "KES"
    assert json.loads(trail[2]["after"])["currency"] == "USD"
    assert all(row["actor"] and row["request_id"] for row in trail)


async def test_changes_at_once_all_count(running):
    await create(running)
    answers = await asyncio.gather(*(change(running, {"name": f"N{n}"}) for n in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert [t["version"] for t in await told(running)] == list(range(1, 10))


async def test_refusals(running):
    await create(running)
    wrong_fields = {
        "tenant_id": ["No Slug", "-x", "a,b", "x" * 64, "", "x\n", "x.y", 7],
        "time_zone": ["Mars/Olympus", "../../etc/passwd", "", None],
        "currency": ["KSH", "XAU", "kes", ""],
        "name": ["", "a\0", None],
        "plan": ["gold"],
    }
    for wrong in ({name: value} for name, values in wrong_fields.items() for value in values):
        assert (await create(running, **wrong)).status_code == 422, wrong
    for wrong in ({"time_zone": "UTC"}, {"currency": "nope"}, {"tenant_id": "x"}, {"name": ""}):
        assert (await change(running, wrong)).status_code == 422, wrong
    assert (await change(running, {"name": "x"}, tenant_id="nobody")).status_code == 404
    assert (await change(running, {"name": "x"}, tenant_id="No Slug")).status_code == 422
    assert len(await told(running)) == 1
    for role in ("admin", "finance", "manager", "driver", "client", "system"):
        assert (await create(running, roles=[role], tenant="acme")).status_code == 403, role
        assert (await change(running, {"name": "x"}, roles=[role])).status_code == 403, role


async def test_read_by_its_own_people_and_the_operator(running):
    await create(running)
    await create(running, tenant_id="other")
    for roles, tenant, status in [(["operator"], None, 200), (["admin"], "acme", 200), (["finance"], "acme", 200),
                                  (["system"], "acme", 200), (["admin"], "other", 403), (["driver"], "acme", 403),
                                  (["admin"], None, 403)]:  # fmt: skip
        answer = await running.http.get(f"{ROUTE}/acme", headers=running.as_(*roles, tenant=tenant))
        assert answer.status_code == status, (roles, tenant, answer.text)
    answer = await running.http.get(f"{ROUTE}/nobody", headers=running.as_("operator", tenant=None))
    assert answer.status_code == 404
