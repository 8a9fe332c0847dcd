"""The statements that make the read model of alerts anew; `rebuild` is the schema beside the live one."""

# The foreign key of the new table is to the rules that stay.
REFER_TO_RULES = """
ALTER TABLE rebuild.alerts DROP CONSTRAINT alerts_tenant_id_rule_id_fkey,
ADD CONSTRAINT alerts_tenant_id_rule_id_fkey FOREIGN KEY (tenant_id, rule_id) REFERENCES public.alert_rules
"""
HANDLED = "SELECT event_id, claimed_at FROM public.inbox WHERE tenant_id = $1 AND event_id = ANY ($2)"
LIVE_ALERTS = """
SELECT rule_id, subject, alert_id FROM unnest($2::uuid[], $3::text[]) AS fired (rule_id, subject)
JOIN (SELECT rule_id, subject, alert_id FROM public.alerts WHERE tenant_id = $1) AS live USING (rule_id, subject)
"""
TOLD = "SELECT alert_id, recipient FROM public.audited_deliveries WHERE tenant_id = $1 AND alert_id = ANY ($2)"
CLAIM = """
INSERT INTO inbox (tenant_id, event_id, claimed_at)
SELECT $1, event_id, claimed_at FROM unnest($2::uuid[], $3::timestamptz[]) AS seen (event_id, claimed_at)
ON CONFLICT (tenant_id, event_id) DO NOTHING
"""
ALL_TENANTS = "SELECT tenant_id FROM public.tenants UNION SELECT tenant_id FROM rebuild.tenants"
# What people answered is in the audit trail, whose ids are of the time of their row.
ACKNOWLEDGE = """
WITH said AS MATERIALIZED (
    SELECT tenant_id, CASE WHEN subject ~ '^[0-9a-f-]{36}$' THEN subject::uuid END AS alert_id, at, actor FROM public.audit
    WHERE tenant_id = ANY ($1) AND audit_id >= $2 AND action = 'alert-acknowledged'
)
UPDATE rebuild.alerts AS made SET status = 'acknowledged', acknowledged_at = said.at, acknowledged_by = said.actor
FROM said WHERE made.tenant_id = said.tenant_id AND made.alert_id = said.alert_id AND made.status = 'open'
"""
# An alert that is raised only now is news to nobody: its mails are canceled before they are sent, where they are not there
# still. The audit trail, which tells the recipients of then, has fingerprints of addresses; a queue stays when its recipient
# leaves the rule.
CANCEL_DELIVERIES = """
WITH known AS (
    SELECT tenant_id, rule_id, recipient, left(encode(sha256(convert_to(recipient, 'UTF8')), 'hex'), 12) AS fingerprint
    FROM (SELECT tenant_id, rule_id, unnest(recipients) AS recipient FROM public.alert_rules
          UNION SELECT tenant_id, rule_id, recipient FROM public.mail_queues) AS addresses
)
INSERT INTO public.deliveries (tenant_id, alert_id, recipient, rule_id, status, created_at)
SELECT tenant_id, alert_id, recipient, rule_id, 'canceled', raised_at
FROM unnest($1::text[], $2::uuid[], $3::text[]) AS untold (tenant_id, alert_id, fingerprint)
JOIN rebuild.alerts USING (tenant_id, alert_id) JOIN known USING (tenant_id, rule_id, fingerprint)
ON CONFLICT (tenant_id, alert_id, recipient) DO NOTHING
RETURNING tenant_id, rule_id, recipient, created_at
"""
ADD_QUEUES = """
INSERT INTO public.mail_queues (tenant_id, rule_id, recipient, not_before)
SELECT DISTINCT ON (tenant_id, rule_id, recipient) tenant_id, rule_id, recipient, at
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[]) AS canceled (tenant_id, rule_id, recipient, at)
ORDER BY tenant_id, rule_id, recipient, at
ON CONFLICT (tenant_id, rule_id, recipient) DO NOTHING
"""
