"""Acknowledge an alert: somebody has seen it; the first one to say so is kept."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from shared import audit
from shared.db import Connection
from shared.errors import NotFound
from shared.writes import write

ACKNOWLEDGE = """
UPDATE alerts SET status = 'acknowledged', acknowledged_at = $4, acknowledged_by = $5
WHERE tenant_id = $1 AND alert_id = $2 AND ($3::text[] IS NULL OR fleet_id = ANY ($3)) AND status = 'open'
RETURNING alert_id
"""
SEEN = """
SELECT true FROM alerts WHERE tenant_id = $1 AND alert_id = $2 AND ($3::text[] IS NULL OR fleet_id = ANY ($3))
"""


class AlertUnknown(NotFound):
    """No such alert in this tenant, or not one of the caller's fleets."""

    code = "alert-unknown"


async def acknowledge_alert(
    conn: Connection,
    alert_id: UUID,
    *,
    tenant_id: str,
    fleets: Sequence[str] | None,
    actor: audit.Actor,
    now: datetime,
) -> None:
    """Acknowledge it, once; `fleets` confines the caller to their alerts. Raises AlertUnknown."""
    if await conn.fetchval(ACKNOWLEDGE, tenant_id, alert_id, fleets, now, actor.subject) is not None:
        change = audit.Change(str(alert_id), {"status": "open"}, {"status": "acknowledged"})
        await write(conn, audit.record(actor, "alert-acknowledged", [change], tenant_id=tenant_id, now=now))
    elif not await conn.fetchval(SEEN, tenant_id, alert_id, fleets):
        raise AlertUnknown(f"There is no alert {alert_id}.")
