"""Red is for people, ready is for load balancers."""

from contextlib import AsyncExitStack

import pytest

from shared import telemetry


@pytest.mark.parametrize("gauge", [telemetry.UNHANDLED_AGE, telemetry.OUTBOX_AGE])
async def test_what_waits_too_long_turns_the_service_red_but_not_unready(run, gauge):
    running = await run("payments")
    assert (await running.http.get("/health")).json() == {"status": "green", "waiting_s": {}}
    gauge.set(601)
    try:
        red = await running.http.get("/health")
        assert (red.status_code, list(red.json()["waiting_s"].values())) == (503, [601])
        assert (await running.http.get("/health/ready")).status_code == 200
    finally:
        gauge.set(0)


async def test_callers_who_wait_for_a_connection_make_no_service_unready(run):
    running = await run("payments")
    async with AsyncExitStack() as busy:
        for _ in range(running.service.db.size):
            await busy.enter_async_context(running.service.db.transaction())
        assert (await running.http.get("/health/ready")).status_code == 200
