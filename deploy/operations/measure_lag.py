"""How far everything that follows something else is behind: outboxes, consumers, callbacks, mails."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from deploy.databases import SERVICES
from deploy.event_descriptions import consumed_by
from deploy.operations.access import CLOCK, connected, kafka_bootstrap
from shared.db import CALL_LIMIT_S
from shared.events.catalogue import PUBLISHED_BY
from shared.events.tenants import TenantConfigured
from shared.outbox import BACKLOG

LATE_AFTER_S = 60.0
RETRY_AFTER_S = 0.2
CALLBACKS = """
SELECT count(*) AS waiting, coalesce(extract(epoch FROM $1 - min(received_at)), 0)::float8 AS oldest_s,
       (array_agg(error ORDER BY retry_at DESC))[1] AS last_error
FROM callbacks WHERE handled_at IS NULL
"""
# A mail that waits for the end of its rule's cooldown is not late.
MAILS = """
SELECT count(*) AS waiting, coalesce(extract(epoch FROM $1 - min(due_at)), 0)::float8 AS oldest_s,
       (array_agg(last_error ORDER BY not_before DESC) FILTER (WHERE last_error IS NOT NULL))[1] AS last_error
FROM (
    SELECT greatest(waiting_since, last_sent_at + cooldown_seconds * interval '1 second') AS due_at, not_before, last_error
    FROM mail_queues JOIN alert_rules USING (tenant_id, rule_id)
    WHERE waiting_since IS NOT NULL
) AS queue
WHERE due_at <= $1
"""


class Queue(msgspec.Struct, frozen=True):
    """What waits in a database: how many, for how long the oldest, and what the last failure said."""

    waiting: int
    oldest_s: float
    last_error: str | None = None


class PartitionLag(msgspec.Struct, frozen=True):
    """Records of a partition that a consumer group has not committed; `oldest_s` is the age of the first of them.

    It is None when that record could not be read.
    """

    group: str
    topic: str
    partition: int
    end: int
    committed: int
    lag: int
    oldest_s: float | None


class Lag(msgspec.Struct, frozen=True):
    """All of it; `consumers` is None when the broker does not answer."""

    outbox: dict[str, Queue]
    callbacks: Queue
    mails: Queue
    consumers: list[PartitionLag] | None
    broker_error: str | None

    @property
    def late(self) -> list[str]:
        """What has waited for more than a minute, or for nobody knows how long, in words."""
        queues = {f"outbox of {name}": queue for name, queue in self.outbox.items()}
        queues |= {"callbacks": self.callbacks, "mails": self.mails}
        late = [f"{name}: {q.waiting:,} waiting" for name, q in queues.items() if q.oldest_s > LATE_AFTER_S]
        late += [
            f"consumer {c.group}: {c.lag:,} records of {c.topic} {c.partition}" + ", age unknown" * (c.oldest_s is None)
            for c in self.consumers or ()
            if c.oldest_s is None or c.oldest_s > LATE_AFTER_S
        ]
        return [*late, "the broker does not answer"] if self.broker_error else late


async def database_clock() -> datetime:
    """What time it is on the server of payments; the operator's own clock may be off. Raises StackError."""
    async with connected("payments", "auditor", command="lag", limit_s=CALL_LIMIT_S) as conn:
        now: datetime = await conn.fetchval(CLOCK)
        return now


async def measure_lag(*, now: datetime) -> Lag:
    """Ask the databases, as their auditors, and the broker. Raises StackError without access to them."""
    outbox = {service: await _queue(service, BACKLOG, now) for service in sorted(PUBLISHED_BY)}
    callbacks = await _queue("payments", CALLBACKS, now)
    mails = await _queue("alerts", MAILS, now)
    try:
        consumers, error = await consumer_lag(kafka_bootstrap(), now=now), None
    except (KafkaError, OSError, TimeoutError) as failure:
        consumers, error = None, repr(failure)
    return Lag(outbox, callbacks, mails, consumers, error)


async def _queue(service: str, statement: str, now: datetime) -> Queue:
    async with connected(service, "auditor", command="lag", limit_s=CALL_LIMIT_S) as conn:
        return Queue(**dict(await conn.fetchrow(statement, now) or {}))


def consumer_groups() -> dict[str, tuple[str, ...]]:
    """The consumer groups of the services and the topics that each reads."""
    groups: dict[str, tuple[str, ...]] = {}
    for service in SERVICES:
        if events := consumed_by(service):
            own = sorted({event.TOPIC for event in events if event is not TenantConfigured})
            groups |= {service: tuple(own), f"{service}-tenants": (TenantConfigured.TOPIC,)}
    return groups


async def consumer_lag(bootstrap: str, *, now: datetime) -> list[PartitionLag]:
    """The lag of every partition of every group. Raises KafkaError, OSError, TimeoutError."""
    async with asyncio.timeout(4 * CALL_LIMIT_S):
        committed = await _committed(bootstrap)
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
        try:
            await consumer.start()
            found = []
            for group, offsets in committed.items():
                partitions = sorted(offsets)
                ends = await consumer.end_offsets(partitions)
                starts = await consumer.beginning_offsets(partitions)
                # What was deleted, or never committed, is behind by what is there.
                places = {p: min(max(offsets[p], starts[p]), ends[p]) for p in partitions}
                ages = await _ages(consumer, {p: at for p, at in places.items() if at < ends[p]}, now)
                found += [
                    PartitionLag(
                        group,
                        p.topic,
                        p.partition,
                        ends[p],
                        places[p],
                        ends[p] - places[p],
                        ages.get(p) if places[p] < ends[p] else 0.0,
                    )
                    for p in partitions
                ]
            return found
        finally:
            await consumer.stop()


async def _committed(bootstrap: str) -> dict[str, dict[TopicPartition, int]]:
    groups = consumer_groups()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(CALL_LIMIT_S * 1000))
    try:
        await admin.start()
        partitions = await _partitions(admin, sorted({topic for topics in groups.values() for topic in topics}))
        committed = {}
        for group, topics in groups.items():
            wanted = [partition for partition in partitions if partition.topic in topics]
            offsets = await _offsets(admin, group, wanted) if wanted else {}
            committed[group] = {p: offsets[p].offset if p in offsets else -1 for p in wanted}
        return committed
    finally:
        await admin.close()


async def _offsets(admin: AIOKafkaAdminClient, group: str, wanted: list[TopicPartition]) -> dict[TopicPartition, Any]:
    while True:
        try:
            return dict(await admin.list_consumer_group_offsets(group, partitions=wanted))
        except GroupCoordinatorNotAvailableError:  # the first group of a broker has none for a moment
            await asyncio.sleep(RETRY_AFTER_S)


async def _partitions(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> list[TopicPartition]:
    described = await admin.describe_topics()  # of all: asked for one that is missing, many a broker makes it
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        if topic["topic"] in topics
        for partition in topic["partitions"]
    ]


async def _ages(
    consumer: AIOKafkaConsumer, places: dict[TopicPartition, int], now: datetime
) -> dict[TopicPartition, float]:
    """The age of the record that each place leads to, as far as they come within the limit."""
    ages: dict[TopicPartition, float] = {}
    if not places:
        return ages
    consumer.assign(list(places))
    for partition, offset in places.items():
        consumer.seek(partition, offset)
    deadline = time.monotonic() + CALL_LIMIT_S
    while len(ages) < len(places) and time.monotonic() < deadline:
        for partition, records in (await consumer.getmany(timeout_ms=200)).items():
            ages.setdefault(partition, max(0.0, now.timestamp() - records[0].timestamp / 1000))
            consumer.pause(partition)
    consumer.unsubscribe()
    return ages


def lines_of(lag: Lag) -> list[str]:
    """The measurement for a terminal."""
    queues = {f"outbox of {name}": queue for name, queue in lag.outbox.items()}
    queues |= {"callbacks without effect": lag.callbacks, "mails overdue": lag.mails}
    lines = [
        f"{name:<30}{q.waiting:>10,}  oldest {q.oldest_s:,.1f} s"
        + (f"  last error: {q.last_error}" * bool(q.last_error))
        for name, q in queues.items()
    ]
    behind: dict[str, list[PartitionLag]] = {}
    for consumer in lag.consumers or ():
        behind.setdefault(f"{consumer.group} reads {consumer.topic}", []).append(consumer)
    for name, partitions in behind.items():
        ages = [partition.oldest_s for partition in partitions]
        oldest = "unknown" if None in ages else f"{max(age for age in ages if age is not None):,.1f} s"
        lines.append(f"{name:<30}{sum(partition.lag for partition in partitions):>10,}  oldest {oldest}")
    return [*lines, *(f"late: {what}" for what in lag.late)] + ([lag.broker_error] if lag.broker_error else [])
