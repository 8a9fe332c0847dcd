"""The event logs of the publishers, read in passes: each goes on where everything is known to have been seen."""

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from deploy.errors import StackError
from deploy.operations.access import connected
from deploy.operations.republish_events import LOGS
from shared.clocks import CLOCKS_DIFFER
from shared.db import Connection
from shared.events import Decoder, Event, Received, Undecodable
from shared.events.catalogue import ALL_EVENTS, PUBLISHED_BY

PAGE_LIMIT = 500
# How old a row of a service is at most when it appears: transactions end within 5 s (shared/db.py).
APPEARS_WITHIN = CLOCKS_DIFFER + timedelta(minutes=2)

# Ids are given out before commit: a row may appear below one that was read, so what was read beyond $2 is named.
PAGE = """
SELECT id, event::text AS event FROM outbox WHERE tenant_id = $1 AND id > $2 AND id <> ALL ($3::bigint[]) ORDER BY id LIMIT $4
"""
# Of many tenants few have written anything since the last pass; asked in one statement, since writers may be waiting.
MOVED = """
SELECT tenant_id FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS log (tenant_id, reached, seen)
WHERE seen <> (SELECT count(*) FROM outbox WHERE outbox.tenant_id = log.tenant_id AND id > reached)
ORDER BY tenant_id
"""
SETTLED = """
SELECT id FROM outbox WHERE tenant_id = $1 AND created_at < now() - $2::interval ORDER BY id DESC LIMIT 1
"""


class Page(NamedTuple):
    """Events of one tenant in their order, and the number of rows that were read for them."""

    tenant_id: str
    events: Sequence[Received]
    rows_read: int


@dataclass(slots=True)
class EventLog:
    """The outbox of one publisher, through its system role."""

    conn: Connection
    decoder: Decoder
    settled: dict[str, int] = field(default_factory=dict)  # by tenant: nothing can appear any more up to this id
    seen: dict[str, set[int]] = field(default_factory=dict)  # by tenant: read beyond it

    async def pages(self) -> AsyncIterator[Page]:
        """One pass over what no pass has read; it may be left at any page."""
        for tenant_id in await self._moved():
            reached = self.settled.get(tenant_id, 0)
            settled = max(reached, await self.conn.fetchval(SETTLED, tenant_id, APPEARS_WITHIN) or 0)
            seen = self.seen.setdefault(tenant_id, set())
            earlier = sorted(seen)  # of this pass itself, nothing is beyond what it has reached
            while rows := await self.conn.fetch(
                PAGE, tenant_id, reached, earlier[bisect_right(earlier, reached) :], PAGE_LIMIT
            ):
                reached = rows[-1]["id"]
                self.settled[tenant_id] = min(reached, settled)
                seen.update(row["id"] for row in rows if row["id"] > settled)
                yield Page(tenant_id, [event for row in rows if (event := self._decoded(row)) is not None], len(rows))
            self.settled[tenant_id], self.seen[tenant_id] = settled, {number for number in seen if number > settled}

    async def _moved(self) -> list[str]:
        """The tenants with rows that no pass has read."""
        logs = await self.conn.fetch(LOGS)
        new = [log["tenant_id"] for log in logs if log["tenant_id"] not in self.settled]
        known = [
            (log["tenant_id"], reached, sum(number > reached for number in self.seen[log["tenant_id"]]))
            for log in logs
            if (reached := self.settled.get(log["tenant_id"])) is not None and log["last_id"] > reached
        ]
        rows = await self.conn.fetch(MOVED, *map(list, zip(*known, strict=True))) if known else []
        return new + [row["tenant_id"] for row in rows]

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
