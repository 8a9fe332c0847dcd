"""Raise the alerts that a batch of events fires, once per rule and subject, and queue their mails."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.alerts.match_rules import match
from services.alerts.models import Alert, Kind, Rule
from services.alerts.rule_rows import terms_of
from shared import inbox
from shared.db import Connection, as_rows
from shared.events import Received
from shared.events.payments import PaymentMatched

# Shared locks: a recipient who is being removed from a rule gets no mail by a batch that still saw the old rule.
RULES = """
SELECT tenant_id, rule_id, kind, thresholds, recipients, cooldown_seconds, enabled FROM alert_rules
WHERE tenant_id = ANY ($1) AND enabled ORDER BY tenant_id, rule_id FOR SHARE
"""
RAISE = """
INSERT INTO alerts (tenant_id, alert_id, rule_id, kind, subject, fleet_id, summary, raised_at)
SELECT * FROM json_to_recordset($1) AS fired (
    tenant_id text, alert_id uuid, rule_id uuid, kind text, subject text, fleet_id text, summary text, raised_at timestamptz
)
ORDER BY tenant_id, rule_id, subject
ON CONFLICT DO NOTHING
RETURNING alert_id
"""
# The recipients are those of the rules that are locked above.
ADD_DELIVERIES = """
INSERT INTO deliveries (tenant_id, alert_id, recipient, rule_id, created_at)
SELECT tenant_id, new.alert_id, recipient, rule_id, $4
FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS new (tenant_id, alert_id, rule_id)
JOIN alert_rules USING (tenant_id, rule_id) CROSS JOIN unnest(alert_rules.recipients) AS recipient
"""
# After the deliveries: who locks the queue, as the sweep does to find it empty, sees what has been put in.
FILL_QUEUES = """
INSERT INTO mail_queues (tenant_id, rule_id, recipient, waiting_since, not_before)
SELECT tenant_id, rule_id, recipient, $3::timestamptz, $3::timestamptz
FROM unnest($1::text[], $2::uuid[]) AS fired (tenant_id, rule_id)
JOIN alert_rules USING (tenant_id, rule_id) CROSS JOIN unnest(alert_rules.recipients) AS recipient
ORDER BY tenant_id, rule_id, recipient
ON CONFLICT (tenant_id, rule_id, recipient) DO UPDATE
SET waiting_since = least(mail_queues.waiting_since, excluded.waiting_since)
"""
# Alerts that know no fleet and events that name one write the same row: of two batches at once the second waits for the
# first and then sees what it did, so both orders end the same.
MEET = """
INSERT INTO subject_fleets (tenant_id, subject, fleet_id)
SELECT tenant_id, subject, min(fleet_id)
FROM unnest($1::text[], $2::text[], $3::text[]) AS met (tenant_id, subject, fleet_id)
GROUP BY tenant_id, subject ORDER BY tenant_id, subject
ON CONFLICT (tenant_id, subject) DO UPDATE SET fleet_id = coalesce(subject_fleets.fleet_id, excluded.fleet_id)
RETURNING tenant_id, subject, fleet_id
"""
NAME_FLEETS = """
UPDATE alerts SET fleet_id = matched.fleet_id
FROM unnest($1::text[], $2::text[], $3::text[]) AS matched (tenant_id, subject, fleet_id)
WHERE alerts.tenant_id = matched.tenant_id AND alerts.subject = matched.subject AND alerts.fleet_id IS NULL
"""
DELIVERIES_AT_ONCE = 10_000  # a fraction of a second each, of the five that a statement has


async def raise_alerts(conn: Connection, events: Sequence[Received], *, now: datetime) -> list[Alert]:
    """The alerts that are new. An event that was seen before raises nothing, so a replay never fires a newer rule."""
    fresh = await inbox.claim(conn, events, now=now)
    if not fresh:
        return []
    rules = await _rules(conn, {event.tenant_id for event in fresh})
    matches = [match(rule, event, handled_at=now) for event in fresh for rule in rules[event.tenant_id]]
    fired = [alert for alert in matches if alert is not None]
    new = await store(conn, fired, await meet_fleets(conn, fresh, fired))
    if new:
        recipients = {rule.rule_id: rule.terms.recipients for of_tenant in rules.values() for rule in of_tenant}
        await _queue_mails(conn, new, recipients, now=now)
    return new


async def _rules(conn: Connection, tenant_ids: set[str]) -> defaultdict[str, list[Rule]]:
    rules = defaultdict(list)
    for row in await conn.fetch(RULES, sorted(tenant_ids)):
        rules[row["tenant_id"]].append(Rule(row["tenant_id"], row["rule_id"], terms_of(row)))
    return rules


async def meet_fleets(
    conn: Connection, events: Sequence[Received], alerts: Sequence[Alert]
) -> dict[tuple[str, str], str]:
    """The fleets that are known now, by tenant and payment: of what has been matched, and of alerts that know none."""
    met: list[tuple[str, str, str | None]] = [
        (event.tenant_id, event.data.payment_id, event.data.fleet_id)
        for event in events
        if event.type == PaymentMatched.TYPE and event.data.fleet_id is not None
    ]
    met += [
        (alert.tenant_id, alert.subject, None)
        for alert in alerts
        if alert.fleet_id is None and alert.kind is not Kind.PAYOUT_FAILED  # a payout has no fleet
    ]
    rows = await conn.fetch(MEET, *map(list, zip(*met, strict=True))) if met else []
    return {(row["tenant_id"], row["subject"]): row["fleet_id"] for row in rows if row["fleet_id"] is not None}


async def store(conn: Connection, fired: Sequence[Alert], fleets: Mapping[tuple[str, str], str]) -> list[Alert]:
    """Store those of `fired` that are new, the first of each, and name the fleets of all that are known; the new ones."""
    alerts: dict[UUID, Alert] = {}
    for alert in fired:
        fleet_id = alert.fleet_id or fleets.get((alert.tenant_id, alert.subject))
        alerts.setdefault(alert.alert_id, replace(alert, fleet_id=fleet_id))
    rows = await conn.fetch(RAISE, as_rows(list(alerts.values()))) if alerts else []
    if fleets:
        found = [(*subject, fleet_id) for subject, fleet_id in fleets.items()]
        await conn.execute(NAME_FLEETS, *map(list, zip(*found, strict=True)))
    return sorted((alerts[row["alert_id"]] for row in rows), key=lambda alert: alert.alert_id)


async def _queue_mails(
    conn: Connection, alerts: list[Alert], recipients: dict[UUID, tuple[str, ...]], *, now: datetime
) -> None:
    mails = 0
    portions: list[list[Alert]] = [[]]
    for alert in alerts:
        mails += len(recipients[alert.rule_id])
        if mails > DELIVERIES_AT_ONCE:
            mails = len(recipients[alert.rule_id])
            portions.append([])
        portions[-1].append(alert)
    for portion in portions:
        tenants, rules = [alert.tenant_id for alert in portion], [alert.rule_id for alert in portion]
        await conn.execute(ADD_DELIVERIES, tenants, [alert.alert_id for alert in portion], rules, now)
    fired = sorted({(alert.tenant_id, alert.rule_id) for alert in alerts})
    await conn.execute(FILL_QUEUES, [tenant_id for tenant_id, _ in fired], [rule_id for _, rule_id in fired], now)
