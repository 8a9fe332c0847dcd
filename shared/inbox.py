"""The inbox: a consumer claims the ids of events in the transaction of their effect, so that each has it once."""

from collections.abc import Sequence
from datetime import datetime

from shared.db import Connection
from shared.events import Received

CLAIM = """
INSERT INTO inbox (tenant_id, event_id, claimed_at)
SELECT DISTINCT tenant_id, event_id, $3::timestamptz
FROM unnest($1::text[], $2::uuid[]) AS seen (tenant_id, event_id)
ORDER BY tenant_id, event_id
ON CONFLICT (tenant_id, event_id) DO NOTHING
RETURNING tenant_id, event_id
"""


async def claim(conn: Connection, events: Sequence[Received], *, now: datetime) -> list[Received]:
    """Those of `events` that had no effect yet, each once, in the order given."""
    rows = await conn.fetch(CLAIM, [e.tenant_id for e in events], [e.id for e in events], now)
    fresh = {(row["tenant_id"], row["event_id"]) for row in rows}
    claimed = []
    for event in events:
        if (event.tenant_id, event.id) in fresh:
            fresh.remove((event.tenant_id, event.id))
            claimed.append(event)
    return claimed
