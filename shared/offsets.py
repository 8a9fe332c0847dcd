"""Committing offsets as a member of the group, or not at all.

The client's own commit goes on trying when the group has forgotten this member, then in nobody's name, and a broker that has
just lost its data takes that: readers would go on where the lost topics ended, past events that are sent again.
"""

# ruff: noqa: SLF001 - nothing public says whether this consumer is a member

import asyncio
from typing import Any

from aiokafka.errors import KafkaError
from faststream.kafka.message import KafkaAckableMessage, KafkaMessage

ATTEMPTS = 5
PAUSE_S = 0.1


class Batch(KafkaAckableMessage):
    """Records whose offsets are committed once they have had their effect."""

    async def ack(self) -> None:
        """Commit; when that cannot be, the next batch's commit covers this one, or its records come again."""
        if not self.committed:
            await _commit(self.consumer)
        await KafkaMessage.ack(self)


async def _commit(consumer: Any) -> None:
    coordinator = consumer._coordinator
    member = coordinator.generation, coordinator.member_id
    for attempt in range(1, ATTEMPTS + 1):
        assignment = consumer._subscription.subscription.assignment
        if (
            assignment is None
            or coordinator.generation < 0
            or member != (coordinator.generation, coordinator.member_id)
        ):
            return
        try:
            # Between the question who we are and the request that says it nothing is awaited.
            await coordinator._do_commit_offsets(assignment, assignment.all_consumed_offsets())
        except KafkaError as error:
            if not error.retriable or attempt == ATTEMPTS:
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return
