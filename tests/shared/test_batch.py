"""The adaptive group commit: nobody waits for a timer, everybody hears their own result, a bad item fails alone."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from asyncpg import LockNotAvailableError, QueryCanceledError

from shared.batch import BATCH_LIMIT, Gather, Overloaded
from shared.db import ConcurrentWrite
from shared.errors import Unavailable
from tests.conftest import end


class Flush:
    """A flush that can be held at its door and that remembers what it got."""

    def __init__(self):
        self.batches = []
        self.door = asyncio.Event()
        self.door.set()
        self.entered = asyncio.Event()
        self.in_flight = self.most_in_flight = 0
        self.poison = {}
        self.pause_s = 0.0

    async def __call__(self, items):
        self.batches.append(items)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.entered.set()
        try:
            await self.door.wait()
            await asyncio.sleep(self.pause_s)
            for item in items:
                if item in self.poison:
                    raise self.poison[item]
            return [f"result of {item}" for item in items]
        finally:
            self.in_flight -= 1


@asynccontextmanager
async def gathering(flush, **options):
    gather = Gather("test", flush, **options)
    task = asyncio.create_task(gather.run())
    yield gather
    await end(task)


async def submit_behind_a_blocked_flush(flush, gather, items):
    """Submit 0 alone, hold it in the flush, let `items` arrive, then open; the answers of all."""
    flush.door.clear()
    first = asyncio.create_task(gather.submit(0))
    await asyncio.wait_for(flush.entered.wait(), 5)
    rest = [asyncio.create_task(gather.submit(item)) for item in items]
    await asyncio.sleep(0)  # each task runs to where it waits for its result
    flush.door.set()
    return await asyncio.wait_for(asyncio.gather(first, *rest, return_exceptions=True), 5)


async def test_what_arrives_while_a_flush_is_under_way_is_the_next_batch():
    flush = Flush()
    async with gathering(flush) as gather:
        items = [7, 3, 9, 1, 5]
        answers = await submit_behind_a_blocked_flush(flush, gather, items)
    assert answers == [f"result of {item}" for item in (0, *items)]
    assert flush.batches == [[0], items]


async def test_a_lone_item_is_flushed_at_once():
    flush = Flush()
    async with gathering(flush) as gather:
        assert await asyncio.wait_for(gather.submit(4), 1) == "result of 4"
    assert flush.batches == [[4]]


async def test_at_most_the_limit_in_one_flush_and_one_flush_at_a_time():
    flush = Flush()
    async with gathering(flush) as gather:
        items = list(range(1, 1_201))
        answers = await submit_behind_a_blocked_flush(flush, gather, items)
    assert answers == [f"result of {item}" for item in (0, *items)]
    assert [len(batch) for batch in flush.batches] == [1, BATCH_LIMIT, BATCH_LIMIT, 200]
    assert flush.most_in_flight == 1


async def test_a_bad_item_fails_alone():
    flush = Flush()
    flush.poison[3] = ValueError("three is bad")
    async with gathering(flush) as gather:
        answers = await submit_behind_a_blocked_flush(flush, gather, [1, 2, 3, 4])
        assert isinstance(answers[3], ValueError)
        assert [a for i, a in enumerate(answers) if i != 3] == [f"result of {item}" for item in (0, 1, 2, 4)]
        assert flush.batches == [[0], [1, 2, 3, 4], [1], [2], [3], [4]]
        assert await asyncio.wait_for(gather.submit(5), 1) == "result of 5"


@pytest.mark.parametrize("error", [ConnectionRefusedError("down"), ConcurrentWrite("raced"), TimeoutError("slow")])
async def test_a_transient_error_goes_to_all_and_is_not_tried_singly(error):
    flush = Flush()
    flush.poison[2] = error
    async with gathering(flush) as gather:
        answers = await submit_behind_a_blocked_flush(flush, gather, [1, 2, 3])
        assert answers == ["result of 0", error, error, error]
        assert flush.batches == [[0], [1, 2, 3]]
        flush.poison.clear()
        assert await asyncio.wait_for(gather.submit(2), 1) == "result of 2"


async def test_who_is_held_up_fails_alone_and_what_is_tried_again_keeps_its_order():
    flush = Flush()
    flush.poison |= {300: LockNotAvailableError("held"), 7: QueryCanceledError("too much")}
    async with gathering(flush) as gather:
        items = list(range(1, BATCH_LIMIT + 1))
        answers = await submit_behind_a_blocked_flush(flush, gather, items)
        assert [answer for answer in answers if not isinstance(answer, str)] == [flush.poison[7], flush.poison[300]]
        assert [answers[n] for n in (0, 1, 299, 301, 500)] == [f"result of {n}" for n in (0, 1, 299, 301, 500)]
        assert all(batch == sorted(batch) for batch in flush.batches)
        # The whole, its tenths, the tenths of two of these, and those of two again: nothing is flushed oftener.
        assert [len(batch) for batch in flush.batches] == [1, BATCH_LIMIT, *[50] * 10, *[5] * 20, *[1] * 10]
        assert await asyncio.wait_for(gather.submit(1_000), 1) == "result of 1000"


async def test_when_all_are_held_up_the_others_wait_for_so_long_only(monkeypatch):
    monkeypatch.setattr("shared.batch.PARTS_LIMIT_S", 0.2)
    flush = Flush()
    held = LockNotAvailableError("held")
    flush.poison |= dict.fromkeys(range(1, BATCH_LIMIT + 1), held)
    flush.pause_s = 0.05
    async with gathering(flush) as gather:
        answers = await submit_behind_a_blocked_flush(flush, gather, [*range(1, BATCH_LIMIT + 1), 1_000])
    assert answers == ["result of 0", *[held] * BATCH_LIMIT, "result of 1000"]
    assert 3 <= len(flush.batches) <= 1 + 5 + 1


async def test_the_items_of_a_call_are_flushed_together_and_their_results_keep_its_order():
    flush = Flush()
    async with gathering(flush, limit=4) as gather:
        flush.door.clear()
        first = asyncio.create_task(gather.submit(0))
        await asyncio.wait_for(flush.entered.wait(), 5)
        calls = [[3, 1], [2], [9, 8, 7], [], [6, 5, 4, 3, 2, 1]]
        rest = [asyncio.create_task(gather.submit_all(items)) for items in calls]
        await asyncio.sleep(0)
        flush.door.set()
        answers = await asyncio.wait_for(asyncio.gather(*rest), 5)
    assert await first == "result of 0"
    assert answers == [[f"result of {item}" for item in items] for items in calls]
    assert flush.batches == [[0], [3, 1, 2], [9, 8, 7], [6, 5, 4, 3, 2, 1]]  # only a call alone may be above the limit


async def test_a_call_with_a_bad_item_fails_as_a_whole_and_alone():
    flush = Flush()
    flush.poison[2] = ValueError("two is bad")
    async with gathering(flush) as gather:
        flush.door.clear()
        first = asyncio.create_task(gather.submit(0))
        await asyncio.wait_for(flush.entered.wait(), 5)
        rest = [asyncio.create_task(gather.submit_all(items)) for items in ([1, 2], [3, 4])]
        await asyncio.sleep(0)
        flush.door.set()
        bad, good = await asyncio.wait_for(asyncio.gather(*rest, return_exceptions=True), 5)
    assert await first == "result of 0"
    assert bad is flush.poison[2]
    assert good == ["result of 3", "result of 4"]


async def test_two_in_flight_share_what_waits():
    flush = Flush()
    flush.door.clear()
    async with gathering(flush, in_flight=2, limit=2) as gather:
        tasks = [asyncio.create_task(gather.submit_all([n, n])) for n in range(5)]
        async with asyncio.timeout(5):
            while flush.in_flight < 2:
                await asyncio.sleep(0)
        flush.door.set()
        assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == [[f"result of {n}"] * 2 for n in range(5)]
    assert flush.most_in_flight == 2


async def test_past_the_queue_limit_callers_are_refused_at_once():
    flush = Flush()
    async with gathering(flush, queue_limit=3) as gather:
        answers = await submit_behind_a_blocked_flush(flush, gather, [1, 2, 3, 4, 5])
        assert answers[:4] == [f"result of {item}" for item in range(4)]
        assert all(isinstance(answer, Overloaded) for answer in answers[4:])
        assert (answers[4].status, answers[4].retry_after_s) == (503, 1)
        assert flush.batches == [[0], [1, 2, 3]]
        assert await asyncio.wait_for(gather.submit(6), 1) == "result of 6"  # room again


async def test_a_caller_who_hangs_up_disturbs_nobody():
    flush = Flush()
    async with gathering(flush) as gather:
        flush.door.clear()
        first = asyncio.create_task(gather.submit(0))
        await asyncio.wait_for(flush.entered.wait(), 5)
        leaver, stayer = asyncio.create_task(gather.submit(1)), asyncio.create_task(gather.submit(2))
        await asyncio.sleep(0)
        first.cancel()  # in the flush
        leaver.cancel()  # in the queue
        flush.door.set()
        assert await asyncio.wait_for(stayer, 5) == "result of 2"
        assert first.cancelled()
        assert leaver.cancelled()
        assert await asyncio.wait_for(gather.submit(3), 1) == "result of 3"


async def test_when_the_service_stops_the_callers_in_the_flush_are_told():
    flush = Flush()
    flush.door.clear()
    async with gathering(flush) as gather:
        caller = asyncio.create_task(gather.submit(1))
        await asyncio.wait_for(flush.entered.wait(), 5)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(caller, 1)
