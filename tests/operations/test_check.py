"""`takings check` holds on live data, gives no false alarm under traffic, and says what is wrong."""

import asyncio
import json
import sys

from deploy.operations.check.run_checks import lines_of, run_checks
from tests.conftest import connected


async def test_a_world_that_the_services_made_holds(world):
    outcomes = await run_checks()
    assert [outcome for outcome in outcomes if not outcome.is_held] == [], "\n".join(lines_of(outcomes))


async def takings(*arguments):
    """Status and output of the command in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.cli", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode() + errors.decode()


async def test_the_commands_say_what_is_wrong_and_what_they_did(world):
    status, said = await takings("check")
    assert (status, said.splitlines()[-1]) == (0, f"all {said.count('held ')} checks held")
    async with connected(world.urls["reporting"].superuser) as conn:
        await conn.execute(
            "UPDATE daily_rollups SET revenue = revenue + 1 WHERE (tenant_id, dimension, currency) = ('windy', 'total', 'USD')"
        )
    status, said = await takings("check", "--json")
    report = json.loads(said)
    wrong = [check for check in report["checks"] if check["faults"] or check["error"]]
    assert (status, report["held"], [check["name"] for check in wrong]) == (1, False, ["roll-ups"])
    fault = wrong[0]["faults"][0]
    assert fault[:2] == ["windy", "daily_rollups"]
    assert "total USD" in fault[2]
    assert "revenue is" in fault[3]
    status, said = await takings("rebuild", "reporting", "--dry-run")
    assert (status, "daily_rollups: 1 rows differed" in said) == (1, True)
    status, said = await takings("rebuild", "reporting")
    assert (status, "the new tables are in place" in said) == (0, True)
    assert (await takings("check"))[0] == 0


async def test_a_service_that_is_away_is_one_clear_line(world, monkeypatch):
    monkeypatch.setenv("ALERTS_AUDITOR_DATABASE_URL", "postgresql://alerts_auditor:x@127.0.0.1:1/alerts")
    status, said = await takings("check")
    assert status == 1
    assert said.startswith("takings: cannot reach the database of alerts as its auditor:")
