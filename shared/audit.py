"""The audit trail: every change of money or rule, written in its transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from shared.db import as_rows
from shared.ids import new_id
from shared.writes import Write

# As jsonb the states are read once, not twice, which is a fifth of the statement's time.
RECORD = """
INSERT INTO audit (tenant_id, audit_id, at, actor, request_id, action, subject, before, after)
SELECT tenant_id, audit_id, $3, actor, request_id, $2, subject, before, after
FROM jsonb_to_recordset($1) AS row (
    tenant_id text, audit_id uuid, actor text, request_id text, subject text, before jsonb, after jsonb
)
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


class Done(NamedTuple):
    """A change, who made it, and whose it is."""

    tenant_id: str
    actor: Actor
    change: Change


def record(actor: Actor, action: str, changes: Sequence[Change], *, tenant_id: str, now: datetime) -> Write | None:
    """One row per change by one actor; as `record_all`."""
    return record_all(action, [Done(tenant_id, actor, change) for change in changes], now=now)


def record_all(action: str, done: Sequence[Done], *, now: datetime) -> Write | None:
    """One row per change. No personal data goes into `before` and `after`."""
    return Write(RECORD, (as_rows([_row(*one) for one in done]), action, now)) if done else None


def _row(tenant_id: str, actor: Actor, change: Change) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "audit_id": new_id(),
        "actor": actor.subject,
        "request_id": actor.request_id,
        "subject": change.subject,
        "before": change.before,
        "after": change.after,
    }
