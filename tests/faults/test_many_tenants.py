"""Checks and rebuilds of many tenants: nothing is looked at for each row of each, and writers wait no longer for it."""

import time

import pytest

from deploy.operations.check.run_checks import lines_of, run_checks
from tests.conftest import connected
from tests.faults.sizes import size
from tests.operations import test_rebuild_alerts, test_rebuild_reporting
from tests.operations.conftest import populated, world  # noqa: F401 - fixtures
from tests.operations.many_tenants import multiply

# ruff: noqa: F811 - the fixtures' names again, as pytest wants it


@pytest.mark.timeout(900)
async def test_all_holds_and_is_rebuilt(world):
    tenants = size(short=20, long=1_000)
    await multiply(world, tenants)
    began = time.monotonic()
    outcomes = await run_checks()
    print(f"{tenants} tenants checked in {time.monotonic() - began:.1f} s")
    assert [o for o in outcomes if not o.is_held] == [], "\n".join(lines_of(outcomes))
    async with connected(world.urls["reporting"].superuser) as conn:
        right = await conn.fetchval("SELECT count(*) FROM payments")
    for rebuild in (test_rebuild_reporting.rebuild, test_rebuild_alerts.rebuild):
        rebuilt = await rebuild()
        assert (rebuilt.differences.lines, rebuilt.is_swapped) == ([], True)
        print(rebuilt.lines()[-1])
    async with connected(world.urls["reporting"].superuser) as conn:
        assert await conn.fetchval("SELECT count(*) FROM payments") == right > 20 * tenants
