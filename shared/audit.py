"""The audit trail: every change of money or rule, written in its transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from shared.db import Connection
from shared.ids import new_id

RECORD = """
INSERT INTO audit (tenant_id, audit_id, at, actor, request_id, action, subject, before, after)
SELECT $1, audit_id, $3, $4, $5, $6, subject, before, after
FROM unnest($2::uuid[], $7::text[], $8::jsonb[], $9::jsonb[]) AS row (audit_id, subject, before, after)
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
        await conn.execute(
            RECORD,
            tenant_id,
            [new_id() for _ in changes],
            now,
            actor.subject,
            actor.request_id,
            action,
            [change.subject for change in changes],
            [_json(change.before) for change in changes],
            [_json(change.after) for change in changes],
        )


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
