"""Send the mails that are due: per rule and recipient one mail with all that waits, then nothing until its cooldown is over.

A rule without a cooldown has a mail for each alert.

At least once: a delivery is marked sent after the server has taken it, and a claim that is not settled ends by itself.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from uuid import UUID

from services.alerts.models import MailNotSent, Waiting
from services.alerts.write_mail import write_mail
from shared import tenants
from shared.db import Connection, Database

AT_ONCE = 8
CLAIM_FOR = timedelta(seconds=60)  # longer than any sending takes
PENDING_LIMIT = 10_000
BACK_OFF = tuple(timedelta(seconds=s) for s in (1, 5, 30, 120, 300, 900))
REFUSALS_BEFORE_FAILED = 3
ERROR_LIMIT = 500
ADDRESS = re.compile(r"""[^][\s<>(){}:;,'"]+@\[?[^][\s<>(){}:;,'"]+""")

# The system role's: which mails are due, of all tenants.
CLAIM = """
UPDATE mail_queues AS queue SET not_before = $2
FROM (
    SELECT waiting.tenant_id, waiting.rule_id, waiting.recipient, rule.cooldown_seconds
    FROM mail_queues AS waiting JOIN alert_rules AS rule USING (tenant_id, rule_id)
    WHERE waiting.waiting_since IS NOT NULL AND waiting.not_before <= $1
      AND (waiting.last_sent_at IS NULL OR waiting.last_sent_at + rule.cooldown_seconds * interval '1 second' <= $1)
    ORDER BY waiting.waiting_since LIMIT $3
    FOR UPDATE OF waiting SKIP LOCKED
) AS due
WHERE (queue.tenant_id, queue.rule_id, queue.recipient) = (due.tenant_id, due.rule_id, due.recipient)
RETURNING queue.tenant_id, queue.rule_id, queue.recipient, queue.attempts, due.cooldown_seconds
"""
PENDING = """
SELECT alert_id, alerts.kind, alerts.summary, alerts.raised_at
FROM deliveries JOIN alerts USING (tenant_id, alert_id)
WHERE deliveries.tenant_id = $1 AND deliveries.rule_id = $2 AND recipient = $3 AND deliveries.status = 'pending'
ORDER BY alert_id LIMIT $4
"""
# Locked by a statement of its own, so that the next one sees every delivery that was queued until then.
LOCK_QUEUE = "SELECT true FROM mail_queues WHERE tenant_id = $1 AND rule_id = $2 AND recipient = $3 FOR UPDATE"
# What was canceled while its mail was under way has been sent all the same, as its queue says, too.
MARK = """
UPDATE deliveries SET status = $4, sent_at = $5, error = $6
WHERE tenant_id = $1 AND recipient = $2 AND alert_id = ANY ($3::uuid[])
  AND (status = 'pending' OR status = 'canceled' AND $4 = 'sent')
"""
SETTLE = """
UPDATE mail_queues AS queue
SET last_sent_at = coalesce($4, last_sent_at), last_error = $5, attempts = 0, not_before = $6, waiting_since = (
    SELECT min(created_at) FROM deliveries AS left_over
    WHERE left_over.tenant_id = $1 AND left_over.rule_id = $2 AND left_over.recipient = $3 AND left_over.status = 'pending'
)
WHERE tenant_id = $1 AND rule_id = $2 AND recipient = $3
"""
RETRY = """
UPDATE mail_queues SET attempts = $4, last_error = $5, not_before = $6
WHERE tenant_id = $1 AND rule_id = $2 AND recipient = $3
"""

Send = Callable[[EmailMessage], Awaitable[None]]  # raises MailNotSent


@dataclass(frozen=True, slots=True)
class Due:
    """A mail that was claimed; `attempts` have failed since the last one that was sent."""

    tenant_id: str
    rule_id: UUID
    recipient: str
    attempts: int
    cooldown_seconds: int

    @property
    def key(self) -> tuple[str, UUID, str]:
        """Of its queue."""
        return self.tenant_id, self.rule_id, self.recipient


@dataclass(frozen=True, slots=True)
class Sweep:
    """How many mails were sent, put off by a back-off, and given up."""

    sent: int = 0
    put_off: int = 0
    given_up: int = 0

    @property
    def found(self) -> bool:
        """Whether anything was due."""
        return self != Sweep()

    def __add__(self, other: "Sweep") -> "Sweep":
        """Both together."""
        return Sweep(self.sent + other.sent, self.put_off + other.put_off, self.given_up + other.given_up)


async def send_mails(db: Database, system_db: Database, send: Send, *, sender: str, now: datetime) -> Sweep:
    """Send at most AT_ONCE of the mails that are due at `now`, all at the same time; a failing one holds up no other."""
    async with system_db.transaction() as conn:
        due = [Due(**row) for row in await conn.fetch(CLAIM, now, now + CLAIM_FOR, AT_ONCE)]
    outcomes = await asyncio.gather(
        *(_send_one(db, each, send, sender=sender, now=now) for each in due), return_exceptions=True
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException):  # the database's: the claim ends by itself
            raise outcome
    return sum((outcome for outcome in outcomes if isinstance(outcome, Sweep)), Sweep())


async def _send_one(db: Database, due: Due, send: Send, *, sender: str, now: datetime) -> Sweep:
    async with db.transaction(due.tenant_id) as conn:
        limit = PENDING_LIMIT if due.cooldown_seconds else 1
        zone = (await tenants.find(conn, due.tenant_id)).zone
        waiting = [Waiting(**row) for row in await conn.fetch(PENDING, *due.key, limit)]
    error = None
    if waiting:
        try:
            await send(write_mail(waiting, sender=sender, recipient=due.recipient, zone=zone, now=now))
        except MailNotSent as raised:
            error = raised
    async with db.transaction(due.tenant_id) as conn:
        await conn.fetchval(LOCK_QUEUE, *due.key)
        return await _settle(conn, due, waiting, error, now=now)


async def _settle(
    conn: Connection, due: Due, waiting: list[Waiting], error: MailNotSent | None, *, now: datetime
) -> Sweep:
    ids = [alert.alert_id for alert in waiting]
    if error is None:
        await conn.execute(MARK, due.tenant_id, due.recipient, ids, "sent", now, None)
        await conn.execute(SETTLE, *due.key, now if waiting else None, None, now)
        return Sweep(sent=1 if waiting else 0)
    reason = _without_addresses(str(error), due.recipient)
    attempts = due.attempts + 1
    if error.permanent and attempts >= REFUSALS_BEFORE_FAILED:
        await conn.execute(MARK, due.tenant_id, due.recipient, ids, "failed", None, reason)
        await conn.execute(SETTLE, *due.key, None, reason, now)
        return Sweep(given_up=1)
    pause = BACK_OFF[min(attempts, len(BACK_OFF)) - 1]
    await conn.execute(RETRY, *due.key, attempts, reason, now + pause)
    return Sweep(put_off=1)


def _without_addresses(reason: str, recipient: str) -> str:
    """Servers say whom they refuse, in their own spelling; who reads errors need not know."""
    return ADDRESS.sub("an address", reason.replace("\0", " ").replace(recipient, "an address"))[:ERROR_LIMIT]
