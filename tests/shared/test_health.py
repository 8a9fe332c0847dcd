"""Red is for people, ready is for load balancers."""

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
