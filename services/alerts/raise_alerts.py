"""Raise the alerts that a batch of events fires, once per rule and subject, and queue their mails."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.alerts.match_rules import match
from services.alerts.models import Alert, Rule
from services.alerts.rule_rows import terms_of
from shared import inbox
from shared.db import Connection, columns
from shared.events import Received
from shared.events.payments import PaymentMatched

# Shared locks: a recipient who is being removed from a rule gets no mail by a batch that still saw the old rule.
RULES = """
SELECT tenant_id, rule_id, kind, thresholds, recipients, cooldown_seconds, enabled FROM alert_rules
WHERE tenant_id = ANY ($1) AND enabled ORDER BY tenant_id, rule_id FOR SHARE
"""
RAISE = """
INSERT INTO alerts (tenant_id, alert_id, rule_id, kind, subject, fleet_id, summary, raised_at)
SELECT tenant_id, alert_id, rule_id, kind, subject, fleet_id, summary, $8
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
    AS new (tenant_id, alert_id, rule_id, kind, subject, fleet_id, summary)
ORDER BY tenant_id, rule_id, subject
ON CONFLICT (tenant_id, rule_id, subject) DO NOTHING
RETURNING tenant_id, alert_id
"""
ADD_DELIVERIES = """
INSERT INTO deliveries (tenant_id, alert_id, recipient, rule_id, created_at)
SELECT tenant_id, alert_id, recipient, rule_id, $5
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::uuid[]) AS new (tenant_id, alert_id, recipient, rule_id)
"""
# After the deliveries: who locks the queue, as the sweep does to find it empty, sees what has been put in.
FILL_QUEUES = """
INSERT INTO mail_queues (tenant_id, rule_id, recipient, waiting_since, not_before)
SELECT DISTINCT tenant_id, rule_id, recipient, $4::timestamptz, $4::timestamptz
FROM unnest($1::text[], $2::uuid[], $3::text[]) AS new (tenant_id, rule_id, recipient)
ORDER BY tenant_id, rule_id, recipient
ON CONFLICT (tenant_id, rule_id, recipient) DO UPDATE
SET waiting_since = coalesce(mail_queues.waiting_since, excluded.waiting_since)
"""
NAME_FLEETS = """
UPDATE alerts SET fleet_id = matched.fleet_id
FROM unnest($1::text[], $2::text[], $3::text[]) AS matched (tenant_id, subject, fleet_id)
WHERE alerts.tenant_id = matched.tenant_id AND alerts.subject = matched.subject AND alerts.fleet_id IS NULL
"""


async def raise_alerts(conn: Connection, events: Sequence[Received], *, now: datetime) -> list[Alert]:
    """The alerts that are new. An event that was seen before raises nothing, so a replay never fires a newer rule."""
    fresh = await inbox.claim(conn, events, now=now)
    if not fresh:
        return []
    rules = await _rules(conn, {event.tenant_id for event in fresh})
    fired = [alert for event in fresh for rule in rules[event.tenant_id] if (alert := match(rule, event)) is not None]
    new = await _store(conn, fired, now=now) if fired else []
    if new:
        recipients = {rule.rule_id: rule.terms.recipients for of_tenant in rules.values() for rule in of_tenant}
        await _queue_mails(conn, new, recipients, now=now)
    matched = [event for event in fresh if event.type == PaymentMatched.TYPE and event.data.fleet_id is not None]
    if matched:  # the fleet of money that came before its request is known only now
        rows = [(event.tenant_id, event.data.payment_id, event.data.fleet_id) for event in matched]
        await conn.execute(NAME_FLEETS, *map(list, zip(*rows, strict=True)))
    return new


async def _rules(conn: Connection, tenant_ids: set[str]) -> defaultdict[str, list[Rule]]:
    rules = defaultdict(list)
    for row in await conn.fetch(RULES, sorted(tenant_ids)):
        rules[row["tenant_id"]].append(Rule(row["tenant_id"], row["rule_id"], terms_of(row)))
    return rules


async def _store(conn: Connection, fired: list[Alert], *, now: datetime) -> list[Alert]:
    rows = await conn.fetch(RAISE, *columns(fired, Alert), now)
    stored = {(row["tenant_id"], row["alert_id"]) for row in rows}
    return [alert for alert in fired if (alert.tenant_id, alert.alert_id) in stored]


async def _queue_mails(
    conn: Connection, alerts: list[Alert], recipients: dict[UUID, tuple[str, ...]], *, now: datetime
) -> None:
    mails = [(alert, recipient) for alert in alerts for recipient in recipients[alert.rule_id]]
    tenants = [alert.tenant_id for alert, _ in mails]
    rules = [alert.rule_id for alert, _ in mails]
    to = [recipient for _, recipient in mails]
    await conn.execute(ADD_DELIVERIES, tenants, [alert.alert_id for alert, _ in mails], to, rules, now)
    await conn.execute(FILL_QUEUES, tenants, rules, to, now)
