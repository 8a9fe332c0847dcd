"""What can be seen of a consumer from outside: how far behind it is, and whether it still reads.

The client may stop without a word, after a restart of the broker for one (aiokafka's issues 847 and 1154): its heartbeats go
on, so its partitions are nobody else's, and nothing but a new client reads them again.
"""

import asyncio
from datetime import timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared import telemetry
from shared.offsets import Owed, is_without_partitions

STALLED_AFTER = timedelta(seconds=30)  # a healthy one hears of each partition some times a second, news or not


class Stalled(Exception):
    """A consumer that neither reads nor says why."""


class Watch:
    """Looks now and then whether a consumer still moves."""

    def __init__(self, owed: Owed, *, now: float) -> None:
        self._owed = owed
        self._read: dict[TopicPartition, int | None] = {}
        self._told = owed.told
        self.forgive(now=now)

    def forgive(self, *, now: float) -> None:
        """It could not have moved until now."""
        self._read_at = self._told_at = now

    def stands_still(self, consumer: AIOKafkaConsumer, *, busy: bool, now: float) -> bool:
        """Whether nothing was read, or nothing that was read was committed, for longer than can be right.

        Who is busy with what it has read need not read on.
        """
        read = {place: consumer.last_poll_timestamp(place) for place in consumer.assignment()}
        if busy or read != self._read or is_without_partitions(consumer):
            self._read, self._read_at = read, now
        if not self._owed or self._owed.told != self._told:
            self._told, self._told_at = self._owed.told, now
        return now - min(self._read_at, self._told_at) > STALLED_AFTER.total_seconds()


class Lag:
    """Shows how many records of each partition are still to be read."""

    def __init__(self) -> None:
        self._shown: set[TopicPartition] = set()

    def forget(self, places: set[TopicPartition] | None = None) -> None:
        """Another member's from now on, all or some: what their lag was here would be shown for ever."""
        for place in set(self._shown) if places is None else places:
            telemetry.CONSUMER_LAG.remove(place.topic, str(place.partition))
            self._shown.discard(place)

    async def measure(self, consumer: AIOKafkaConsumer) -> None:
        """Show what it is now."""
        assigned = consumer.assignment()
        self.forget(self._shown - assigned)
        for place in assigned:
            end = consumer.highwater(place)
            try:
                async with asyncio.timeout(1):
                    position = await consumer.position(place)
            except (KafkaError, TimeoutError):
                continue  # being assigned or revoked just now
            if end is not None:
                telemetry.CONSUMER_LAG.labels(place.topic, str(place.partition)).set(max(0, end - position))
                self._shown.add(place)
