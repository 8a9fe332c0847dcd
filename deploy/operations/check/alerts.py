"""Rules are as the audit trail says; alerts, their fleets, deliveries and mail queues agree."""

from deploy.operations.check.audit_trail import audit_numbered, audited_once
from deploy.operations.check.findings import Check

RULES_AUDITED = """
WITH said AS (
    SELECT tenant_id, subject AS rule_id, audit_id, at, action, before, after,
           lag(after) OVER changes AS earlier, row_number() OVER changes AS n,
           count(*) OVER (PARTITION BY tenant_id, subject) AS last, first_value(at) OVER changes AS first_at
    FROM audit WHERE action IN ('rule-created', 'rule-changed')
    WINDOW changes AS (PARTITION BY tenant_id, subject ORDER BY number NULLS FIRST, at, audit_id)
)
SELECT coalesce(r.tenant_id, s.tenant_id) AS tenant_id, 'alert_rules' AS table_name,
       coalesce(r.rule_id::text, s.rule_id) AS key, CASE WHEN r.kind IS NOT NULL THEN has END AS has,
       CASE WHEN s.at IS NOT NULL THEN should END AS should
FROM audited_rules AS r FULL JOIN (SELECT * FROM said WHERE n = last) AS s
     ON r.tenant_id = s.tenant_id AND r.rule_id::text = s.rule_id, LATERAL (
    SELECT jsonb_build_object('kind', r.kind, 'thresholds', r.thresholds, 'cooldown_seconds', r.cooldown_seconds,
                              'enabled', r.enabled, 'created_at', r.created_at, 'updated_at', r.updated_at,
                              'recipients', r.recipients) AS has,
           s.after || jsonb_build_object('created_at', s.first_at, 'updated_at', s.at) AS should
) AS compared
WHERE r.kind IS NULL OR s.at IS NULL OR has <> should
UNION ALL
SELECT tenant_id, 'audit', audit_id::text, has, should
FROM said, LATERAL (
    SELECT jsonb_build_object('before', before, 'action', action) AS has,
           jsonb_build_object('before', earlier, 'action', CASE n WHEN 1 THEN 'rule-created' ELSE 'rule-changed' END) AS should
) AS compared
WHERE has <> should
"""
ALERTS_ACKNOWLEDGED = """
WITH said AS (
    SELECT tenant_id, subject AS alert_id, at, actor, before, after FROM audit WHERE action = 'alert-acknowledged'
)
SELECT coalesce(a.tenant_id, s.tenant_id) AS tenant_id, 'alerts' AS table_name, coalesce(a.alert_id::text, s.alert_id) AS key,
       CASE WHEN a.alert_id IS NOT NULL THEN has END AS has, should
FROM alerts AS a FULL JOIN said AS s ON a.tenant_id = s.tenant_id AND a.alert_id::text = s.alert_id, LATERAL (
    SELECT s.at IS NOT NULL AS is_seen
) AS known, LATERAL (
    SELECT jsonb_build_object('status', a.status, 'acknowledged_at', a.acknowledged_at, 'acknowledged_by', a.acknowledged_by,
                              'before', s.before, 'after', s.after) AS has,
           jsonb_build_object('status', CASE WHEN is_seen THEN 'acknowledged' ELSE 'open' END,
                              'acknowledged_at', s.at, 'acknowledged_by', s.actor,
                              'before', CASE WHEN is_seen THEN '{"status": "open"}'::jsonb END,
                              'after', CASE WHEN is_seen THEN '{"status": "acknowledged"}'::jsonb END) AS should
) AS compared
WHERE has <> should
"""
ALERTS_RAISED = """
SELECT a.tenant_id, 'alerts' AS table_name, a.alert_id::text AS key, has, should
FROM alerts AS a JOIN alert_rules AS r USING (tenant_id, rule_id)
LEFT JOIN subject_fleets AS f USING (tenant_id, subject), LATERAL (
    SELECT jsonb_build_object('kind', a.kind, 'fleet_id', a.fleet_id,
                              'asks_for_its_fleet', a.fleet_id IS NULL AND a.kind <> 'payout_failed') AS has,
           jsonb_build_object('kind', r.kind, 'fleet_id', coalesce(a.fleet_id, f.fleet_id),
                              'asks_for_its_fleet', a.fleet_id IS NULL AND a.kind <> 'payout_failed' AND f.subject IS NOT NULL)
           AS should
) AS compared
WHERE has <> should
UNION ALL
SELECT f.tenant_id, 'subject_fleets', f.subject, jsonb_build_object('fleet_id', NULL), NULL
FROM subject_fleets AS f LEFT JOIN alerts AS a ON a.tenant_id = f.tenant_id AND a.subject = f.subject AND a.fleet_id IS NULL
WHERE f.fleet_id IS NULL AND a.alert_id IS NULL
"""
# Of a rule that changed within seconds of the alert, either version may have been in force.
ALERTS_MAILED = """
WITH changes AS (
    SELECT tenant_id, subject AS rule_id, number, audit_id, after -> 'recipients' AS recipients,
           max(at) OVER (PARTITION BY tenant_id, subject ORDER BY number NULLS FIRST, at, audit_id) AS at
    FROM audit WHERE action IN ('rule-created', 'rule-changed')
), versions AS (
    SELECT tenant_id, rule_id, recipients, at - interval '10 seconds' AS since,
           coalesce(lead(at) OVER (PARTITION BY tenant_id, rule_id ORDER BY number NULLS FIRST, at, audit_id), 'infinity')
           + interval '10 seconds' AS until
    FROM changes
), queued AS (
    SELECT tenant_id, alert_id, jsonb_agg(recipient) AS recipients, min(created_at) AS first_at, max(created_at) AS last_at,
           min(rule_id::text) AS rule_id, max(rule_id::text) AS last_rule
    FROM audited_deliveries GROUP BY tenant_id, alert_id
), mailed AS (
    SELECT a.tenant_id, a.alert_id, bool_or(v.recipients @> coalesce(q.recipients, '[]')
                                            AND coalesce(q.recipients, '[]') @> v.recipients) AS to_its_recipients
    FROM alerts AS a LEFT JOIN queued AS q USING (tenant_id, alert_id)
    JOIN versions AS v ON v.tenant_id = a.tenant_id AND v.rule_id = a.rule_id::text AND a.raised_at BETWEEN v.since AND v.until
    GROUP BY a.tenant_id, a.alert_id
)
SELECT tenant_id, 'deliveries' AS table_name, 'alert ' || alert_id AS key, has,
       CASE WHEN a.rule_id IS NOT NULL THEN should END AS should
FROM alerts AS a FULL JOIN queued AS q USING (tenant_id, alert_id) LEFT JOIN mailed USING (tenant_id, alert_id), LATERAL (
    SELECT jsonb_build_object('first_at', q.first_at, 'last_at', q.last_at, 'rule_id', q.rule_id, 'last_rule', q.last_rule,
                              'to_the_recipients_of_its_rule', coalesce(to_its_recipients, false)) AS has,
           jsonb_build_object('first_at', CASE WHEN q.rule_id IS NOT NULL THEN a.raised_at END,
                              'last_at', CASE WHEN q.rule_id IS NOT NULL THEN a.raised_at END,
                              'rule_id', CASE WHEN q.rule_id IS NOT NULL THEN a.rule_id::text END,
                              'last_rule', CASE WHEN q.rule_id IS NOT NULL THEN a.rule_id::text END,
                              'to_the_recipients_of_its_rule', true) AS should
) AS compared
WHERE has <> should
"""
QUEUES_AGREE = """
WITH waiting AS (
    SELECT tenant_id, rule_id, recipient, min(created_at) FILTER (WHERE status = 'pending') AS since, max(sent_at) AS sent_at
    FROM audited_deliveries GROUP BY tenant_id, rule_id, recipient
)
SELECT tenant_id, 'mail_queues' AS table_name, rule_id || ' ' || recipient AS key,
       CASE WHEN q.not_before IS NOT NULL THEN has END AS has, CASE WHEN w.rule_id IS NOT NULL THEN should END AS should
FROM audited_mail_queues AS q FULL JOIN waiting AS w USING (tenant_id, rule_id, recipient), LATERAL (
    SELECT jsonb_build_object('waiting_since', q.waiting_since, 'last_sent_at', q.last_sent_at) AS has,
           jsonb_build_object('waiting_since', w.since, 'last_sent_at', w.sent_at) AS should
) AS compared
WHERE q.not_before IS NULL OR w.rule_id IS NULL OR has <> should
"""
ACTIONS_KNOWN = """
SELECT tenant_id, 'audit' AS table_name, audit_id::text AS key, jsonb_build_object('action', action) AS has,
       jsonb_build_object('action', 'one of this service') AS should
FROM audit WHERE action NOT IN ('rule-created', 'rule-changed', 'alert-acknowledged')
"""
DELIVERIES_SETTLED = """
SELECT tenant_id, 'deliveries' AS table_name, 'alert ' || alert_id AS key, has, should
FROM audited_deliveries, LATERAL (
    SELECT jsonb_build_object('is_sent', sent_at IS NOT NULL, 'has_error', has_error, 'status', status) AS has,
           jsonb_build_object('is_sent', status = 'sent', 'has_error', status = 'failed', 'status',
                              CASE WHEN status IN ('pending', 'sent', 'failed', 'canceled') THEN status END) AS should
) AS compared
WHERE has <> should
"""
SERVICE = "alerts"
CHECKS = (
    audited_once(SERVICE),
    audit_numbered(SERVICE),
    Check(SERVICE, "deliveries", "deliveries are settled as their status says", DELIVERIES_SETTLED),
    Check(SERVICE, "rules audited", "rules are as the audit trail says, change by change", RULES_AUDITED),
    Check(SERVICE, "acknowledged", "alerts are acknowledged as the audit trail says", ALERTS_ACKNOWLEDGED),
    Check(
        SERVICE, "alerts raised", "alerts are of their rule's kind and know their fleet when it is known", ALERTS_RAISED
    ),
    Check(SERVICE, "alerts mailed", "every alert has a delivery to each recipient of its rule", ALERTS_MAILED),
    Check(SERVICE, "mail queues", "mail queues say what their deliveries say", QUEUES_AGREE),
    Check(SERVICE, "actions known", "the audit trail names actions of this service only", ACTIONS_KNOWN),
)
