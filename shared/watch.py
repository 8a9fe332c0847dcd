"""What can be seen of a consumer from outside: how far behind it is, and whether it still reads.

The client may stop without a word, after a restart of the broker for one (aiokafka's issues 847 and 1154): its heartbeats go
on, so its partitions are nobody else's, and nothing but a new client reads them again.
"""

import asyncio
from datetime import timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared import telemetry
from shared.kafka_client import Standing, standing_of
from shared.offsets import Owed

STALLED_AFTER = timedelta(seconds=30)  # what a healthy client does, it does some times a second


class Stalled(Exception):
    """A consumer that does not go on by itself."""


class Watch:
    """Looks now and then whether a consumer still moves."""

    def __init__(self, owed: Owed, *, now: float) -> None:
        self._owed = owed
        self._before = Standing(False, {}, {})
        self._times_told = owed.times_told
        self.forgive(now=now)

    def forgive(self, *, now: float) -> None:
        """It could not have moved until now."""
        self._joined_at = self._asked_at = self._told_at = now
        self._behind_since: dict[TopicPartition, float] = {}

    def stands_still(self, consumer: AIOKafkaConsumer, *, busy: bool, now: float) -> bool:
        """Whether it has not done for too long what must go on: be a member, ask for news, hand them over, commit.

        Who is busy with what was handed over need not do the first three.
        """
        standing = standing_of(consumer)
        if busy or standing.is_member:
            self._joined_at = now
        if busy or standing.asked_at != self._before.asked_at or not standing.asked_at:
            self._asked_at = now
        if not self._owed or self._owed.times_told != self._times_told:
            self._times_told, self._told_at = self._owed.times_told, now
        self._behind_since = {
            place: now if busy or self._before.behind.get(place) != position else self._behind_since.get(place, now)
            for place, position in standing.behind.items()
        }
        self._before = standing
        since = min(self._joined_at, self._asked_at, self._told_at, *self._behind_since.values())
        return now - since > STALLED_AFTER.total_seconds()


class Lag:
    """Shows how many records of each partition are still to be read."""

    def __init__(self) -> None:
        self._shown: set[TopicPartition] = set()

    def show_only(self, places: set[TopicPartition]) -> None:
        """The others are another member's from now on: what their lag was here would be shown for ever."""
        for place in self._shown - places:
            telemetry.CONSUMER_LAG.remove(place.topic, str(place.partition))
        self._shown &= places

    async def measure(self, consumer: AIOKafkaConsumer) -> None:
        """Show what it is now."""
        self.show_only(consumer.assignment())
        for place in consumer.assignment():
            try:
                async with asyncio.timeout(1):
                    position = await consumer.position(place)
            except (KafkaError, TimeoutError):
                continue  # being assigned or revoked just now
            end = consumer.highwater(place) if place in consumer.assignment() else None
            if end is not None:
                telemetry.CONSUMER_LAG.labels(place.topic, str(place.partition)).set(max(0, end - position))
                self._shown.add(place)
