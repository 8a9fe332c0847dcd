"""The audit trail of payments agrees with what it is about: tenants, gateway accounts, secrets, payments by hand."""

from deploy.operations.check.audit_trail import audit_numbered, audited_once
from deploy.operations.check.findings import Check

TENANTS_TOLD = """
WITH told AS (
    SELECT DISTINCT ON (tenant_id) tenant_id, event -> 'data' AS data, created_at
    FROM outbox WHERE topic = 'tenants' ORDER BY tenant_id, (event #>> '{data,version}')::bigint DESC
)
SELECT tenant_id, 'tenants' AS table_name, tenant_id AS key, CASE WHEN t.version IS NOT NULL THEN has END AS has,
       CASE WHEN told.data IS NOT NULL THEN should END AS should
FROM tenants AS t FULL JOIN told USING (tenant_id), LATERAL (
    SELECT jsonb_build_object('name', t.name, 'time_zone', t.time_zone, 'currency', t.currency, 'version', t.version,
                              'updated_at', t.updated_at) AS has,
           told.data::jsonb || jsonb_build_object('updated_at', told.created_at) AS should
) AS compared
WHERE has IS DISTINCT FROM should
"""
TENANTS_AUDITED = """
WITH told AS (
    SELECT tenant_id, event #>> '{data,version}' AS version, (event -> 'data')::jsonb AS data, created_at
    FROM outbox WHERE topic = 'tenants'
), changed AS (
    SELECT tenant_id, after ->> 'version' AS version, audit_id, at, subject, before, after,
           lag(after) OVER (PARTITION BY tenant_id ORDER BY (after ->> 'version')::bigint) AS earlier
    FROM audit WHERE action = 'configure-tenant'
)
SELECT tenant_id, 'audit' AS table_name, coalesce(c.audit_id::text, 'configure-tenant version ' || version) AS key,
       CASE WHEN c.audit_id IS NOT NULL THEN has END AS has, CASE WHEN t.data IS NOT NULL THEN should END AS should
FROM changed AS c FULL JOIN told AS t USING (tenant_id, version), LATERAL (
    SELECT jsonb_build_object('at', c.at, 'subject', c.subject, 'before', c.before, 'after', c.after) AS has,
           jsonb_build_object('at', t.created_at, 'subject', tenant_id, 'before', c.earlier,
                              'after', t.data || jsonb_build_object('tenant_id', tenant_id)) AS should
) AS compared
WHERE c.audit_id IS NULL OR t.data IS NULL OR has <> should
"""
ACCOUNTS_AUDITED = """
WITH opened AS (
    SELECT tenant_id, subject AS account_id, at, before, after FROM audit WHERE action = 'open-gateway-account'
)
SELECT tenant_id, 'gateway_accounts' AS table_name, account_id AS key,
       CASE WHEN a.gateway IS NOT NULL THEN has END AS has, CASE WHEN o.at IS NOT NULL THEN should END AS should
FROM gateway_accounts AS a FULL JOIN opened AS o USING (tenant_id, account_id), LATERAL (
    SELECT jsonb_build_object('gateway', a.gateway, 'name', a.name, 'created_at', a.created_at,
                              'tenant_id', split_part(account_id, '.', 1), 'before', o.before) AS has,
           o.after || jsonb_build_object('created_at', o.at, 'tenant_id', tenant_id, 'before', NULL) AS should
) AS compared
WHERE has IS DISTINCT FROM should
"""
# The n-th secret came with the opening or the (n-1)-th rotation, and the next rotation says when it ends.
SECRETS_AUDITED = """
WITH kept AS (
    SELECT tenant_id, account_id, secret_id, created_at, expires_at,
           row_number() OVER (PARTITION BY tenant_id, account_id ORDER BY created_at, secret_id) AS n
    FROM gateway_secrets
), made AS (
    SELECT tenant_id, subject AS account_id, at, before,
           lead((after ->> 'old_secrets_expire_at')::timestamptz)
           OVER (PARTITION BY tenant_id, subject ORDER BY number NULLS FIRST, at) AS until,
           row_number() OVER (PARTITION BY tenant_id, subject ORDER BY at) AS n
    FROM audit WHERE action IN ('open-gateway-account', 'rotate-gateway-secret')
)
SELECT tenant_id, 'gateway_secrets' AS table_name, account_id || ' ' || coalesce(k.secret_id::text, n::text) AS key,
       CASE WHEN k.secret_id IS NOT NULL THEN has END AS has, CASE WHEN m.at IS NOT NULL THEN should END AS should
FROM kept AS k FULL JOIN made AS m USING (tenant_id, account_id, n), LATERAL (
    SELECT jsonb_build_object('created_at', k.created_at, 'expires_at', k.expires_at, 'before', m.before) AS has,
           jsonb_build_object('created_at', m.at, 'expires_at', m.until, 'before', NULL) AS should
) AS compared
WHERE k.secret_id IS NULL OR m.at IS NULL OR has <> should
"""
PAYMENTS_AUDITED = """
WITH said AS (
    SELECT tenant_id, subject AS payment_id, audit_id, at, before, after FROM audit WHERE action = 'record-payment'
), by_hand AS (
    SELECT tenant_id, payment_id::text AS payment_id, recorded_at, jsonb_build_object(
               'payment_id', payment_id, 'transaction_id', transaction_id, 'request_id', request_id, 'status', status,
               'amount', amount, 'applied', applied, 'fee', fee, 'currency', currency, 'method', method,
               'reference', reference, 'flags', to_jsonb(flags), 'client_id', client_id, 'fleet_id', fleet_id,
               'failure_text', failure_text, 'failure_code', failure_code) AS fields
    FROM payments WHERE account_id = 'manual'
)
SELECT tenant_id, 'audit' AS table_name, coalesce(s.audit_id::text, 'record-payment ' || payment_id) AS key,
       CASE WHEN s.audit_id IS NOT NULL THEN has END AS has, CASE WHEN p.fields IS NOT NULL THEN should END AS should
FROM said AS s FULL JOIN by_hand AS p USING (tenant_id, payment_id), LATERAL (
    SELECT jsonb_build_object('at', s.at, 'before', s.before, 'after', (
               SELECT jsonb_object_agg(name, s.after -> name) FROM jsonb_object_keys(p.fields) AS name)) AS has,
           jsonb_build_object('at', p.recorded_at, 'before', NULL, 'after', p.fields) AS should
) AS compared
WHERE s.audit_id IS NULL OR p.fields IS NULL OR has <> should
"""
# Of money that came before its request, whose registration decides whose it is.
MATCHES_TOLD = """
SELECT a.tenant_id, 'audit' AS table_name, audit_id::text AS key, has, should
FROM audit AS a
LEFT JOIN outbox AS told
       ON told.tenant_id = a.tenant_id AND told.key = a.subject AND told.event ->> 'type' = 'payment-matched',
     LATERAL (
    SELECT jsonb_build_object('at', a.at, 'applied', after -> 'applied', 'request_id', after -> 'request_id',
                              'fleet_id', after -> 'fleet_id', 'flags', after -> 'flags', 'before', before -> 'applied') AS has,
           jsonb_build_object('at', told.created_at, 'applied', event #> '{data,applied}',
                              'request_id', event #> '{data,request_id}', 'fleet_id', event #> '{data,fleet_id}',
                              'flags', event #> '{data,flags}', 'before', 0) AS should
) AS compared
WHERE a.action = 'match-payment' AND has <> should
"""
ACTIONS_KNOWN = """
SELECT tenant_id, 'audit' AS table_name, audit_id::text AS key, jsonb_build_object('action', action) AS has,
       jsonb_build_object('action', 'one of this service') AS should
FROM audit
WHERE action NOT IN (
    'configure-tenant', 'open-gateway-account', 'rotate-gateway-secret', 'record-payment', 'match-payment'
)
"""
SERVICE = "payments"
CHECKS = (
    audited_once(SERVICE),
    audit_numbered(SERVICE),
    Check(SERVICE, "tenants told", "tenants are as the event of their highest version told", TENANTS_TOLD),
    Check(SERVICE, "tenants audited", "every version of a tenant is in the audit trail", TENANTS_AUDITED),
    Check(SERVICE, "accounts audited", "gateway accounts are as they were opened", ACCOUNTS_AUDITED),
    Check(
        SERVICE,
        "secrets audited",
        "every secret came with an opening or rotation, and ends with the next",
        SECRETS_AUDITED,
    ),
    Check(SERVICE, "payments audited", "payments by hand are as the audit trail says", PAYMENTS_AUDITED),
    Check(SERVICE, "matches told", "money that joined its request did so as the audit trail says", MATCHES_TOLD),
    Check(SERVICE, "actions known", "the audit trail names actions of this service only", ACTIONS_KNOWN),
)
