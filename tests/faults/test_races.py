"""Two callers released together: of two requests for the same money, two approvals, an approval and a rejection, one wins."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from tests.faults.sizes import size
from tests.payouts.conftest import Payouts, new_payouts, paid

ROUNDS = size(short=40, long=500)
STEPS = "SELECT event ->> 'type' AS type FROM outbox WHERE key = '{payout_id}' ORDER BY id"

pytestmark = pytest.mark.timeout(size(short=120, long=900))


@pytest.fixture
async def payouts(run: Any) -> Payouts:
    return await new_payouts(run)


async def together(*calls: Callable[[], Awaitable[Any]]) -> list[int]:
    """The status that each call got; all are let go at the same moment."""
    barrier = asyncio.Barrier(len(calls))

    async def wait_and_call(call: Callable[[], Awaitable[Any]]) -> int:
        await barrier.wait()
        return (await call()).status_code

    return await asyncio.gather(*map(wait_and_call, calls))


async def steps_of(payouts: Payouts, payout_id: str) -> list[str]:
    return [row["type"].removeprefix("payout-") for row in await payouts.fetch(STEPS.format(payout_id=payout_id))]


async def test_of_two_requests_one_wins(payouts: Payouts):
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))
        assert sorted(await together(payouts.request, payouts.request)) == [201, 409], number
    assert len(await payouts.fetch("SELECT FROM payouts")) == ROUNDS
    assert (await payouts.balance())["available"] == 0
    await payouts.check_books()


async def test_of_two_requests_for_a_part_one_wins_when_there_is_not_enough_for_both(payouts: Payouts):
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))  # 900 after commission, and 600 is asked for twice
        before = (await payouts.balance())["available"]
        ask = partial(payouts.request, amount=before - 300)
        codes = await together(ask, ask)
        assert sorted(codes) == [201, 409], (number, before)
    await payouts.check_books()


async def test_of_two_approvals_one_wins(payouts: Payouts):
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))
        payout_id = (await payouts.request()).json()["id"]
        approve = partial(payouts.decide, payout_id, "approved")
        assert sorted(await together(approve, approve)) == [200, 409], number
        assert await steps_of(payouts, payout_id) == ["requested", "approved"]
    await payouts.check_books()


async def test_of_approval_and_rejection_the_money_goes_one_way(payouts: Payouts):
    """An approved payout may still be rejected: when the approval comes first, both are taken, one after the other."""
    seen: Counter[tuple[int, int]] = Counter()
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))
        payout_id = (await payouts.request()).json()["id"]
        calls = [
            partial(payouts.decide, payout_id, "approved"),
            partial(payouts.decide, payout_id, "rejected", reason="no"),
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


async def test_of_disbursement_failure_and_rejection_one_wins(payouts: Payouts):
    """Money that left and money that came back: never both."""
    for number in range(ROUNDS):
        await payouts.accrue(paid(1000))
        before = (await payouts.balance())["available"]
        payout_id = (await payouts.request()).json()["id"]
        await payouts.decide(payout_id, "approved")
        codes = await together(
            partial(payouts.decide, payout_id, "disbursed", method="cash"),
            partial(payouts.decide, payout_id, "failed", reason="no"),
            partial(payouts.decide, payout_id, "rejected", reason="no"),
        )
        assert sorted(codes) == [200, 409, 409], number
        assert (await payouts.balance())["available"] == (0 if codes[0] == 200 else before)
    await payouts.check_books()
