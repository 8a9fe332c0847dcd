"""Waiting by asking: poll until a reading is as it must be, or has stopped moving, and say what is missing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

POLL_S, POLL_MAX_S = 0.1, 1.0
STALLED_S = 30.0  # no change for this long: nothing more will arrive


@dataclass(frozen=True, slots=True)
class Arrival(Generic[T]):
    """The last reading, and what was still missing from it ("" when all was there)."""

    reading: T
    missing: str
    seconds: float


async def until(
    read: Callable[[], Awaitable[T]], missing: Callable[[T], str], *, stalled_s: float | None = None
) -> Arrival[T]:
    """Read until `missing` has nothing to say, or until the reading has not changed for `stalled_s` (30) seconds."""
    limit_s = STALLED_S if stalled_s is None else stalled_s
    started = moved = time.monotonic()
    wait_s = POLL_S
    reading = await read()
    while lack := missing(reading):
        if time.monotonic() - moved > limit_s:
            return Arrival(reading, lack, time.monotonic() - started)
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 1.5, POLL_MAX_S)
        before, reading = reading, await read()
        if reading != before:
            moved, wait_s = time.monotonic(), POLL_S
    return Arrival(reading, "", time.monotonic() - started)
