"""Callers released together: of two requests for the same money, two approvals, an approval and a rejection, one wins.

Each racer calls a process of its own, so that nothing but the database can keep them apart.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.ports import free_port
from deploy.processes import Command
from tests.conftest import Running, environment
from tests.faults.servers import Server, is_ready_at
from tests.faults.sizes import size
from tests.payouts.conftest import Payouts, new_payouts, paid

ROUNDS = size(short=40, long=500)
STEPS = "SELECT event ->> 'type' AS type FROM outbox WHERE key = '{payout_id}' ORDER BY id"

pytestmark = pytest.mark.timeout(size(short=120, long=900))


@pytest.fixture
async def payouts(run: Any) -> Payouts:
    """The service inside this process, for what is no race."""
    return await new_payouts(run)


@pytest.fixture
async def racers(payouts: Payouts, tmp_path: Path) -> AsyncIterator[list[Payouts]]:
    """The same service in two processes of its own, on the same database."""
    running = payouts.running
    async with AsyncExitStack() as stack:
        ports = [free_port(), free_port()]
        processes = [Server(_command(running, port, tmp_path), partial(is_ready_at, port)) for port in ports]
        for process in processes:
            stack.push_async_callback(_end, process)
        await asyncio.gather(*(process.start() for process in processes))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        callers = [await stack.enter_async_context(httpx.AsyncClient(base_url=url)) for url in urls]
        yield [Payouts(replace(running, http=http)) for http in callers]


def _command(running: Running, port: int, logs: Path) -> Command:
    settings = environment("payouts", running.urls, running.issuer, kafka="127.0.0.1:1") | {"http_port": str(port)}
    env = os.environ | {f"PAYOUTS_{name.upper()}": value for name, value in settings.items()}
    return Command(f"racer-{port}", (sys.executable, "-m", "services.payouts", "api"), logs / f"racer-{port}.log", env)


async def _end(process: Server) -> None:
    if process.runs:
        await process.end(signal.SIGTERM)


async def together(*calls: Callable[[], Awaitable[Any]]) -> list[int]:
    """The status that each call got; all are let go at the same moment."""
    barrier = asyncio.Barrier(len(calls))

    async def wait_and_call(call: Callable[[], Awaitable[Any]]) -> int:
        await barrier.wait()
        return (await call()).status_code

    return await asyncio.gather(*map(wait_and_call, calls))


async def steps_of(payouts: Payouts, payout_id: str) -> list[str]:
    return [row["type"].removeprefix("payout-") for row in await payouts.fetch(STEPS.format(payout_id=payout_id))]


async def test_of_two_requests_one_wins(payouts: Payouts, racers: list[Payouts]):
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))
        assert sorted(await together(*(racer.request for racer in racers))) == [201, 409], number
    assert len(await payouts.fetch("SELECT FROM payouts")) == ROUNDS
    assert (await payouts.balance())["available"] == 0
    await payouts.check_books()


async def test_of_two_requests_for_a_part_one_wins_when_there_is_not_enough_for_both(
    payouts: Payouts, racers: list[Payouts]
):
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))  # 900 after commission, and 600 is asked for twice
        before = (await payouts.balance())["available"]
        codes = await together(*(partial(racer.request, amount=before - 300) for racer in racers))
        assert sorted(codes) == [201, 409], (number, before)
    await payouts.check_books()


async def test_of_two_approvals_one_wins(payouts: Payouts, racers: list[Payouts]):
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))
        payout_id = (await payouts.request()).json()["id"]
        approvals = (partial(racer.decide, payout_id, "approved") for racer in racers)
        assert sorted(await together(*approvals)) == [200, 409], number
        assert await steps_of(payouts, payout_id) == ["requested", "approved"]
    await payouts.check_books()


async def test_of_approval_and_rejection_the_money_goes_one_way(payouts: Payouts, racers: list[Payouts]):
    """An approved payout may still be rejected: when the approval comes first, both are taken, one after the other."""
    seen: Counter[tuple[int, int]] = Counter()
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))
        payout_id = (await payouts.request()).json()["id"]
        calls = [
            partial(racers[0].decide, payout_id, "approved"),
            partial(racers[1].decide, payout_id, "rejected", reason="no"),
        ]
        codes = await together(*calls[:: -1 if number % 2 else 1])
        approved, rejected = codes[:: -1 if number % 2 else 1]
        steps = ["requested", *(["approved"] if approved == 200 else []), *(["rejected"] if rejected == 200 else [])]
        assert (approved, rejected) in {(200, 200), (409, 200)}, number
        assert await steps_of(payouts, payout_id) == steps
        assert (await payouts.balance())["locked"] == 0
        seen[approved, rejected] += 1
    assert (await payouts.balance())["available"] == 900 * ROUNDS
    assert len(seen) == 2, "the two never met"
    await payouts.check_books()


async def test_of_disbursement_failure_and_rejection_one_wins(payouts: Payouts, racers: list[Payouts]):
    """Money that left and money that came back: never both."""
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))
        before = (await payouts.balance())["available"]
        payout_id = (await payouts.request()).json()["id"]
        await payouts.decide(payout_id, "approved")
        codes = await together(
            partial(racers[0].decide, payout_id, "disbursed", method="cash"),
            partial(racers[1].decide, payout_id, "failed", reason="no"),
            partial(payouts.decide, payout_id, "rejected", reason="no"),
        )
        assert sorted(codes) == [200, 409, 409], number
        assert (await payouts.balance())["available"] == (0 if codes[0] == 200 else before)
    await payouts.check_books()
