"""Adaptive group commit: what arrived while the previous statement was under way is the next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from shared import telemetry
from shared.db import CALL_LIMIT_S, HELD_UP, is_transient
from shared.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_LIMIT = 500
QUEUE_LIMIT = 5_000
# A batch that was held up is tried again in parts, and those of them in parts again: the one among 500 who is to blame is
# alone at the third time. New parts are begun for so long only, since those who wait behind have 5 s as well.
PARTS = 10
PARTS_LIMIT_S = 2.5


class Overloaded(Unavailable):
    """More callers wait than will be served in time."""


class _Call(Generic[Item, Result]):
    """What one caller has submitted and waits for."""

    __slots__ = ("future", "items")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.future: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()


class Gather(Generic[Item, Result]):
    """Gathers the items of many calls into calls of `flush`, without a timer; each caller waits for its own results.

    `flush` gets the items in the order of their arrival, those of a call together, at most `limit` unless a call alone
    brings more, and returns one result per item. When it fails for a reason that lies in the data, it is called again
    for each call alone, so that only the one with the bad item fails. When it was held up by a lock that somebody has on
    a row, it is called again for parts of the calls, so that in the end only those fail who want that row.
    """

    def __init__(
        self,
        name: str,
        flush: Callable[[list[Item]], Awaitable[list[Result]]],
        *,
        in_flight: int = 1,
        limit: int = BATCH_LIMIT,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._name = name
        self._flush = flush
        self._in_flight = in_flight
        self._limit = limit
        self._queue_limit = queue_limit
        self._waiting: deque[_Call[Item, Result]] = deque()
        self._items_waiting = 0
        self._arrived = asyncio.Event()

    async def submit(self, item: Item) -> Result:
        """Wait for `item`'s own result; as `submit_all`."""
        (result,) = await self.submit_all((item,))
        return result

    async def submit_all(self, items: Sequence[Item]) -> list[Result]:
        """Wait for the results of `items`, which are flushed together, at most 5 s.

        Raises Overloaded at once when the queue is full, TimeoutError, else what their flush raised.
        """
        if not items:
            return []
        if self._items_waiting >= self._queue_limit:
            raise Overloaded(f"{self._items_waiting} items are waiting already.")
        call: _Call[Item, Result] = _Call(items)
        self._waiting.append(call)
        self._items_waiting += len(items)
        self._arrived.set()
        async with asyncio.timeout(CALL_LIMIT_S):
            return await call.future

    async def run(self) -> None:
        """Flush for ever, `in_flight` flushes at a time. Whoever waits when it ends hears of it."""
        try:
            async with asyncio.TaskGroup() as flights:
                for _ in range(self._in_flight):
                    flights.create_task(self._fly())
        finally:
            _fail(self._waiting, Unavailable("The service is stopping."))
            self._waiting.clear()
            self._items_waiting = 0

    async def _fly(self) -> None:
        calls: list[_Call[Item, Result]] = []
        try:
            while True:
                while calls := self._next_calls():
                    telemetry.BATCH_SIZE.labels(self._name).observe(sum(len(call.items) for call in calls))
                    await self._settle(calls)
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            _fail(calls, Unavailable("The service is stopping."))

    def _next_calls(self) -> list[_Call[Item, Result]]:
        calls: list[_Call[Item, Result]] = []
        size = 0
        while self._waiting and (not calls or size + len(self._waiting[0].items) <= self._limit):
            call = self._waiting.popleft()
            self._items_waiting -= len(call.items)
            if not call.future.done():  # else the caller has gone, and was told nothing
                calls.append(call)
                size += len(call.items)
        return calls

    async def _settle(self, calls: list[_Call[Item, Result]]) -> None:
        clock = asyncio.get_running_loop().time
        give_up_at, held_up = clock() + PARTS_LIMIT_S, None
        parts = deque([calls])
        while parts:
            part = [call for call in parts.popleft() if not call.future.done()]
            if not part:
                continue
            if held_up is not None and clock() >= give_up_at:
                _fail(part, held_up)
                continue
            try:
                await self._flush_together(part)
            except Exception as error:  # noqa: BLE001 - whatever it is, every caller must hear of it
                if isinstance(error, HELD_UP):
                    held_up = error
                if len(part) == 1 or (is_transient(error) and error is not held_up):
                    _fail(part, error)
                    continue
                size = -(-len(part) // PARTS) if error is held_up else 1
                # Behind those not tried yet, which may well go through.
                parts += (part[start : start + size] for start in range(0, len(part), size))

    async def _flush_together(self, calls: Sequence[_Call[Item, Result]]) -> None:
        items = [item for call in calls for item in call.items]
        results = await self._flush(items)
        if len(results) != len(items):
            raise RuntimeError(f"{self._name} has {len(results)} results for {len(items)} items")
        each = iter(results)
        for call in calls:
            own = list(islice(each, len(call.items)))
            if not call.future.done():
                call.future.set_result(own)


def _fail(calls: Iterable[_Call[Any, Any]], error: Exception) -> None:
    for call in calls:
        if not call.future.done():
            call.future.set_exception(error)
