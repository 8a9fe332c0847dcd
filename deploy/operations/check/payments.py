"""Requests, payments and callbacks agree with each other and with the events that told of them."""

from deploy.operations.check.event_log import event_log_checks
from deploy.operations.check.findings import Check

REQUESTS_PAID = """
WITH money AS (
    SELECT tenant_id, request_id, sum(applied)::bigint AS applied, bool_or(flags @> '{currency_mismatch}') AS misfits,
           coalesce(sum(amount) FILTER (WHERE NOT flags && '{unmatched,currency_mismatch}'), 0)::bigint AS paid
    FROM payments WHERE status = 'completed' AND request_id IS NOT NULL
    GROUP BY tenant_id, request_id
)
SELECT r.tenant_id, 'requests' AS table_name, request_id AS key, has, should
FROM requests AS r LEFT JOIN money AS m USING (tenant_id, request_id), LATERAL (
    SELECT coalesce(m.paid, 0) AS paid, r.kind IS NULL AS is_awaited
) AS known, LATERAL (
    SELECT jsonb_build_object('paid', r.paid, 'status', r.status, 'overpaid', r.flags @> '{overpaid}',
                              'currency_mismatch', r.flags @> '{currency_mismatch}',
                              'applied', coalesce(m.applied, 0)) AS has,
           jsonb_build_object('paid', known.paid,
                              'status', CASE WHEN is_awaited THEN 'awaited'
                                             WHEN r.status = 'canceled' THEN 'canceled'
                                             WHEN known.paid >= r.amount THEN 'completed'
                                             WHEN known.paid > 0 THEN 'partially_paid' ELSE 'pending_payment' END,
                              'overpaid', NOT is_awaited AND known.paid > r.amount,
                              'currency_mismatch', NOT is_awaited AND coalesce(m.misfits, false),
                              'applied', CASE WHEN r.status = 'canceled' THEN coalesce(m.applied, 0)
                                              ELSE least(coalesce(r.amount, 0), known.paid) END) AS should
) AS compared
WHERE has <> should
"""
PAYMENTS_FIT = """
SELECT p.tenant_id, 'payments' AS table_name, concat_ws(' of request ', p.payment_id, p.request_id) AS key, has, should
FROM payments AS p LEFT JOIN requests AS r USING (tenant_id, request_id), LATERAL (
    SELECT r.kind IS NOT NULL AS is_known, r.kind IS NOT NULL AND r.currency <> p.currency AS misfits
) AS known, LATERAL (
    SELECT jsonb_build_object('request_id', p.request_id, 'unmatched', p.flags @> '{unmatched}',
                              'currency_mismatch', p.flags @> '{currency_mismatch}', 'overpaid', p.flags @> '{overpaid}',
                              'client_id', p.client_id, 'fleet_id', p.fleet_id, 'route_id', p.route_id,
                              'vehicle_id', p.vehicle_id, 'platform', p.platform, 'payees', p.payees) AS has,
           jsonb_build_object('request_id', r.request_id, 'unmatched', NOT is_known,
                              'currency_mismatch', misfits, 'overpaid', is_known AND NOT misfits AND p.applied < p.amount,
                              'client_id', r.client_id, 'fleet_id', r.fleet_id, 'route_id', r.route_id,
                              'vehicle_id', r.vehicle_id, 'platform', r.platform,
                              'payees', coalesce(r.payees, '[]')) AS should
) AS compared
WHERE (p.status = 'completed' AND has <> should) OR (p.request_id IS NOT NULL AND r.request_id IS NULL)
"""
# A word of the gateway that names the request of unmatched money, or of a payment without money, changes the row and is
# not told.
PAYMENTS_TOLD = """
WITH told AS (
    SELECT DISTINCT ON (tenant_id, key) tenant_id, key, event ->> 'type' AS type, event -> 'data' AS data,
           created_at, min(created_at) OVER (PARTITION BY tenant_id, key) AS first_at
    FROM outbox WHERE topic = 'payments' ORDER BY tenant_id, key, id DESC
)
SELECT coalesce(p.tenant_id, t.tenant_id) AS tenant_id, 'payments' AS table_name,
       coalesce(p.payment_id::text, t.key) AS key, CASE WHEN p.status IS NOT NULL THEN has END AS has,
       CASE WHEN t.type IS NOT NULL THEN should END AS should
FROM payments AS p FULL JOIN told AS t ON p.tenant_id = t.tenant_id AND p.payment_id::text = t.key
LEFT JOIN LATERAL json_to_record(t.data) AS d (
    account_id text, transaction_id text, request_id text, amount bigint, currency text, method text, paid_at timestamptz,
    client_id text, fleet_id text, route_id text, vehicle_id text, platform text, payees jsonb, applied bigint, fee bigint,
    flags jsonb, failure_code text
) ON true, LATERAL (
    SELECT d.request_id IS NULL AND (p.flags @> '{unmatched}' OR p.status <> 'completed') AS may_be_named,
           p.status = 'completed' AS is_paid
) AS known, LATERAL (
    SELECT jsonb_build_object(
               'status', p.status, 'account_id', p.account_id, 'transaction_id', p.transaction_id, 'amount', p.amount,
               'request_id', CASE WHEN NOT may_be_named THEN p.request_id END, 'currency', p.currency, 'method', p.method,
               'paid_at', p.paid_at, 'client_id', p.client_id, 'fleet_id', p.fleet_id, 'route_id', p.route_id,
               'vehicle_id', p.vehicle_id, 'platform', p.platform, 'payees', p.payees,
               'applied', p.applied, 'fee', CASE WHEN is_paid THEN p.fee END,
               'flags', to_jsonb(p.flags),
               'failure_code', p.failure_code,
               'failure_text', CASE WHEN p.status <> 'failed' THEN p.failure_text END, 'recorded_at', p.recorded_at,
               'updated_at', p.updated_at = t.created_at OR (may_be_named AND p.updated_at > t.created_at)) AS has,
           jsonb_build_object(
               'status', CASE t.type WHEN 'payment-pending' THEN 'pending' WHEN 'payment-failed' THEN 'failed'
                                     ELSE 'completed' END,
               'account_id', d.account_id, 'transaction_id', d.transaction_id, 'amount', d.amount,
               'request_id', d.request_id, 'currency', d.currency, 'method', d.method,
               'paid_at', d.paid_at, 'client_id', d.client_id, 'fleet_id', d.fleet_id, 'route_id', d.route_id,
               'vehicle_id', d.vehicle_id, 'platform', d.platform, 'payees', d.payees,
               'applied', coalesce(d.applied, 0), 'fee', CASE WHEN is_paid THEN d.fee END,
               'flags', coalesce(d.flags, '[]'), 'failure_code', d.failure_code, 'failure_text', NULL,
               'recorded_at', t.first_at, 'updated_at', true) AS should
) AS compared
WHERE p.status IS NULL OR t.type IS NULL OR has <> should
"""
# One callback of each gateway's payment was its first word, and recorded it.
PAYMENTS_CALLED = """
SELECT p.tenant_id, 'payments' AS table_name, p.payment_id::text AS key,
       jsonb_build_object('callbacks_that_recorded_it', 0) AS has, jsonb_build_object('callbacks_that_recorded_it', 1) AS should
FROM payments AS p LEFT JOIN callbacks AS c
     ON c.tenant_id = p.tenant_id AND c.payment_id = p.payment_id AND c.handled_at = p.recorded_at
WHERE p.account_id <> 'manual' AND c.callback_id IS NULL
"""
CALLBACKS_HANDLED = """
SELECT c.tenant_id, 'callbacks' AS table_name, c.callback_id::text AS key, has, should
FROM callbacks AS c LEFT JOIN payments AS p USING (tenant_id, payment_id)
LEFT JOIN gateway_accounts AS a ON a.tenant_id = c.tenant_id AND a.account_id = c.account_id, LATERAL (
    SELECT jsonb_build_object('payment_id', c.payment_id, 'account_id', c.account_id, 'error', c.error,
                              'handled_in_time', c.handled_at >= c.received_at - interval '1 minute',
                              'was_set_aside', c.retry_at IS NOT NULL) AS has,
           jsonb_build_object('payment_id', p.payment_id,
                              'account_id', CASE WHEN p.payment_id IS NULL THEN a.account_id ELSE p.account_id END,
                              'error', CASE WHEN c.handled_at IS NULL THEN c.error END,
                              'handled_in_time', CASE WHEN c.payment_id IS NOT NULL THEN true END,
                              'was_set_aside', c.attempts > 0) AS should
) AS compared
WHERE has <> should
"""
CALLBACKS_WAITING = """
SELECT tenant_id, 'callbacks' AS table_name, callback_id::text AS key, jsonb_build_object('handled_at', NULL, 'error', error)
       AS has, jsonb_build_object('handled_at', 'within a minute of ' || received_at, 'error', NULL) AS should
FROM callbacks WHERE handled_at IS NULL AND received_at < now() - interval '1 minute'
"""
ANSWERS_NAME = """
SELECT a.tenant_id, 'idempotency_keys' AS table_name, a.caller || ' ' || a.key AS key,
       jsonb_build_object('named', a.id) AS has, jsonb_build_object('named', NULL) AS should
FROM answered_ids() AS a LEFT JOIN requests AS r ON r.tenant_id = a.tenant_id AND r.request_id = a.id
LEFT JOIN payments AS p ON p.tenant_id = a.tenant_id AND p.payment_id::text = a.id
WHERE r.request_id IS NULL AND p.payment_id IS NULL
"""
SERVICE = "payments"
CHECKS = (
    *event_log_checks(SERVICE),
    Check(SERVICE, "requests paid", "requests are paid by the sum of their payments", REQUESTS_PAID),
    Check(SERVICE, "payments fit", "payments are of their requests, and flagged where they do not fit", PAYMENTS_FIT),
    Check(SERVICE, "payments told", "payments are as their last event told", PAYMENTS_TOLD),
    Check(SERVICE, "payments called", "every gateway's payment has the callback that recorded it", PAYMENTS_CALLED),
    Check(SERVICE, "callbacks", "every handled callback names its payment, of its account", CALLBACKS_HANDLED),
    Check(SERVICE, "callbacks handled", "no callback waits for more than a minute for its effect", CALLBACKS_WAITING),
    Check(SERVICE, "answers name", "every kept answer names requests and payments that exist", ANSWERS_NAME),
)
