"""Create a rule: from now on its events raise alerts."""

from datetime import datetime
from uuid import UUID

from services.alerts.models import RuleTerms
from services.alerts.rule_rows import audited, thresholds_json
from shared import audit
from shared.db import Connection
from shared.errors import Conflict
from shared.ids import new_id
from shared.writes import write

RULE_LIMIT = 100  # each event is held against all rules of its tenant
COUNT = "SELECT count(*) FROM alert_rules WHERE tenant_id = $1"
CREATE = """
INSERT INTO alert_rules (tenant_id, rule_id, kind, thresholds, recipients, cooldown_seconds, enabled, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
"""


class TooManyRules(Conflict):
    """The tenant has as many rules as it may have."""

    code = "too-many-rules"


async def create_rule(conn: Connection, terms: RuleTerms, *, tenant_id: str, actor: audit.Actor, now: datetime) -> UUID:
    """The new rule's id. Raises TooManyRules."""
    if await conn.fetchval(COUNT, tenant_id) >= RULE_LIMIT:
        raise TooManyRules(f"A tenant has at most {RULE_LIMIT} rules.")
    rule_id = new_id()
    await conn.execute(
        CREATE,
        tenant_id,
        rule_id,
        terms.kind,
        thresholds_json(terms),
        list(terms.recipients),
        terms.cooldown_seconds,
        terms.enabled,
        now,
    )
    change = audit.Change(str(rule_id), None, audited(terms))
    await write(conn, audit.record(actor, "rule-created", [change], tenant_id=tenant_id, now=now))
    return rule_id
