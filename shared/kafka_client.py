"""What the Kafka client does not offer by itself: to outlive a lost connection, to be looked at, to be ended."""

# ruff: noqa: SLF001 - no public name leads to these tasks, to where it stands or to the sockets

import asyncio
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest

CANCEL_LIMIT_S = 1.0
CANCEL_TIMES = 3  # before Python 3.12 a task may keep a cancellation to itself

_send = AIOKafkaConnection.send
_send_to_coordinator = GroupCoordinator._send_req


def _send_or_break(connection: AIOKafkaConnection, *request: Any, **options: Any) -> Any:
    """Send, or break the connection.

    uvloop says with a RuntimeError that the other end is gone, where nobody has told the client yet. The client expects none
    (its issue 1038): the task that was just sending ends, and what it did, nobody does any more.
    """
    try:
        return _send(connection, *request, **options)
    except (KafkaError, NotImplementedError):  # RuntimeErrors too, of the request and not of the connection
        raise
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"{connection} is broken: {error}") from error


async def _send_and_hear_refusals(coordinator: Any, request: Any) -> Any:
    """Send, and raise what a broker says of the offsets of the group as a whole, say while it still loads them.

    There are none in such an answer, which the client takes for a group that has never read: it would read all again.
    """
    response = await _send_to_coordinator(coordinator, request)
    code = response.error_code if isinstance(request, OffsetFetchRequest) else 0
    if code in {GroupCoordinatorNotAvailableError.errno, NotCoordinatorForGroupError.errno}:
        coordinator.coordinator_dead()
    if code:
        refusal = for_code(code)
        raise refusal
    return response


AIOKafkaConnection.send = _send_or_break
GroupCoordinator._send_req = _send_and_hear_refusals


Task = asyncio.Task[None]
Member = tuple[int, str]  # the group's generation, and the name that it has given


def member_of(consumer: Any) -> Member:
    """As what the group knows this consumer; in generation -1 it does not."""
    return consumer._coordinator.generation, consumer._coordinator.member_id


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a client stands with its group and its partitions."""

    is_member: bool
    heard_at: dict[TopicPartition, int | None]  # of which partition that has a leader it heard when, news or not
    position: dict[TopicPartition, int]  # in those of which it has heard where they end
    lag: dict[TopicPartition, int]  # how many records that it knows of come after the position


def standing_of(consumer: Any) -> Standing:
    """As the client itself has it now."""
    coordinator, subscription = consumer._coordinator, consumer._subscription
    is_member = not (
        coordinator._rejoin_needed_fut.done()
        or subscription.reassignment_in_progress
        or subscription.subscription.assignment is None
    )
    places = {place: subscription.subscription.assignment.state_value(place) for place in consumer.assignment()}
    leader_of = consumer._client.cluster.leader_for_partition
    led = {place: at for place, at in places.items() if leader_of(place) not in {None, -1}}
    known = {place: at for place, at in places.items() if at.has_valid_position and at.highwater is not None}
    return Standing(
        is_member,
        {place: at.timestamp for place, at in led.items()},
        {place: at.position for place, at in known.items()},
        {place: max(0, at.highwater - at.position) for place, at in known.items()},
    )


def lost_task_of(consumer: Any) -> Task | None:
    """One of its tasks that has ended: it is not begun again by itself, and some say so to nobody.

    Those that pass with a membership are lost only when they have failed.
    """
    coordinator = consumer._coordinator
    lasting: tuple[Task, ...] = (
        consumer._client._sync_task, consumer._fetcher._fetch_task, coordinator._coordination_task
    )  # fmt: skip
    passing: tuple[Task | None, ...] = (coordinator._heartbeat_task, coordinator._commit_refresh_task)
    lost = [task for task in lasting if task.done()]
    lost += [task for task in passing if task and task.done() and not task.cancelled() and task.exception()]
    return next(iter(lost), None)


async def end_client(client: AIOKafkaClient, *parts: object) -> None:
    """Leave no task of the client or of `parts`, which use it, and no connection. A part that was never made is None.

    Its own ways to end wait until all that is under way has arrived, and where one of them fails the next is not tried. What
    is left then are tasks that go on for ever: heartbeats that keep partitions from whoever comes after, sends of what was
    given up.
    """
    owners = [owner for owner in (client, *parts) if owner is not None]
    tasks = {task for task in asyncio.all_tasks() if any(_whose(task) is owner for owner in owners)}
    for _ in range(CANCEL_TIMES):
        for task in tasks:
            task.cancel()
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=CANCEL_LIMIT_S)
    for connection in client._conns.values():
        if connection._writer is not None:
            connection._writer.transport.abort()  # closed, it would first write what it still holds
    if closed := [connection.close() for connection in client._conns.values()]:
        await asyncio.wait(closed, timeout=CANCEL_LIMIT_S)


def _whose(task: asyncio.Task[object]) -> object:
    """The object whose method the task runs."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame and frame.f_locals.get("self")
