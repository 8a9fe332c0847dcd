"""Send a service's event log again: for readers or brokers that have lost what they had.

Readers know the events that they have seen, so this is safe at any time, under traffic too. Only what the relay has
published already is sent; the rest is the relay's work.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from deploy.errors import StackError
from deploy.operations.access import connected, kafka_bootstrap
from shared.clocks import CLOCKS_DIFFER
from shared.db import Connection
from shared.events.catalogue import PUBLISHED_BY
from shared.publisher import Message, Publisher

BATCH_LIMIT = 1_000
ATTEMPTS = 5
PAUSE_S = 1.0
SAY_EVERY = 50  # batches
STATEMENT_LIMIT_S = 60.0
LARGEST = 2**63 - 1

# The key starts with the tenant: stepping from one tenant to the next reads a page each, however many events there are.
LOGS = """
WITH RECURSIVE step AS (
    (SELECT tenant_id FROM outbox ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM outbox WHERE tenant_id > step.tenant_id ORDER BY tenant_id LIMIT 1)
    FROM step WHERE step.tenant_id IS NOT NULL
)
SELECT tenant_id, (SELECT max(id) FROM outbox WHERE outbox.tenant_id = step.tenant_id) AS last_id
FROM step WHERE tenant_id IS NOT NULL ORDER BY tenant_id
"""
PAGE = """
SELECT id, topic, key, event::text AS event FROM outbox
WHERE tenant_id = $1 AND id > $2 AND id <= $3 AND published_at IS NOT NULL
  AND ($4::timestamptz IS NULL OR created_at >= $4)
ORDER BY id LIMIT $5
"""
NEXT = "SELECT id, created_at FROM outbox WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT 1"


class Position(NamedTuple):
    """How far a tenant's log has been sent; written `tenant:id`."""

    tenant_id: str
    event_number: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        """What `str` made. Raises StackError."""
        tenant_id, _, number = text.rpartition(":")
        if not tenant_id or not number.isdecimal() or len(number) > len(str(LARGEST)) or int(number) > LARGEST:
            raise StackError(f"{text!r} is no place in an event log: give TENANT:NUMBER, as the message said")
        return cls(tenant_id, int(number))

    def __str__(self) -> str:
        """As an operator types it."""
        return f"{self.tenant_id}:{self.event_number}"


async def republish(
    service: str, *, since: datetime | None = None, after: Position | None = None, say: Callable[[str], None]
) -> int:
    """Send the log of `service` again, tenant by tenant in its order; how many events were sent.

    With `since`, only events written then or later; with `after`, what comes after that place. Raises StackError when the
    broker does not take them: it says from where to go on.
    """
    if service not in PUBLISHED_BY:
        raise StackError(f"{service} publishes nothing: {' and '.join(sorted(PUBLISHED_BY))} do")
    topics = sorted({event.TOPIC for event in PUBLISHED_BY[service]})
    publisher = Publisher(kafka_bootstrap(), topics)
    sent = batches = 0
    reached = after
    try:
        async with connected(service, "system", command="republish", limit_s=STATEMENT_LIMIT_S) as conn:
            async for position, messages in event_log(conn, since=since, after=after):
                if not await _sent(publisher, messages):
                    raise StackError(
                        f"the broker does not take the events; {sent:,} were sent. {_how_to_go_on(service, since, reached)}"
                    )
                sent, reached, batches = sent + len(messages), position, batches + 1
                if batches % SAY_EVERY == 0:
                    say(f"{service}: {sent:,} events sent, now at {position}")
    finally:
        await publisher.close()
    say(f"{service}: {sent:,} events sent again to {', '.join(topics)}")
    return sent


async def event_log(
    conn: Connection, *, since: datetime | None, after: Position | None
) -> AsyncIterator[tuple[Position, Sequence[Message]]]:
    """The published events that are there now, in batches of one tenant, each with the place that it ends at."""
    logs = {row["tenant_id"]: row["last_id"] for row in await conn.fetch(LOGS)}
    if after is not None and after.tenant_id not in logs:
        raise StackError(f"there are no events of a tenant {after.tenant_id}")
    tenants = list(logs)
    for tenant_id in tenants[tenants.index(after.tenant_id) if after else 0 :]:
        reached = after.event_number if after and tenant_id == after.tenant_id else 0
        if since is not None:
            reached = await _last_before(conn, tenant_id, since - CLOCKS_DIFFER, within=(reached, logs[tenant_id]))
        while rows := await conn.fetch(PAGE, tenant_id, reached, logs[tenant_id], since, BATCH_LIMIT):
            reached = rows[-1]["id"]
            messages = [Message(row["topic"], row["key"].encode(), row["event"].encode()) for row in rows]
            yield Position(tenant_id, reached), messages


async def _last_before(conn: Connection, tenant_id: str, instant: datetime, *, within: tuple[int, int]) -> int:
    """A number in `within` up to which all was written before `instant`: halved over the key, nothing is read through."""
    low, high = within
    while low < high:
        middle = (low + high) // 2
        row = await conn.fetchrow(NEXT, tenant_id, middle)
        if row is None or row["created_at"] >= instant:
            high = middle
        else:
            low = row["id"]
    return low


def _how_to_go_on(service: str, since: datetime | None, reached: Position | None) -> str:
    since_then = f" --since {since.isoformat()}" if since else ""
    after_that = f" --after {reached}" if reached else ""
    return f"Go on with: takings republish {service}{since_then}{after_that}"


async def _sent(publisher: Publisher, messages: Sequence[Message]) -> bool:
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(PAUSE_S * attempt)
        if await publisher.send_all(messages):
            return True
    return False
