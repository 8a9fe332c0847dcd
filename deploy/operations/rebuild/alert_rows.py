"""The statements that make the read model of alerts anew; `rebuild` is the schema beside the live one."""

# The foreign key of the new table is to the rules that stay.
REFER_TO_RULES = """
ALTER TABLE rebuild.alerts DROP CONSTRAINT alerts_tenant_id_rule_id_fkey,
ADD CONSTRAINT alerts_tenant_id_rule_id_fkey FOREIGN KEY (tenant_id, rule_id) REFERENCES public.alert_rules
"""
HANDLED = "SELECT event_id, claimed_at FROM public.inbox WHERE tenant_id = $1 AND event_id = ANY ($2)"
HANDLED_SINCE = """
SELECT live.tenant_id, live.event_id FROM public.inbox AS live LEFT JOIN rebuild.inbox AS made USING (tenant_id, event_id)
WHERE live.claimed_at >= $1 AND made.event_id IS NULL ORDER BY live.tenant_id
"""
LIVE_ALERTS = "SELECT rule_id, subject, alert_id FROM public.alerts WHERE tenant_id = $1 AND subject = ANY ($2)"
# Deliveries whose alert is gone: an alert of the same rule and moment takes its id again.
ORPHANS = """
SELECT DISTINCT d.alert_id, d.tenant_id, d.rule_id, d.created_at
FROM public.deliveries AS d LEFT JOIN public.alerts AS a USING (tenant_id, alert_id)
WHERE a.alert_id IS NULL ORDER BY d.alert_id
"""
CLAIM = """
INSERT INTO inbox (tenant_id, event_id, claimed_at)
SELECT $1, event_id, claimed_at FROM unnest($2::uuid[], $3::timestamptz[]) AS seen (event_id, claimed_at)
ON CONFLICT (tenant_id, event_id) DO NOTHING
"""
RAISE = """
INSERT INTO alerts (tenant_id, alert_id, rule_id, kind, subject, fleet_id, summary, raised_at)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
ON CONFLICT (tenant_id, rule_id, subject) DO NOTHING
"""
# What people answered is in the audit trail.
ACKNOWLEDGE = """
UPDATE rebuild.alerts AS made SET status = 'acknowledged', acknowledged_at = said.at, acknowledged_by = said.actor
FROM public.audit AS said
WHERE said.action = 'alert-acknowledged' AND said.tenant_id = made.tenant_id AND said.subject = made.alert_id::text
  AND made.status = 'open'
"""
# An alert that is raised only now is news to nobody: its mails are canceled before they are sent.
CANCEL_DELIVERIES = """
INSERT INTO public.deliveries (tenant_id, alert_id, recipient, rule_id, status, created_at)
SELECT made.tenant_id, made.alert_id, recipient, made.rule_id, 'canceled', made.raised_at
FROM rebuild.alerts AS made JOIN public.alert_rules USING (tenant_id, rule_id) CROSS JOIN unnest(recipients) AS recipient
WHERE NOT EXISTS (SELECT FROM public.deliveries AS d WHERE d.tenant_id = made.tenant_id AND d.alert_id = made.alert_id)
RETURNING tenant_id, rule_id, recipient, created_at
"""
ADD_QUEUES = """
INSERT INTO public.mail_queues (tenant_id, rule_id, recipient, not_before)
SELECT DISTINCT ON (tenant_id, rule_id, recipient) tenant_id, rule_id, recipient, at
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[]) AS canceled (tenant_id, rule_id, recipient, at)
ORDER BY tenant_id, rule_id, recipient, at
ON CONFLICT (tenant_id, rule_id, recipient) DO NOTHING
"""
EVENTS_OF = """
SELECT event::text AS event FROM outbox WHERE tenant_id = $1 AND event_id = ANY ($2) ORDER BY id
"""
