"""The one consumer policy. Nothing is lost, nothing blocks, what cannot be applied is set aside."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

from shared import telemetry
from shared.clocks import utc_now
from shared.db import is_transient
from shared.dead_letters import set_aside
from shared.events import Apply, Decoder, Received, Undecodable
from shared.kafka_client import end_client, lost_task_of, standing_of
from shared.log import logger
from shared.offsets import Batch, Owed
from shared.publisher import Publisher, ensure_topics
from shared.watch import Lag, Stalled, Watch, coordinator_answers

log = logger(__name__)

BATCH_LIMIT = 500
LANES = 2
# The broker waits a moment for a batch worth its transaction; events are late by this at most.
FETCH_MIN_BYTES = 128 * 1024
FETCH_MAX_WAIT_MS = 100
BACK_OFF_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# A member that was killed is missed after the shortest time that brokers allow; joining a group may take as long.
SESSION_LIMIT_MS = 6_000
REQUEST_LIMIT_MS = 8_000  # so long, too, may a broker say nothing before another connection is tried
METADATA_MAX_AGE_MS = 5_000  # a broker that has lost its data gets its topics anew, under the eyes of running readers
LOOK_EVERY_S = 2.0
DOUBTS = 5  # a client that could do nothing either, say while the process stood still, goes on within these looks
START_LIMIT_S = 60.0
LET_GO_LIMIT_S = 4.0  # what was handed over has half of it
STOP_LIMIT_S = 2.0  # less than a service has for its end: the group must hear that this member leaves


class KnownTenants(Protocol):
    """Which tenants a consumer may apply events of."""

    async def unknown(self, tenant_ids: set[str]) -> set[str]:
        """Those not known now."""

    async def wait_for(self, tenant_ids: set[str]) -> set[str]:
        """Those still not known after a bounded time."""


class Consumer:
    """Applies the events of `topics` in batches: offsets are committed after the database, and only then."""

    def __init__(
        self,
        bootstrap: str,
        *,
        topics: Sequence[str],
        group_id: str,
        decoder: Decoder,
        apply: Apply,
        tenants: KnownTenants,
        publisher: Publisher,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = tuple(topics)
        self._group_id = group_id
        self._decode = decoder.decode
        self._apply = apply
        self._tenants = tenants
        self._publisher = publisher
        self._owed = Owed()
        self._busy = False
        self._broker = KafkaBroker(
            bootstrap,
            logger=None,
            consumer_only=True,  # topics and dead letters are the publisher's
            graceful_timeout=STOP_LIMIT_S,
            request_timeout_ms=REQUEST_LIMIT_MS,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )
        self._subscriber = self._broker.subscriber(
            *topics,
            batch=True,
            group_id=group_id,
            auto_offset_reset="earliest",
            max_records=LANES * BATCH_LIMIT,
            fetch_min_bytes=FETCH_MIN_BYTES,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            session_timeout_ms=SESSION_LIMIT_MS,
            ack_policy=AckPolicy.NACK_ON_ERROR,  # a net only: `_handle` does not raise
            parser=self._parse,
            decoder=_leave_undecoded,
        )
        self._subscriber(self._on_batch)

    async def run(self) -> None:
        """Consume until cancelled; a broker that is down at the start is tried again for as long as it lasts."""
        lag = Lag()
        try:
            while not await self._started():
                await asyncio.sleep(1)
            consumer: AIOKafkaConsumer = self._subscriber.consumer
            watch, doubts = Watch(self._owed, now=time.monotonic()), 0
            while True:
                if (lost := lost_task_of(consumer)) is not None:
                    why = None if lost.cancelled() else lost.exception()
                    raise Stalled(f"{self._group_id} has lost a part of its client") from why
                await self._owed.settle(consumer)
                standing = standing_of(consumer)
                lag.show(standing.lag)
                if not watch.stands_still(standing, busy=self._busy, now=time.monotonic()):
                    doubts = 0
                elif not await coordinator_answers(self._bootstrap, self._group_id):
                    watch.forgive(now=time.monotonic())
                elif (doubts := doubts + 1) > DOUBTS:
                    raise Stalled(f"{self._group_id} neither reads nor says why")
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            lag.show({})
            await self._let_go()

    async def _started(self) -> bool:
        try:
            await ensure_topics(self._bootstrap, self._topics)
            async with asyncio.timeout(START_LIMIT_S):
                await self._broker.start()
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("cannot consume yet", error=repr(error))
            await self._let_go()
            return False
        return True

    async def _let_go(self) -> None:
        consumer: Any = self._subscriber.consumer
        try:
            async with asyncio.timeout(LET_GO_LIMIT_S):
                await self._broker.stop()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is ended all the same
            log.warning("the Kafka client does not end by itself", error=repr(error))
        finally:
            if consumer is not None:
                await end_client(consumer._client, consumer._coordinator, consumer._fetcher)  # noqa: SLF001

    async def _parse(self, records: tuple[ConsumerRecord, ...]) -> Batch:
        # FastStream's own parser decodes headers, and one that is not UTF-8 would make the batch fail for ever.
        return Batch(records, self._subscriber.consumer, self._owed)

    async def _on_batch(self, message: KafkaMessage) -> None:
        raw = message.raw_message
        self._busy = True
        try:
            await self.handle(raw if isinstance(raw, tuple) else (raw,))
        finally:
            self._busy = False

    async def handle(self, records: Sequence[ConsumerRecord]) -> None:
        """Give every record its effect, or set it aside with a reason; returns when both are safe.

        Partitions go in two lanes: one lane works out its part while the other one's is being written.
        """
        lanes: defaultdict[int, list[ConsumerRecord]] = defaultdict(list)
        for record in records:
            lanes[record.partition % LANES].append(record)
        async with asyncio.TaskGroup() as group:
            for lane in lanes.values():
                group.create_task(self._handle_lane(lane))

    async def _handle_lane(self, records: Sequence[ConsumerRecord]) -> None:
        for start in range(0, len(records), BATCH_LIMIT):
            await self._handle_batch(records[start : start + BATCH_LIMIT])

    async def _handle_batch(self, records: Sequence[ConsumerRecord]) -> None:
        dead: list[tuple[ConsumerRecord, str]] = []
        live: list[tuple[ConsumerRecord, Received]] = []
        for record in records:
            try:
                event = self._decode(record.key, record.value)
            except Undecodable as error:
                dead.append((record, str(error)))
                continue
            if event is not None:
                live.append((record, event))
        # Those of known tenants first: nobody waits for a tenant that may never come. Keys belong to one tenant each.
        tenants = {event.tenant_id for _, event in live}
        unknown = await self._through_outages(self._tenants.unknown, tenants)
        await self._apply_or_isolate([pair for pair in live if pair[1].tenant_id not in unknown], dead)
        if unknown:
            missing = await self._through_outages(self._tenants.wait_for, unknown)
            await self._apply_or_isolate([pair for pair in live if pair[1].tenant_id in unknown - missing], dead)
            dead += [(record, "unknown tenant") for record, event in live if event.tenant_id in missing]
        await set_aside(dead, self._publisher, consumer=self._group_id, now=utc_now())
        without = {id(record) for record, _ in dead}
        for topic, count in Counter(record.topic for record, _ in live if id(record) not in without).items():
            telemetry.CONSUMED.labels(topic).inc(count)

    async def _apply_or_isolate(
        self, live: Sequence[tuple[ConsumerRecord, Received]], dead: list[tuple[ConsumerRecord, str]]
    ) -> None:
        if not live:
            return
        try:
            with telemetry.span("consume", _carrier(live[0][1])):
                await self._through_outages(self._apply, [event for _, event in live], may_be_too_much=len(live) > 1)
        except Exception as error:
            if len(live) == 1:
                log.error("event set aside", event_id=str(live[0][1].id), error=repr(error), exc_info=error)
                dead.append((live[0][0], f"not applicable: {error!r}"))
                return
        else:
            return
        middle = len(live) // 2
        await self._apply_or_isolate(live[:middle], dead)
        await self._apply_or_isolate(live[middle:], dead)

    async def _through_outages(
        self, call: Callable[[Any], Awaitable[Any]], argument: Any, *, may_be_too_much: bool = False
    ) -> Any:
        attempt = 0
        while True:
            try:
                return await call(argument)
            except Exception as error:
                # A batch that is too much for its time would be so again: halves are tried after a while.
                too_slow = isinstance(error, TimeoutError | asyncpg.QueryCanceledError)
                if not is_transient(error) or (may_be_too_much and too_slow and attempt >= 2):
                    raise
                log.warning("will try again", error=repr(error), attempt=attempt)
                await asyncio.sleep(BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])
                attempt += 1


async def _leave_undecoded(_message: Any) -> bytes:
    return b""


def _carrier(event: Received) -> dict[str, str]:
    return {"traceparent": event.traceparent} if event.traceparent else {}
