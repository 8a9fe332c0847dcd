"""An operator's clock that is five minutes late or ahead makes nothing overdue, and hides nothing that is."""

import asyncio
import json
import os
import sys

import pytest

from tests.conftest import connected
from tests.faults.shifted_clock import faketime_library

DATE = "UPDATE outbox SET created_at = now() - $2 * interval '1 second' WHERE event #>> '{data,request_id}' = $1"
PAYMENT = "SELECT payment_id::text FROM payments WHERE request_id = $1"
NUMBERS = "SELECT id::text FROM outbox WHERE event #>> '{data,request_id}' = $1"
ON_ITS_WAY_S, OVERDUE_S = 10, 90


async def takings(*arguments, clock_s):
    """Status and output of the command in a process whose clock is ahead by so much."""
    env = {**os.environ, "LD_PRELOAD": str(faketime_library()), "FAKETIME": f"{clock_s:+d}",
           "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.cli", *arguments, env=env, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.mark.timeout(300)
async def test_what_is_overdue_is_so_by_the_databases_clock(world):
    for request_id in ("on-its-way", "overdue"):
        await world.request("amka", request_id, 4_000)
        await world.callback("amka", request_id=request_id, amount=4_000)
    async with connected(world.urls["payments"].superuser) as conn:
        (payment,) = [row[0] for row in await conn.fetch(PAYMENT, "overdue")]
        numbers = {row[0] for row in await conn.fetch(NUMBERS, "overdue")}
        for clock_s in (0, 300, -300):
            await conn.execute(DATE, "on-its-way", ON_ITS_WAY_S)
            await conn.execute(DATE, "overdue", OVERDUE_S)
            status, said = await takings("check", "--json", clock_s=clock_s)
            checks = json.loads(said)["checks"]
            named = {check["name"]: {fault[2] for fault in check["faults"]} for check in checks if check["faults"]}
            assert (status, named["payment facts"], named["published"]) == (1, {payment}, numbers)
            await conn.execute(DATE, "overdue", OVERDUE_S)
            status, said = await takings("lag", "--json", clock_s=clock_s)
            assert OVERDUE_S <= json.loads(said)["outbox"]["payments"]["oldest_s"] < OVERDUE_S + 60


@pytest.mark.timeout(300)
async def test_a_rebuild_lets_what_is_on_its_way_arrive_by_the_databases_clock(world):
    for clock_s in (300, -300):
        await world.request("amka", f"on-its-way-{clock_s}", 4_000)
        await world.callback("amka", request_id=f"on-its-way-{clock_s}", amount=4_000)
        status, said = await takings("rebuild", "reporting", "--dry-run", clock_s=clock_s)
        assert (status, "differed" in said) == (0, False), said
