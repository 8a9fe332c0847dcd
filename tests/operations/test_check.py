"""`takings check` holds on live data, gives no false alarm under traffic, and says what is wrong."""

from deploy.operations.check.run_checks import lines_of, run_checks


async def test_a_world_that_the_services_made_holds(world):
    outcomes = await run_checks()
    assert [outcome for outcome in outcomes if not outcome.is_held] == [], "\n".join(lines_of(outcomes))
