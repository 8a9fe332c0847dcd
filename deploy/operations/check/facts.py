"""What the services that listen have made of the events: facts, earnings, copies of tenants, seen events."""

from deploy.operations.check.comparisons import Comparison, Side

PAYMENTS_TOLD = """
SELECT DISTINCT ON (key) left(key, 6) AS bucket, key, jsonb_build_object(
           'rank', rank, 'event_id', event_id, 'status', status, 'request_id', d.request_id,
           'transaction_id', d.transaction_id, 'client_id', d.client_id, 'amount', d.amount,
           'applied', coalesce(d.applied, 0), 'fee', coalesce(d.fee, 0), 'currency', d.currency, 'method', d.method,
           'at', d.paid_at, 'fleet_id', d.fleet_id, 'route_id', d.route_id, 'vehicle_id', d.vehicle_id,
           'platform', d.platform, 'payees', d.payees, 'flags', coalesce(d.flags, '[]'))::text AS content,
       created_at AS told_at
FROM outbox JOIN (VALUES (1, 'payment-pending', 'pending'), (2, 'payment-failed', 'failed'),
                         (3, 'payment-completed', 'completed'), (4, 'payment-matched', 'completed'))
     AS state (rank, type, status) ON state.type = event ->> 'type',
LATERAL json_to_record(event -> 'data') AS d (
    transaction_id text, request_id text, amount bigint, currency text, method text, paid_at timestamptz, client_id text,
    fleet_id text, route_id text, vehicle_id text, platform text, payees jsonb, applied bigint, fee bigint, flags jsonb)
WHERE tenant_id = $1 AND topic = 'payments'
ORDER BY key, rank DESC, event_id DESC
"""
PAYMENT_FACTS = """
SELECT left(payment_id, 6) AS bucket, payment_id AS key, jsonb_build_object(
           'rank', rank, 'event_id', event_id, 'status', status, 'request_id', request_id,
           'transaction_id', transaction_id, 'client_id', client_id, 'amount', amount, 'applied', applied, 'fee', fee,
           'currency', currency, 'method', method, 'at', at, 'fleet_id', fleet_id, 'route_id', route_id,
           'vehicle_id', vehicle_id, 'platform', platform, 'payees', payees, 'flags', flags)::text AS content,
       NULL::timestamptz AS told_at
FROM payments WHERE tenant_id = $1
"""
EARNINGS_TOLD = """
SELECT (d.paid_at AT TIME ZONE 'UTC')::date::text AS bucket, d.earning_id AS key, jsonb_build_object(
           'payment_id', d.payment_id, 'payee_id', d.payee_id, 'fleet_id', d.fleet_id, 'currency', d.currency,
           'gross', d.gross, 'commission', d.commission, 'amount', d.amount, 'cash_held', d.cash_held, 'at', d.paid_at
       )::text AS content, created_at AS told_at
FROM outbox, LATERAL json_to_record(event -> 'data') AS d (
    earning_id text, payment_id text, payee_id text, fleet_id text, currency text, gross bigint, commission bigint,
    amount bigint, cash_held bigint, paid_at timestamptz)
WHERE tenant_id = $1 AND event ->> 'type' = 'earning-accrued'
"""
EARNING_FACTS = """
SELECT (at AT TIME ZONE 'UTC')::date::text AS bucket, earning_id AS key, jsonb_build_object(
           'payment_id', payment_id, 'payee_id', payee_id, 'fleet_id', fleet_id, 'currency', currency, 'gross', gross,
           'commission', commission, 'amount', amount, 'cash_held', cash_held, 'at', at)::text AS content,
       NULL::timestamptz AS told_at
FROM earnings WHERE tenant_id = $1
"""
PAYOUTS_TOLD = """
SELECT DISTINCT ON (key) (first_at AT TIME ZONE 'UTC')::date::text AS bucket, key, jsonb_build_object(
           'rank', rank, 'event_id', event_id, 'status', substr(type, length('payout-') + 1), 'payee_id', d.payee_id,
           'amount', d.amount, 'currency', d.currency, 'at', first_at,
           'disbursed_on', CASE type WHEN 'payout-disbursed' THEN (d.at AT TIME ZONE time_zone)::date END,
           'method', d.method, 'reference', d.reference, 'reason', d.reason)::text AS content, created_at AS told_at
FROM (
    SELECT *, event ->> 'type' AS type, min((event #>> '{data,at}')::timestamptz) OVER (PARTITION BY key) AS first_at
    FROM outbox WHERE tenant_id = $1 AND event ->> 'type' LIKE 'payout-%'
) AS steps JOIN tenants USING (tenant_id) JOIN (
    VALUES (1, 'payout-requested'), (2, 'payout-approved'), (3, 'payout-disbursed'), (4, 'payout-rejected'),
           (4, 'payout-failed')
) AS state (rank, type) USING (type),
LATERAL json_to_record(event -> 'data') AS d (
    payee_id text, amount bigint, currency text, at timestamptz, method text, reference text, reason text)
ORDER BY key, rank DESC, event_id DESC
"""
PAYOUT_FACTS = """
SELECT (at AT TIME ZONE 'UTC')::date::text AS bucket, payout_id AS key, jsonb_build_object(
           'rank', rank, 'event_id', event_id, 'status', status, 'payee_id', payee_id, 'amount', amount,
           'currency', currency, 'at', at, 'disbursed_on', disbursed_on, 'method', method, 'reference', reference,
           'reason', reason)::text AS content, NULL::timestamptz AS told_at
FROM payouts WHERE tenant_id = $1
"""
# Shares by largest remainder, as shared/money.py splits; what was applied and what came beyond it apart.
EARNINGS_DUE = """
WITH paid AS (
    SELECT event_id, created_at, d.*, position, item ->> 'payee_id' AS payee_id,
           applied::numeric * (item ->> 'share_bp')::integer AS applied_bp,
           (amount - applied)::numeric * (item ->> 'share_bp')::integer AS beyond_bp
    FROM outbox, LATERAL json_to_record(event -> 'data') AS d (
        payment_id text, amount bigint, applied bigint, currency text, method text, paid_at timestamptz, fleet_id text,
        payees jsonb
    ), jsonb_array_elements(payees) WITH ORDINALITY AS payee (item, position)
    WHERE tenant_id = $1 AND event ->> 'type' IN ('payment-completed', 'payment-matched') AND (applied > 0 OR method = 'cash')
), parts AS (
    SELECT paid.*,
           div(applied_bp, 10000)
           + (row_number() OVER by_applied <= applied - sum(div(applied_bp, 10000)) OVER of_payment)::integer AS gross,
           div(beyond_bp, 10000)
           + (row_number() OVER by_beyond <= amount - applied - sum(div(beyond_bp, 10000)) OVER of_payment)::integer AS beyond
    FROM paid
    WINDOW of_payment AS (PARTITION BY event_id),
           by_applied AS (PARTITION BY event_id ORDER BY mod(applied_bp, 10000) DESC, position),
           by_beyond AS (PARTITION BY event_id ORDER BY mod(beyond_bp, 10000) DESC, position)
)
SELECT (paid_at AT TIME ZONE 'UTC')::date::text AS bucket, payment_id || ' ' || payee_id AS key, jsonb_build_object(
           'gross', gross, 'cash_held', CASE method WHEN 'cash' THEN gross + beyond ELSE 0 END, 'currency', currency,
           'fleet_id', fleet_id, 'paid_at', paid_at)::text AS content, created_at AS told_at
FROM parts
"""
EARNINGS_MADE = """
SELECT (min(paid_at) AT TIME ZONE 'UTC')::date::text AS bucket, payment_id || ' ' || payee_id AS key, jsonb_build_object(
           'gross', sum(gross), 'cash_held', sum(cash_held), 'currency', min(currency), 'fleet_id', min(fleet_id),
           'paid_at', min(paid_at))::text AS content, NULL::timestamptz AS told_at
FROM earnings WHERE tenant_id = $1 GROUP BY payment_id, payee_id
"""
# A match takes the money out of suspense, where its receipt had put it.
JOURNALS_DUE = """
SELECT left(d.payment_id, 6) AS bucket, d.payment_id || ' ' || kind AS key, jsonb_build_object(
           'currency', CASE WHEN has_earnings OR (gateway, suspense, operator) <> (0, 0, 0) THEN d.currency END,
           'gateway', gateway, 'suspense', suspense, 'operator', operator, 'payees_and_commission', theirs)::text AS content,
       created_at AS told_at
FROM outbox, LATERAL json_to_record(event -> 'data') AS d (
    payment_id text, amount bigint, applied bigint, currency text, method text, payees jsonb
), LATERAL (
    SELECT event ->> 'type' = 'payment-matched' AS is_match,
           jsonb_array_length(d.payees) > 0 AND (d.applied > 0 OR d.method = 'cash') AS has_earnings
) AS known, LATERAL (
    SELECT CASE WHEN has_earnings AND d.method = 'cash' THEN d.amount ELSE 0 END AS held,
           CASE WHEN is_match THEN 'match' ELSE 'payment' END AS kind
) AS cash, LATERAL (
    SELECT held - CASE WHEN is_match THEN 0 ELSE d.amount END AS gateway,
           CASE WHEN is_match THEN 0 ELSE d.amount END - d.applied AS suspense,
           CASE WHEN has_earnings THEN 0 ELSE d.applied END AS operator,
           CASE WHEN has_earnings THEN d.applied - held ELSE 0 END AS theirs
) AS posted
WHERE tenant_id = $1 AND event ->> 'type' IN ('payment-completed', 'payment-matched')
"""
JOURNALS_POSTED = """
SELECT left(source_id::text, 6) AS bucket, source_id || ' ' || kind AS key, jsonb_build_object(
           'currency', min(currency), 'gateway', coalesce(sum(amount) FILTER (WHERE account = 'gateway'), 0),
           'suspense', coalesce(sum(amount) FILTER (WHERE account = 'suspense'), 0),
           'operator', coalesce(sum(amount) FILTER (WHERE account = 'operator'), 0),
           'payees_and_commission', coalesce(sum(amount) FILTER (WHERE account IN ('wallet', 'commission')), 0)
       )::text AS content, NULL::timestamptz AS told_at
FROM journals LEFT JOIN entries USING (tenant_id, journal_id)
WHERE tenant_id = $1 AND kind IN ('payment', 'match') GROUP BY source_id, kind
"""
TENANT_ROWS = """
SELECT '' AS bucket, tenant_id AS key,
       jsonb_build_object('name', name, 'time_zone', time_zone, 'currency', currency, 'version', version)::text AS content,
       updated_at AS told_at
FROM tenants WHERE tenant_id = $1
"""
EVENTS_FOR_ALERTS = """
SELECT left(event_id::text, 6) AS bucket, event_id::text AS key, '{}' AS content, created_at AS told_at
FROM outbox
WHERE tenant_id = $1
  AND event ->> 'type' IN ('payment-failed', 'payment-completed', 'payment-matched', 'payout-failed')
"""
EVENTS_SEEN = """
SELECT left(event_id::text, 6) AS bucket, event_id::text AS key, '{}' AS content, NULL::timestamptz AS told_at
FROM inbox WHERE tenant_id = $1
"""
FLEETS_TOLD = """
SELECT left(key, 6) AS bucket, key, jsonb_build_object('fleet_id', event #> '{data,fleet_id}')::text AS content,
       created_at AS told_at
FROM outbox WHERE tenant_id = $1 AND event ->> 'type' = 'payment-matched' AND event #>> '{data,fleet_id}' IS NOT NULL
"""
FLEETS_KNOWN = """
SELECT left(subject, 6) AS bucket, subject AS key, jsonb_build_object('fleet_id', fleet_id)::text AS content,
       NULL::timestamptz AS told_at
FROM subject_fleets WHERE tenant_id = $1 AND fleet_id IS NOT NULL
"""
FACTS = (
    Comparison("payment facts", "facts equal payments", "payments",
               [Side("payments", PAYMENTS_TOLD)], Side("reporting", PAYMENT_FACTS)),
    Comparison("earning facts", "facts equal earnings", "earnings",
               [Side("payouts", EARNINGS_TOLD)], Side("reporting", EARNING_FACTS)),
    Comparison("payout facts", "facts equal payouts", "payouts",
               [Side("payouts", PAYOUTS_TOLD)], Side("reporting", PAYOUT_FACTS)),
    Comparison("earnings made", "every completed payment has its earnings, by its shares", "earnings",
               [Side("payments", EARNINGS_DUE)], Side("payouts", EARNINGS_MADE)),
    Comparison("journals posted", "every completed payment is in the ledger, once", "journals",
               [Side("payments", JOURNALS_DUE)], Side("payouts", JOURNALS_POSTED)),
    *(Comparison("tenants copied", "the copy of the tenants is that of payments", "tenants",
                 [Side("payments", TENANT_ROWS)], Side(service, TENANT_ROWS))
      for service in ("payouts", "reporting", "alerts")),
    Comparison("events seen", "alerts has handled every event once", "inbox",
               [Side("payments", EVENTS_FOR_ALERTS), Side("payouts", EVENTS_FOR_ALERTS)], Side("alerts", EVENTS_SEEN)),
    Comparison("fleets known", "alerts knows the fleets of matched payments", "subject_fleets",
               [Side("payments", FLEETS_TOLD)], Side("alerts", FLEETS_KNOWN)),
)  # fmt: skip
