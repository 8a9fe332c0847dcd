"""What the rules of a tenant said at any time, from the audit trail, and which alerts an event was to raise then."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from services.alerts.match_rules import match
from services.alerts.models import Alert, Kind, Rule, RuleTerms
from shared.db import Connection
from shared.events import Received

# In the order of the database; a version is not in force before the one that it follows, whatever its writer's clock said.
CHANGES = """
SELECT rule_id, max(at) OVER changes AS at, after::text AS after
FROM audit JOIN alert_rules USING (tenant_id)
WHERE tenant_id = $1 AND action IN ('rule-created', 'rule-changed') AND subject = rule_id::text
WINDOW changes AS (PARTITION BY rule_id ORDER BY number NULLS FIRST, at, audit_id)
ORDER BY rule_id, number NULLS FIRST, at, audit_id
"""
# Two processes' clocks and the length of a transaction: which of two rules an event met so close to a change is not known.
UNSURE = timedelta(seconds=10)


class AuditedTerms(msgspec.Struct, frozen=True):
    """The terms of a rule as the audit trail has them; recipients as fingerprints."""

    kind: str
    thresholds: dict[str, int]
    recipients: list[str]
    cooldown_seconds: int
    enabled: bool

    def terms(self) -> RuleTerms:
        """As rules are matched."""
        return RuleTerms(Kind(self.kind), self.thresholds, tuple(self.recipients), self.cooldown_seconds, self.enabled)


@dataclass(slots=True)
class RuleHistory:
    """Every version of the rules of one tenant."""

    tenant_id: str
    changes: defaultdict[UUID, list[tuple[datetime, RuleTerms]]] = field(default_factory=lambda: defaultdict(list))

    def alerts_on(self, event: Received, handled_at: datetime) -> Iterator[tuple[Alert, bool]]:
        """The alerts that `event`, handled then, was to raise; False with those that it may have raised."""
        for rule_id, versions in self.changes.items():
            times = [at for at, _ in versions]
            first = max(bisect_right(times, handled_at - UNSURE) - 1, 0)
            possible = versions[first : bisect_right(times, handled_at + UNSURE)]
            alerts = [
                match(Rule(self.tenant_id, rule_id, terms), event, handled_at=handled_at) for _, terms in possible
            ]
            raised = [alert for alert in alerts if alert is not None]
            if raised:
                is_sure = len(raised) == len(alerts) and times[first] <= handled_at - UNSURE
                yield raised[0], is_sure

    def least_amounts(self) -> dict[str, int]:
        """The lowest threshold that any version has had, by currency: smaller payments raise nothing."""
        least: dict[str, int] = {}
        for versions in self.changes.values():
            for _, terms in versions:
                for currency, amount in terms.thresholds.items():
                    least[currency] = min(amount, least.get(currency, amount))
        return least


async def rule_history(conn: Connection, tenant_id: str) -> RuleHistory:
    """The history of the rules of `tenant_id`; `conn` sees the audit trail of alerts."""
    history = RuleHistory(tenant_id)
    for row in await conn.fetch(CHANGES, tenant_id):
        terms = msgspec.json.decode(row["after"], type=AuditedTerms).terms()
        history.changes[row["rule_id"]].append((row["at"], terms))
    return history
