"""Change a rule; who is no longer a recipient gets no mail any more, not even one that waits; of a disabled rule nobody."""

from datetime import datetime
from uuid import UUID

from services.alerts.models import RuleTerms
from services.alerts.rule_rows import audited, terms_of, thresholds_json
from shared import audit
from shared.db import Connection
from shared.errors import Invalid, NotFound
from shared.writes import write

READ = """
SELECT kind, thresholds, recipients, cooldown_seconds, enabled FROM alert_rules
WHERE tenant_id = $1 AND rule_id = $2 FOR NO KEY UPDATE
"""
CHANGE = """
UPDATE alert_rules SET thresholds = $3, recipients = $4, cooldown_seconds = $5, enabled = $6, updated_at = $7
WHERE tenant_id = $1 AND rule_id = $2
"""
# Queue before deliveries, as the sweep locks them.
CLOSE_QUEUES = """
UPDATE mail_queues SET waiting_since = NULL WHERE tenant_id = $1 AND rule_id = $2 AND recipient <> ALL ($3::text[])
"""
CANCEL_DELIVERIES = """
UPDATE deliveries SET status = 'canceled'
WHERE tenant_id = $1 AND rule_id = $2 AND status = 'pending' AND recipient <> ALL ($3::text[])
"""


class RuleUnknown(NotFound):
    """The tenant has no such rule."""

    code = "rule-unknown"


async def change_rule(
    conn: Connection, rule_id: UUID, terms: RuleTerms, *, tenant_id: str, actor: audit.Actor, now: datetime
) -> None:
    """Put `terms` in the place of the rule's own. Raises RuleUnknown, Invalid for another kind."""
    row = await conn.fetchrow(READ, tenant_id, rule_id)
    if row is None:
        raise RuleUnknown(f"There is no rule {rule_id}.")
    before = terms_of(row)
    if terms.kind != before.kind:
        raise Invalid("The kind of a rule does not change; create another rule.", field="kind")
    if terms == before:
        return
    recipients = list(terms.recipients)
    await conn.execute(
        CHANGE, tenant_id, rule_id, thresholds_json(terms), recipients, terms.cooldown_seconds, terms.enabled, now
    )
    still_told = recipients if terms.enabled else []
    await conn.execute(CLOSE_QUEUES, tenant_id, rule_id, still_told)
    await conn.execute(CANCEL_DELIVERIES, tenant_id, rule_id, still_told)
    change = audit.Change(str(rule_id), audited(before), audited(terms))
    await write(conn, audit.record(actor, "rule-changed", [change], tenant_id=tenant_id, now=now))
