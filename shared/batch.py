"""Adaptive group commit: what arrived while the previous statement was under way is the next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from shared import telemetry
from shared.db import CALL_LIMIT_S, is_transient
from shared.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_LIMIT = 500
QUEUE_LIMIT = 5_000


class Overloaded(Unavailable):
    """More callers wait than will be served in time."""


class Gather(Generic[Item, Result]):
    """Gathers items into calls of `flush`, one in flight, without a timer; each caller waits for its own result.

    `flush` gets at most `limit` items sorted by `key` and returns one result per item. When it fails for a reason that
    lies in the data, the items are flushed one by one, so that a bad one fails alone.
    """

    def __init__(
        self,
        name: str,
        flush: Callable[[list[Item]], Awaitable[list[Result]]],
        *,
        key: Callable[[Item], Any],
        limit: int = BATCH_LIMIT,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._name = name
        self._flush = flush
        self._key = key
        self._limit = limit
        self._queue_limit = queue_limit
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._arrived = asyncio.Event()

    async def submit(self, item: Item) -> Result:
        """Wait for `item`'s own result, at most 5 s.

        Raises Overloaded at once when the queue is full, TimeoutError, else what its flush raised.
        """
        if len(self._waiting) >= self._queue_limit:
            raise Overloaded(f"{self._queue_limit} calls are waiting already.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._arrived.set()
        async with asyncio.timeout(CALL_LIMIT_S):
            return await future

    async def run(self) -> None:
        """Flush for ever; the one task that does so. Whoever waits when it ends hears of it."""
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while batch := self._next_batch():
                    telemetry.BATCH_SIZE.labels(self._name).observe(len(batch))
                    await self._settle(batch)
        finally:
            _fail([*batch, *self._waiting], Unavailable("The service is stopping."))
            self._waiting.clear()

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._limit:
            waiting = self._waiting.popleft()
            if not waiting[1].done():  # else the caller has gone, and was told nothing
                batch.append(waiting)
        batch.sort(key=lambda waiting: self._key(waiting[0]))
        return batch

    async def _settle(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller must hear of it
            if len(batch) == 1 or is_transient(error):
                _fail(batch, error)
                return
            for single in batch:
                await self._settle([single])
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


def _fail(batch: list[tuple[Any, asyncio.Future[Any]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
