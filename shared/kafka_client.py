"""Ending a Kafka client whatever it does.

Its own ways to end wait until all that is under way has arrived, and where one of them fails the next is not tried. What is
left then are tasks that go on for ever: heartbeats that keep partitions from whoever comes after, sends of what was given up.
"""

# ruff: noqa: SLF001 - no public name leads to these tasks or to the sockets

import asyncio

from aiokafka.client import AIOKafkaClient

CANCEL_LIMIT_S = 1.0
CANCEL_TIMES = 3  # before Python 3.12 a task may keep a cancellation to itself


async def end_client(client: AIOKafkaClient, *parts: object) -> None:
    """Leave no task of the client or of `parts`, which use it, and no connection."""
    owners = (client, *parts)
    tasks = {task for task in asyncio.all_tasks() if any(_whose(task) is owner for owner in owners)}
    for _ in range(CANCEL_TIMES):
        for task in tasks:
            task.cancel()
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=CANCEL_LIMIT_S)
    for connection in client._conns.values():
        if connection._writer is not None:
            connection._writer.transport.abort()  # closed, it would first write what it still holds
    await client.close()


def _whose(task: asyncio.Task[object]) -> object:
    """The object whose method the task runs."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame and frame.f_locals.get("self")
