"""Red is for people, ready is for load balancers."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from shared import process
from tests.conftest import connected

EVENT = """
INSERT INTO outbox (tenant_id, event_id, topic, key, event, created_at)
VALUES ('t1', gen_random_uuid(), 'payments', 'k', '{}', now() - interval '601 s')
"""
CALLBACK = """
INSERT INTO callbacks (tenant_id, callback_id, account_id, webhook_id, body, received_at)
VALUES ('t1', gen_random_uuid(), 'an account', 'w', '', now() - interval '601 s')
"""


@pytest.mark.parametrize(
    ("gauge", "add", "remove"),
    [
        ("takings_outbox_oldest_seconds", EVENT, "DELETE FROM outbox"),
        ("takings_unhandled_callback_oldest_seconds", CALLBACK, "DELETE FROM callbacks"),
    ],
)
async def test_what_waits_too_long_turns_the_service_red_but_not_unready(run, monkeypatch, gauge, add, remove):
    """Also where another process should be working on it."""
    monkeypatch.setattr(process, "MEASURE_EVERY_S", 0.05)
    running = await run("payments", role="api", sweep_every_s="0.05")

    async def health():
        answer = await running.http.get("/health")
        return answer.status_code, answer.json()["status"], list(answer.json()["waiting_s"])

    async with connected(running.urls.superuser) as conn:
        await conn.execute("SET session_replication_role = replica")  # a callback without its account
        green, red = (200, "green", []), (503, "red", [gauge])
        for statement, expected in (remove, green), (add, red), (remove, green):
            await conn.execute(statement)
            async with asyncio.timeout(15):
                while await health() != expected:
                    await asyncio.sleep(0.02)
            assert (await running.http.get("/health/ready")).status_code == 200


async def test_callers_who_wait_for_a_connection_make_no_service_unready(run):
    running = await run("payments")
    async with AsyncExitStack() as busy:
        for _ in range(running.service.db.size):
            await busy.enter_async_context(running.service.db.transaction())
        assert (await running.http.get("/health/ready")).status_code == 200
