"""Committing offsets as a member of the group, or not at all, and of nothing but what has had its effect.

The client's own commit goes on trying when the group has forgotten this member, then in nobody's name, and a broker that has
just lost its data takes that: readers would go on where the lost topics ended, past events that are sent again.
"""

# ruff: noqa: SLF001 - nothing public says whether this consumer is a member

from typing import Any

from aiokafka import ConsumerRecord, OffsetAndMetadata, TopicPartition
from aiokafka.errors import KafkaError
from faststream.kafka.message import KafkaAckableMessage, KafkaMessage

from shared.kafka_client import Member, member_of
from shared.log import logger

log = logger(__name__)


class Owed:
    """Offsets of what has had its effect, of which the group has still to be told."""

    def __init__(self) -> None:
        self._offsets: dict[TopicPartition, int] = {}
        self._member: Member = (-1, "")
        self._may_come_late = False
        self.times_told = 0

    def __bool__(self) -> bool:
        return bool(self._offsets)

    def add(self, member: Member, records: tuple[ConsumerRecord, ...]) -> None:
        """These count as read from now on, by who was `member` when reading them."""
        if member != self._member:
            self._member, self._offsets = member, {}
        for record in records:
            self._offsets[TopicPartition(record.topic, record.partition)] = record.offset + 1

    async def settle(self, consumer: Any) -> None:
        """Tell the group. What cannot be told now is told the next time; what never is comes again."""
        assignment = consumer._subscription.subscription.assignment
        if assignment is None or self._member != member_of(consumer) or self._member[0] < 0:
            self._offsets = {}  # whoever is given the partitions reads on from what was told before
        offered = dict(self._offsets)
        if not offered:
            return
        try:
            # Between the question who we are and the request that says it nothing is awaited.
            await consumer._coordinator._do_commit_offsets(
                assignment, {place: OffsetAndMetadata(offset, "") for place, offset in offered.items()}
            )
        except KafkaError as error:
            log.warning("offsets not committed yet", error=repr(error))
            self._may_come_late = True
            return
        self.times_told += 1
        if self._may_come_late:  # behind this one, of which nothing would be left then: so it is said again
            self._may_come_late = False
            return
        self._offsets = {place: at for place, at in self._offsets.items() if offered.get(place) != at}


class Batch(KafkaAckableMessage):
    """Records whose offsets are committed once they have had their effect."""

    def __init__(self, records: tuple[ConsumerRecord, ...], consumer: Any, owed: Owed) -> None:
        super().__init__(body=b"", raw_message=records, headers={}, consumer=consumer)
        self._records, self._owed, self._member = records, owed, member_of(consumer)

    async def ack(self) -> None:
        """Commit them, in the name under which they were read."""
        if not self.committed:
            self._owed.add(self._member, self._records)
            await self._owed.settle(self.consumer)
        await KafkaMessage.ack(self)
