"""`takings check` gives no false alarm while money moves: its snapshots are of four moments, not of one."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest

from deploy.operations.check import run_checks as run_checks_module
from deploy.operations.check.run_checks import lines_of, run_checks
from tests.faults.seeds import seeded
from tests.faults.sizes import size
from tests.operations.conftest import populated, world  # noqa: F401 - fixtures
from tests.operations.world import ZONES

# ruff: noqa: F811 - the fixture's name again, as pytest wants it


async def pay_for_ever(world, draw, name):
    """Payments of every kind, requests before and after their money, payouts of what they brought."""
    number = 0
    while True:
        number += 1
        tenant, request = draw.choice(list(ZONES)), f"{name}-{number}"
        amount = draw.randint(1, 9_000)
        steps = [
            partial(world.request, tenant, request, amount, payees=[{"payee_id": f"d{draw.randint(1, 4)}"}]),
            partial(world.callback, tenant, request_id=request, amount=amount, transaction_id=request,
                           kind=draw.choice(["completed", "completed", "failed", "pending"])),
        ]  # fmt: skip
        draw.shuffle(steps)
        for step in steps:
            await step()
        if draw.random() < 0.1:
            payees = {"payee_ids": [f"d{n}" for n in range(1, 5)]}
            await world.call("payouts", "POST", "/payouts/request-batch", tenant=tenant, role="finance", json=payees)


async def deliver_for_ever(world, draw):
    while True:
        await world.deliver_from(draw.choice(["payments", "payouts"]))
        await asyncio.sleep(draw.random() / 5)


@pytest.mark.timeout(1800)
async def test_no_false_alarm_under_traffic(world):
    draw = seeded("check under traffic")
    calls = [pay_for_ever(world, draw, "a"), pay_for_ever(world, draw, "b"), deliver_for_ever(world, draw)]
    traffic = [asyncio.create_task(call) for call in calls]
    try:
        for _ in range(size(short=3, long=100)):
            outcomes = await run_checks()
            assert [o for o in outcomes if not o.is_held] == [], "\n".join(lines_of(outcomes))
            assert not [task.exception() for task in traffic if task.done()]
    finally:
        for task in traffic:
            task.cancel()
        await asyncio.gather(*traffic, return_exceptions=True)


async def test_what_happens_between_the_snapshots_is_no_fault(world, monkeypatch):
    """The four snapshots are of four moments: each time something has been paid and applied everywhere in between."""
    opened = 0
    snapshot = run_checks_module._snapshot

    @asynccontextmanager
    async def busy(service):
        nonlocal opened
        async with snapshot(service) as conn:
            opened += 1
            await world.request("amka", f"between-{opened}", 6_000)
            await world.callback("amka", request_id=f"between-{opened}", amount=6_000)
            await world.callback("amka", kind="failed", amount=6_000)
            await world.deliver()
            yield conn

    monkeypatch.setattr(run_checks_module, "_snapshot", busy)
    outcomes = await run_checks()
    assert opened == 4
    assert [o for o in outcomes if not o.is_held] == [], "\n".join(lines_of(outcomes))
