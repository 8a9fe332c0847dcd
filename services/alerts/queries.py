"""Read-only SQL behind the GET routes."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from shared.db import Connection
from shared.pages import FIRST_PAGE, RowPlace

RULES = """
SELECT rule_id AS id, kind, thresholds, recipients, cooldown_seconds, enabled, created_at, updated_at
FROM alert_rules
WHERE tenant_id = $1
  AND ($2::uuid IS NULL OR rule_id = $2)
  AND ($3::timestamptz IS NULL OR (created_at, rule_id) < ($3, $4::uuid))
ORDER BY created_at DESC, rule_id DESC
LIMIT $5
"""
# pending while any of its mails is, failed when one was given up, none when nobody is to be told.
ALERTS = """
SELECT alert_id AS id, rule_id, kind, subject, fleet_id, summary, status, raised_at, acknowledged_at, acknowledged_by, (
    SELECT CASE WHEN bool_or(status = 'pending') THEN 'pending' WHEN bool_or(status = 'failed') THEN 'failed'
                WHEN bool_or(status = 'sent') THEN 'sent' ELSE 'none' END
    FROM deliveries WHERE deliveries.tenant_id = alerts.tenant_id AND deliveries.alert_id = alerts.alert_id
) AS mail
FROM alerts
WHERE tenant_id = $1
  AND ($2::uuid IS NULL OR alert_id = $2)
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR kind = $4)
  AND ($5::text[] IS NULL OR fleet_id = ANY ($5))
  AND ($6::timestamptz IS NULL OR (raised_at, alert_id) < ($6, $7::uuid))
ORDER BY raised_at DESC, alert_id DESC
LIMIT $8
"""


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """What a list of alerts is narrowed to; None: everything. `fleets` confines a manager."""

    alert_id: UUID | None = None
    status: str | None = None
    kind: str | None = None
    fleets: Sequence[str] | None = None


async def list_rules(
    conn: Connection, tenant_id: str, *, rule_id: UUID | None = None, after: RowPlace = FIRST_PAGE, limit: int
) -> list[asyncpg.Record]:
    """At most `limit` rules, newest first, after the place (created_at, id)."""
    return await conn.fetch(RULES, tenant_id, rule_id, *after, limit)


async def list_alerts(
    conn: Connection, tenant_id: str, wanted: AlertFilter, *, after: RowPlace = FIRST_PAGE, limit: int
) -> list[asyncpg.Record]:
    """At most `limit` alerts, newest first, after the place (raised_at, id)."""
    return await conn.fetch(
        ALERTS, tenant_id, wanted.alert_id, wanted.status, wanted.kind, wanted.fleets, *after, limit
    )
