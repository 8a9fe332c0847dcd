"""The event logs of the publishers, read in passes: each goes on where everything is known to have been seen."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from deploy.errors import StackError
from deploy.operations.access import connected
from deploy.operations.republish_events import LOGS
from shared.db import Connection
from shared.events import Decoder, Event, Received, Undecodable
from shared.events.catalogue import ALL_EVENTS, PUBLISHED_BY

PAGE_LIMIT = 500
# Ids are given out before commit: a row may appear below one that was read. Transactions end within 5 s (shared/db.py);
# the rest is for clocks that differ.
MARGIN = timedelta(minutes=2)

PAGE = "SELECT id, event::text AS event FROM outbox WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3"
SETTLED = """
SELECT id FROM outbox WHERE tenant_id = $1 AND created_at < now() - $2::interval ORDER BY id DESC LIMIT 1
"""


class Page(NamedTuple):
    """Events of one tenant in their order; `fresh` are those that no pass has read before."""

    tenant_id: str
    events: Sequence[Received]
    fresh: Sequence[Received]


@dataclass(slots=True)
class EventLog:
    """The outbox of one publisher, through its system role."""

    conn: Connection
    decoder: Decoder
    settled: dict[str, int] = field(default_factory=dict)  # by tenant: nothing can appear any more up to this id
    seen: dict[str, set[int]] = field(default_factory=dict)  # by tenant: read beyond it

    async def pages(self) -> AsyncIterator[Page]:
        """One pass: everything that is not settled, also what was seen."""
        for tenant_id in [row["tenant_id"] for row in await self.conn.fetch(LOGS)]:
            settled = await self.conn.fetchval(SETTLED, tenant_id, MARGIN) or 0
            reached, before = self.settled.get(tenant_id, 0), self.seen.get(tenant_id, set())
            after: set[int] = set()
            while rows := await self.conn.fetch(PAGE, tenant_id, reached, PAGE_LIMIT):
                reached = rows[-1]["id"]
                events = [(row["id"], event) for row in rows if (event := self._decoded(row)) is not None]
                fresh = [event for number, event in events if number not in before]
                after.update(row["id"] for row in rows if row["id"] > settled)
                yield Page(tenant_id, [event for _, event in events], fresh)
            self.settled[tenant_id], self.seen[tenant_id] = settled, after

    def _decoded(self, row: asyncpg.Record) -> Received | None:
        try:
            return self.decoder.decode_value(row["event"].encode())
        except Undecodable as error:
            raise StackError(
                f"this version cannot read event {row['id']} of a log ({error}): nothing was changed"
            ) from None


@asynccontextmanager
async def event_logs(kinds: Sequence[type[Event]]) -> AsyncIterator[list[EventLog]]:
    """The logs of all publishers, payments first, since it tells of the tenants; only events of `kinds` come out."""
    async with AsyncExitStack() as stack:
        logs = []
        for service in PUBLISHED_BY:
            conn = await stack.enter_async_context(connected(service, "system", command="rebuild"))
            logs.append(EventLog(conn, Decoder(kinds, known=ALL_EVENTS)))
        yield logs
