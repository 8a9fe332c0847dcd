"""One run of a stack, from the lock on its folder to the last process gone; signals become an orderly stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from deploy.lock import StackLock, stack_lock
from deploy.stack import Stack, StackOptions

Work = Callable[[dict[str, Any]], Awaitable[int]]
INTERRUPTED = 130


def run_session(options: StackOptions, work: Work, *, say: Callable[[str], None]) -> int:
    """Start the stack, do `work` with the content of stack.json, stop the stack; the exit status of the work.

    SIGINT, SIGTERM or SIGHUP end the work; a second one cuts short the time that processes are given to stop.
    Raises StackError when the stack cannot start.
    """
    with stack_lock(options.state) as lock:
        return asyncio.run(_session(options, work, lock, say))


async def until_interrupted(status: int = 0) -> int:
    """Wait for the signal that ends the session, the normal end of a stack that stays up; then `status`."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return status
    raise AssertionError("nobody sets this event")


async def _session(options: StackOptions, work: Work, lock: StackLock, say: Callable[[str], None]) -> int:
    asked, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if asked.is_set() else asked).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    stack = Stack(options, say=say)
    body = asyncio.create_task(_start_and_work(stack, work))
    waiter = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({body, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if not body.done():
            body.cancel()
            await asyncio.wait({body}, timeout=1)
        return body.result() if body.done() and not body.cancelled() else INTERRUPTED
    finally:
        waiter.cancel()
        lock.say_stopping()
        say("stopping")
        await stack.stop(hurry)
        say("stopped")


async def _start_and_work(stack: Stack, work: Work) -> int:
    return await work(await stack.start())
