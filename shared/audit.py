"""The audit trail: every change of money or rule, written in its transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from shared.db import Connection, as_rows
from shared.ids import new_id

RECORD = """
INSERT INTO audit (tenant_id, audit_id, at, actor, request_id, action, subject, before, after)
SELECT $1, audit_id, $2, $3, $4, $5, subject, before, after
FROM json_to_recordset($6) AS row (audit_id uuid, subject text, before jsonb, after jsonb)
"""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change, and in which request."""

    subject: str
    request_id: str | None = None


class Change(NamedTuple):
    """What changed: the subject's state before (None: it is new) and after."""

    subject: str
    before: Any
    after: Any


async def record(
    conn: Connection, actor: Actor, action: str, changes: Sequence[Change], *, tenant_id: str, now: datetime
) -> None:
    """Write one row per change. No personal data goes into `before` and `after`."""
    if changes:
        rows = [{"audit_id": new_id(), "subject": c.subject, "before": c.before, "after": c.after} for c in changes]
        await conn.execute(RECORD, tenant_id, now, actor.subject, actor.request_id, action, as_rows(rows))
