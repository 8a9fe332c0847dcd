"""The outbox: events written in the transaction of their effect, and the relay that publishes them in order.

Ids are given out before commit, so "all above the last id" would lose the row of a slow transaction: rows are marked when
published instead. The events of one key are inserted while its aggregate's row is locked, so their ids follow their commits.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec

from shared import telemetry
from shared.clocks import utc_now
from shared.db import CALL_LIMIT_S, LIMITS, PLANS, TRANSIENT, Connection, Database, as_rows
from shared.events import Event, encode
from shared.ids import new_id
from shared.log import logger
from shared.publisher import Message, Publisher
from shared.writes import Write

log = logger(__name__)

RELAY_LOCK = 7_041_776  # any number, the same for all relays of one database
BATCH_LIMIT = 1_000
IDLE_POLL_S = 0.02
PACE_S = 0.025  # lets a few commits share a publication, and all that follows it, while the load is light
TAKE_OVER_POLL_S = 1.0
LOOK_AT_ALL_EVERY_S = 2.0
WAITED_FOR_LIMIT = 100
FAILURE_PAUSE_S = 0.5

ADD = """
INSERT INTO outbox (tenant_id, event_id, topic, key, event, created_at)
SELECT tenant_id, event_id, topic, key, event, $2
FROM ROWS FROM (json_to_recordset($1) AS (tenant_id text, event_id uuid, topic text, key text, event json))
     WITH ORDINALITY AS row (tenant_id, event_id, topic, key, event, position)
ORDER BY position
"""
TAKE_LOCK = "SELECT pg_try_advisory_lock($1)"
UNPUBLISHED = """
SELECT tenant_id, id, topic, key, event::text AS event, created_at
FROM outbox WHERE published_at IS NULL AND id > $2 ORDER BY id LIMIT $1
"""
# Of the answer: transactions from `following` on have not begun; all before `oldest` have ended.
MARK = """
WITH marked AS (
    UPDATE outbox SET published_at = $3
    FROM unnest($1::text[], $2::bigint[]) AS done (tenant_id, id)
    WHERE outbox.tenant_id = done.tenant_id AND outbox.id = done.id
)
SELECT pg_snapshot_xmin(now)::text::bigint AS oldest, pg_snapshot_xmax(now)::text::bigint AS following
FROM pg_current_snapshot() AS now
"""
BACKLOG = """
SELECT count(*) AS waiting, coalesce(extract(epoch FROM $1 - min(created_at)), 0)::float8 AS oldest_s
FROM outbox WHERE published_at IS NULL
"""


class Outgoing(NamedTuple):
    """An event of a tenant about the aggregate `key`, which is also its subject."""

    tenant_id: str
    key: str
    event: Event


def add(service: str, outgoing: Sequence[Outgoing], *, now: datetime) -> Write | None:
    """`outgoing` in the order given, to be written in the transaction of their effect."""
    trace = telemetry.traceparent()
    return Write(ADD, (as_rows([_row(service, one, now, trace) for one in outgoing]), now)) if outgoing else None


def _row(service: str, outgoing: Outgoing, now: datetime, trace: str | None) -> dict[str, Any]:
    tenant_id, key, event = outgoing
    event_id = new_id()
    text = encode(
        event, event_id=event_id, service=service, subject=key, time=now, tenant_id=tenant_id, traceparent=trace
    )
    return {"tenant_id": tenant_id, "event_id": event_id, "topic": event.TOPIC, "key": key, "event": msgspec.Raw(text)}


@dataclass(slots=True)
class Relay:
    """Publishes a database's outbox; of all that run, the one that holds the advisory lock."""

    dsn: str = field(repr=False)  # of the system role, which sees the outbox of all tenants
    publisher: Publisher
    wake: asyncio.Event  # set after a commit in this process; other processes' rows are found by polling
    # Each a transaction and an id, below which no row is committed any more when all transactions before have ended; the
    # highest id of which that is so; and of which it was so before the last look, which has found what they committed.
    _waited_for: deque[tuple[int, int]] = field(default_factory=deque)
    _ended_id: int = 0
    _settled_id: int = 0
    _looked_at_all_at: float = float("-inf")

    async def run(self) -> None:
        """Publish for ever, through lost connections and a broker that is down."""
        while True:
            try:
                await self._hold_lock_and_publish()
            except (asyncpg.PostgresError, *TRANSIENT) as error:
                log.warning("relay lost its database", error=repr(error))
                await asyncio.sleep(FAILURE_PAUSE_S)

    async def _hold_lock_and_publish(self) -> None:
        # The lock, the reading and the marking share a connection: a relay that has lost its lock cannot mark.
        # The server notices within seconds when this host is gone and lets the next relay in.
        conn = await asyncpg.connect(
            self.dsn,
            timeout=CALL_LIMIT_S,
            command_timeout=CALL_LIMIT_S,
            server_settings={"application_name": "relay", **PLANS, **LIMITS},
        )
        try:
            while not await conn.fetchval(TAKE_LOCK, RELAY_LOCK):
                await asyncio.sleep(TAKE_OVER_POLL_S)
            # Topics that cannot be made show before there is an event for them.
            while not await self.publisher.send_all([]):
                await asyncio.sleep(FAILURE_PAUSE_S)
            while True:
                await self._publish_until_empty(conn)
                await self._idle()
        finally:
            conn.terminate()

    async def _publish_until_empty(self, conn: Connection) -> None:
        while rows := await conn.fetch(UNPUBLISHED, BATCH_LIMIT, self._look_from()):
            messages = [Message(row["topic"], row["key"].encode(), row["event"].encode()) for row in rows]
            if not await self.publisher.send_all(messages):
                # Which of them arrived is unknown: all are sent again, and readers know events that they have seen.
                await asyncio.sleep(FAILURE_PAUSE_S)
                continue
            await self._mark(conn, rows)
            for topic, count in Counter(row["topic"] for row in rows).items():
                telemetry.PUBLISHED.labels(topic).inc(count)
            if len(rows) < BATCH_LIMIT:
                await asyncio.sleep(PACE_S)

    async def _mark(self, conn: Connection, rows: Sequence[asyncpg.Record]) -> None:
        """Rows below those published may still be committed by those transactions only that are running now."""
        published_id = rows[-1]["id"]
        self._settled_id = max(self._settled_id, min(self._ended_id, published_id))
        ((oldest, following),) = await conn.fetch(
            MARK, [row["tenant_id"] for row in rows], [row["id"] for row in rows], utc_now()
        )
        waited_for = self._waited_for
        if not waited_for or waited_for[-1][1] < published_id:
            if len(waited_for) == WAITED_FOR_LIMIT:  # somebody takes long: together with the one before
                waited_for.pop()
            waited_for.append((following, published_id))
        while waited_for and waited_for[0][0] <= oldest:
            _, self._ended_id = waited_for.popleft()

    def _look_from(self) -> int:
        # While a long snapshot is open, say a dump, marked rows cannot leave the index, and reading from its beginning
        # takes longer each time. Now and then all the same: an id may be a moment older than its transaction's number.
        if time.monotonic() - self._looked_at_all_at > LOOK_AT_ALL_EVERY_S:
            self._looked_at_all_at = time.monotonic()
            return 0
        return self._settled_id

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(IDLE_POLL_S):
                await self.wake.wait()
        except TimeoutError:
            return
        self.wake.clear()


async def measure_backlog(system_db: Database, *, now: datetime) -> None:
    """Set the metrics of what is not yet published."""
    async with system_db.transaction() as conn:
        row = await conn.fetchrow(BACKLOG, now)
    if row is not None:
        telemetry.OUTBOX_BACKLOG.set(row["waiting"])
        telemetry.OUTBOX_AGE.set(row["oldest_s"])
