"""Payouts, their journals, events and audit rows tell the same story; commission plans are as they were set."""

from deploy.operations.check.audit_trail import audited_once
from deploy.operations.check.findings import Check

# What the ledger must have moved for each payout, by its status.
PAYOUTS_MOVED = """
WITH due AS (
    SELECT tenant_id, payout_id, 'payout-requested' AS kind, payee_id, currency, requested_at AS at,
           jsonb_build_object('wallet', -amount, 'locked', amount) AS moved
    FROM payouts
    UNION ALL
    SELECT tenant_id, payout_id, 'payout-' || status, payee_id, currency, coalesce(disbursed_at, updated_at),
           CASE WHEN status = 'disbursed' THEN jsonb_build_object('locked', -amount, 'disbursed', amount)
                ELSE jsonb_build_object('locked', -amount, 'wallet', amount) END
    FROM payouts WHERE status IN ('disbursed', 'rejected', 'failed')
), posted AS (
    SELECT j.tenant_id, j.source_id AS payout_id, j.kind, min(e.payee_id) AS payee_id, max(e.payee_id) AS other_payee,
           min(e.currency) AS currency, min(j.posted_at) AS at, jsonb_object_agg(e.account, e.amount) AS moved
    FROM journals AS j JOIN entries AS e USING (tenant_id, journal_id)
    WHERE j.kind LIKE 'payout-%' GROUP BY j.tenant_id, j.source_id, j.kind
)
SELECT tenant_id, 'journals' AS table_name, payout_id || ' ' || kind AS key,
       CASE WHEN p.moved IS NOT NULL THEN has END AS has, CASE WHEN d.moved IS NOT NULL THEN should END AS should
FROM posted AS p FULL JOIN due AS d USING (tenant_id, payout_id, kind), LATERAL (
    SELECT jsonb_build_object('payee_id', p.payee_id, 'other_payee', p.other_payee, 'currency', p.currency, 'at', p.at,
                              'moved', p.moved) AS has,
           jsonb_build_object('payee_id', d.payee_id, 'other_payee', d.payee_id, 'currency', d.currency, 'at', d.at,
                              'moved', d.moved) AS should
) AS compared
WHERE p.moved IS NULL OR d.moved IS NULL OR has <> should
"""
PAYOUTS_TOLD = """
WITH told AS (
    SELECT DISTINCT ON (tenant_id, key) tenant_id, key, event ->> 'type' AS type, event -> 'data' AS data, created_at,
           min(created_at) OVER (PARTITION BY tenant_id, key) AS first_at
    FROM outbox WHERE event ->> 'type' LIKE 'payout-%' ORDER BY tenant_id, key, id DESC
)
SELECT coalesce(p.tenant_id, t.tenant_id) AS tenant_id, 'payouts' AS table_name, coalesce(p.payout_id::text, t.key) AS key,
       CASE WHEN p.status IS NOT NULL THEN has END AS has, CASE WHEN t.type IS NOT NULL THEN should END AS should
FROM payouts AS p FULL JOIN told AS t ON p.tenant_id = t.tenant_id AND p.payout_id::text = t.key
LEFT JOIN LATERAL json_to_record(t.data) AS d (
    payout_id text, payee_id text, amount bigint, currency text, at timestamptz, method text, reference text, reason text
) ON true, LATERAL (
    SELECT jsonb_build_object(
               'status', p.status, 'payout_id', p.payout_id, 'payee_id', p.payee_id, 'amount', p.amount,
               'currency', p.currency, 'requested_at', p.requested_at, 'updated_at', p.updated_at, 'told_at', t.created_at,
               'disbursed_at', p.disbursed_at,
               'method', CASE WHEN p.status = 'disbursed' THEN coalesce(p.method, '') END,
               'reference', CASE WHEN p.status = 'disbursed' THEN p.reference END,
               'reason', CASE WHEN p.status IN ('rejected', 'failed') THEN coalesce(p.reason, '') END) AS has,
           jsonb_build_object(
               'status', substr(t.type, length('payout-') + 1), 'payout_id', d.payout_id, 'payee_id', d.payee_id,
               'amount', d.amount, 'currency', d.currency, 'requested_at', t.first_at, 'updated_at', d.at, 'told_at', d.at,
               'disbursed_at', CASE WHEN t.type = 'payout-disbursed' THEN d.at END,
               'method', d.method, 'reference', d.reference, 'reason', d.reason) AS should
) AS compared
WHERE p.status IS NULL OR t.type IS NULL OR has <> should
"""
PAYOUTS_AUDITED = """
WITH said AS (
    SELECT tenant_id, subject AS payout_id, audit_id, at, actor, before, after,
           CASE action WHEN 'request-payout' THEN 'payout-requested' ELSE action END AS step
    FROM audit WHERE action LIKE '%payout%'
), told AS (
    SELECT tenant_id, key AS payout_id, event ->> 'type' AS step, created_at, (event -> 'data')::jsonb AS data,
           lag(substr(event ->> 'type', length('payout-') + 1)) OVER steps AS earlier, lead(id) OVER steps IS NULL AS is_last
    FROM outbox WHERE event ->> 'type' LIKE 'payout-%' WINDOW steps AS (PARTITION BY tenant_id, key ORDER BY id)
)
SELECT coalesce(s.tenant_id, t.tenant_id) AS tenant_id, 'audit' AS table_name,
       concat_ws(' ', s.audit_id, step, 'of', coalesce(s.payout_id, t.payout_id)) AS key,
       CASE WHEN s.audit_id IS NOT NULL THEN has END AS has, CASE WHEN t.data IS NOT NULL THEN should END AS should
FROM said AS s FULL JOIN told AS t USING (tenant_id, payout_id, step)
LEFT JOIN payouts AS p ON p.tenant_id = t.tenant_id AND p.payout_id::text = t.payout_id, LATERAL (
    SELECT step = 'payout-requested' AS is_first
) AS known, LATERAL (
    SELECT jsonb_build_object('at', s.at, 'status', s.after -> 'status', 'before', s.before -> 'status',
                              'amount', s.after -> 'amount', 'payee_id', s.after -> 'payee_id',
                              'currency', s.after -> 'currency', 'reference', s.after -> 'reference',
                              'method', s.after -> 'method',
                              'reason', coalesce(s.after -> 'reason', 'null'),
                              'actor', CASE WHEN is_first THEN s.actor END) AS has,
           jsonb_build_object('at', t.created_at, 'status', substr(step, length('payout-') + 1), 'before', t.earlier,
                              'amount', CASE WHEN is_first THEN t.data -> 'amount' END,
                              'payee_id', CASE WHEN is_first THEN t.data -> 'payee_id' END,
                              'currency', CASE WHEN is_first THEN t.data -> 'currency' END,
                              'reference', coalesce(t.data -> 'reference', s.after -> 'reference'),
                              'method', CASE WHEN s.after ? 'method' AND step = 'payout-disbursed'
                                             THEN t.data -> 'method' ELSE s.after -> 'method' END,
                              'reason', CASE WHEN is_last THEN coalesce(to_jsonb(p.reason), 'null')
                                             WHEN t.data ->> 'reason' = '' OR t.data -> 'reason' IS NULL
                                             THEN coalesce(s.after -> 'reason', 'null') ELSE t.data -> 'reason' END,
                              'actor', CASE WHEN is_first THEN p.requested_by END) AS should
) AS compared
WHERE s.audit_id IS NULL OR t.data IS NULL OR has <> should
"""
PLANS_AUDITED = """
WITH said AS (
    SELECT tenant_id, subject AS plan_id, at, after, before FROM audit WHERE action = 'set-commission'
)
SELECT coalesce(p.tenant_id, s.tenant_id) AS tenant_id, 'commission_plans' AS table_name,
       coalesce(p.plan_id::text, s.plan_id) AS key, CASE WHEN p.plan_id IS NOT NULL THEN has END AS has,
       CASE WHEN s.plan_id IS NOT NULL THEN should END AS should
FROM commission_plans AS p FULL JOIN said AS s ON p.tenant_id = s.tenant_id AND p.plan_id::text = s.plan_id, LATERAL (
    SELECT jsonb_build_object('fleet_id', p.fleet_id, 'payee_id', p.payee_id, 'commission_bp', p.commission_bp,
                              'delay_days', p.delay_days, 'valid_from', p.valid_from, 'created_at', p.created_at,
                              'before', s.before) AS has,
           s.after || jsonb_build_object('created_at', s.at, 'before', NULL) AS should
) AS compared
WHERE p.plan_id IS NULL OR s.plan_id IS NULL OR has <> should
"""
ACTIONS_KNOWN = """
SELECT tenant_id, 'audit' AS table_name, audit_id::text AS key, jsonb_build_object('action', action) AS has,
       jsonb_build_object('action', 'one of this service') AS should
FROM audit
WHERE action NOT IN ('set-commission', 'request-payout', 'payout-approved', 'payout-rejected', 'payout-disbursed',
                     'payout-failed')
"""
ANSWERS_NAME = """
SELECT a.tenant_id, 'idempotency_keys' AS table_name, a.caller || ' ' || a.key AS key,
       jsonb_build_object('named', a.id) AS has, jsonb_build_object('named', NULL) AS should
FROM answered_ids() AS a LEFT JOIN payouts AS p ON p.tenant_id = a.tenant_id AND p.payout_id::text = a.id
WHERE p.payout_id IS NULL
"""
SERVICE = "payouts"
CHECKS = (
    audited_once(SERVICE),
    Check(SERVICE, "payouts moved", "the ledger has moved for each payout what its status says", PAYOUTS_MOVED),
    Check(SERVICE, "payouts told", "payouts are as their last event told", PAYOUTS_TOLD),
    Check(SERVICE, "payouts audited", "every step of a payout is in the audit trail", PAYOUTS_AUDITED),
    Check(SERVICE, "plans audited", "commission plans are as they were set", PLANS_AUDITED),
    Check(SERVICE, "actions known", "the audit trail names actions of this service only", ACTIONS_KNOWN),
    Check(SERVICE, "answers name", "every kept answer names payouts that exist", ANSWERS_NAME),
)
