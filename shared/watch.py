"""What can be seen of a consumer from outside: how far behind it is, and whether it still reads.

The client may stop without a word, after a restart of the broker for one (aiokafka's issues 847 and 1154): its heartbeats go
on, so its partitions are nobody else's, and nothing but a new client reads them again.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from shared import telemetry
from shared.kafka_client import Standing, end_client
from shared.log import logger
from shared.offsets import Owed

log = logger(__name__)

STALLED_AFTER = timedelta(seconds=30)  # what a healthy client does, it does some times a second
REQUEST_LIMIT_MS = 5_000
ANSWER_LIMIT_S = 10.0


class Stalled(Exception):
    """A consumer that does not go on by itself."""


class Watch:
    """Looks now and then whether a consumer still moves."""

    def __init__(self, owed: Owed, *, now: float) -> None:
        self._owed = owed
        self._before = Standing(False, {}, {}, {})
        self._times_told = owed.times_told
        self.forgive(now=now)

    def forgive(self, *, now: float) -> None:
        """It could not have moved until now."""
        self._joined_at = self._heard_at = self._told_at = now
        self._behind_since: dict[TopicPartition, float] = {}

    def stands_still(self, standing: Standing, *, busy: bool, now: float) -> bool:
        """Whether it has not done for too long what must go on: be a member, ask for news, hand them over, commit.

        Who is busy with what was handed over need not do the first three.
        """
        if busy or standing.is_member:
            self._joined_at = now
        if busy or standing.heard_at != self._before.heard_at or not standing.heard_at:
            self._heard_at = now
        if not self._owed or self._owed.times_told != self._times_told:
            self._times_told, self._told_at = self._owed.times_told, now
        self._behind_since = {
            place: now if busy or self._before.position.get(place) != position else self._behind_since.get(place, now)
            for place, position in standing.position.items()
            if standing.lag[place]
        }
        self._before = standing
        since = min(self._joined_at, self._heard_at, self._told_at, *self._behind_since.values())
        return now - since > STALLED_AFTER.total_seconds()


class Lag:
    """Shows how many records of each partition are still to be read."""

    def __init__(self) -> None:
        self._shown: set[TopicPartition] = set()

    def show(self, lag: Mapping[TopicPartition, int]) -> None:
        """This, and of no other partition: it is another member's from now on, and would be shown for ever."""
        for place in self._shown - lag.keys():
            telemetry.CONSUMER_LAG.remove(place.topic, str(place.partition))
        for place, records in lag.items():
            telemetry.CONSUMER_LAG.labels(place.topic, str(place.partition)).set(records)
        self._shown = set(lag)


async def coordinator_answers(bootstrap: str, group_id: str) -> bool:
    """Whether the broker that keeps the group answers now: where it does not, a new client could not even read."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_LIMIT_MS)
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            await admin.start()
            await admin.list_consumer_group_offsets(group_id)
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("broker not reached", error=repr(error))
        return False
    finally:
        await end_client(admin._client)  # noqa: SLF001 - its own way to end may take for ever
    return True
