"""Work that goes on for as long as its process."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from shared.log import logger

log = logger(__name__)

Task = Callable[[], Awaitable[None]]
PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
HEALTHY_AFTER_S = 30.0


async def keep_running(name: str, task: Task) -> None:
    """Run `task`, which never ends by itself, again and again with growing pauses when it fails."""
    pause_s = PAUSE_S
    while True:
        started = time.monotonic()
        try:
            await task()
        except Exception as error:
            log.error("task failed, starting it again", task=name, error=repr(error), exc_info=error)
        pause_s = PAUSE_S if time.monotonic() - started > HEALTHY_AFTER_S else min(2 * pause_s, LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s)


def every(seconds: float, call: Callable[[], Awaitable[None]]) -> Task:
    """A task that makes `call` now and then every `seconds`."""

    async def run() -> None:
        while True:
            await call()
            await asyncio.sleep(seconds)

    return run
