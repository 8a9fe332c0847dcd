"""Read models are swapped and rebuilds killed while money moves: nobody notices, and nothing is lost or in the way."""

import asyncio
import sys
from contextlib import suppress

import pytest

from deploy.errors import StackError
from deploy.operations.check.run_checks import lines_of, run_checks
from deploy.operations.rebuild.alerts import rebuild_alerts
from tests.conftest import until
from tests.faults.seeds import seeded
from tests.faults.sizes import size
from tests.faults.test_check_under_traffic import deliver_for_ever, pay_for_ever
from tests.operations.conftest import populated, world  # noqa: F401 - fixtures
from tests.operations.test_rebuild_reporting import catalogue, contents, rebuild

# ruff: noqa: F811 - the fixture's name again, as pytest wants it


async def _go_on(world, calls, rebuild_once):
    """Rebuild again and again under the traffic of `calls`, none of which may end; afterwards all checks hold."""
    traffic = [asyncio.create_task(call) for call in calls]
    try:
        for _ in range(size(short=2, long=25)):
            rebuilt = await rebuild_once()
            assert rebuilt.differences.lines == []
            assert [task.exception() for task in traffic if task.done()] == []
    finally:
        for task in traffic:
            task.cancel()
        await asyncio.gather(*traffic, return_exceptions=True)
    await world.deliver()
    outcomes = await run_checks()
    assert [o for o in outcomes if not o.is_held] == [], "\n".join(lines_of(outcomes))


@pytest.mark.timeout(600)
async def test_readers_and_writers_go_on_while_tables_are_swapped(world):
    draw = seeded("rebuild under traffic")
    read = 0

    async def read_for_ever(path, **params):
        nonlocal read
        while True:
            await world.call("reporting", "GET", path, role="finance", params=params)
            read += 1

    calls = [pay_for_ever(world, draw, "a"), deliver_for_ever(world, draw)]
    calls += [read_for_ever("/reports/revenue"), read_for_ever("/reports/history"), read_for_ever("/reports/profits")]
    await _go_on(world, calls, rebuild)
    assert read > 10


@pytest.mark.timeout(600)
async def test_people_and_the_consumer_go_on_while_tables_are_swapped(world):
    draw = seeded("rebuild alerts under traffic")

    async def read_and_answer():
        while True:
            for alert in (await world.call("alerts", "GET", "/alerts", params={"limit": 20}))["items"]:
                answer = await world.running["alerts"].http.post(
                    f"/api/v1/alerts/{alert['id']}/acknowledge",
                    headers=world.running["alerts"].as_("admin", tenant="amka"),
                )
                assert answer.is_success, answer.text
            await world.sweep_mails()

    calls = [pay_for_ever(world, draw, "a"), deliver_for_ever(world, draw), read_and_answer()]
    await _go_on(world, calls, lambda: rebuild_alerts(dry_run=False, force=False, say=print))


@pytest.mark.timeout(600)
async def test_killed_at_any_moment_it_leaves_the_live_tables_and_nothing_in_the_way(world):
    draw, right = seeded("rebuild killed"), await contents(world)
    for _ in range(size(short=3, long=30)):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploy.cli", "rebuild", "reporting", stdout=asyncio.subprocess.DEVNULL
        )
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), draw.uniform(0.5, 4))
        if process.returncode is None:
            process.kill()
        await process.wait()
        assert await contents(world) == right

    async def rebuilt():
        try:
            return await rebuild()
        except StackError:  # the server has not noticed yet that the last one is gone
            return None

    assert (await until(rebuilt)).differences.total == 0
    assert await contents(world) == right
    await catalogue(world)
