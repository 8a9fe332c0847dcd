"""The roll-ups of reporting are the sums of its facts, in the days of their tenants."""

from deploy.operations.check.findings import Check

# Parts by largest remainder, as shared/money.py splits; numeric, since amount times share passes bigint.
ROLLUPS_SUM = """
WITH paid AS (
    SELECT tenant_id, payment_id, currency, day, amount, fee, fleet_id, route_id, vehicle_id, method, payees
    FROM payments WHERE status = 'completed'
), shares AS (
    SELECT tenant_id, payment_id, currency, day, amount, fee, position, item ->> 'payee_id' AS payee_id,
           mod(amount::numeric * (item ->> 'share_bp')::integer, 10000) AS amount_rest,
           mod(fee::numeric * (item ->> 'share_bp')::integer, 10000) AS fee_rest,
           div(amount::numeric * (item ->> 'share_bp')::integer, 10000) AS amount_part,
           div(fee::numeric * (item ->> 'share_bp')::integer, 10000) AS fee_part
    FROM paid, jsonb_array_elements(payees) WITH ORDINALITY AS payee (item, position)
    WHERE jsonb_array_length(payees) > 1
), parts AS (
    SELECT tenant_id, currency, day, payee_id,
           amount_part + (row_number() OVER by_amount <= amount - sum(amount_part) OVER of_payment)::integer AS amount,
           fee_part + (row_number() OVER by_fee <= fee - sum(fee_part) OVER of_payment)::integer AS fee
    FROM shares
    WINDOW of_payment AS (PARTITION BY tenant_id, payment_id),
           by_amount AS (PARTITION BY tenant_id, payment_id ORDER BY amount_rest DESC, position),
           by_fee AS (PARTITION BY tenant_id, payment_id ORDER BY fee_rest DESC, position)
    UNION ALL
    SELECT tenant_id, currency, day, coalesce(payees #>> '{0,payee_id}', ''), amount, fee
    FROM paid WHERE jsonb_array_length(payees) <= 1
), contributions AS (
    SELECT tenant_id, currency, dimension, day, member, sum(amount) AS revenue, count(*) AS payments, sum(fee) AS fees,
           0 AS earnings, 0 AS commission, 0 AS cash_held, 0 AS payouts
    FROM paid, LATERAL (VALUES ('total', ''), ('method', method), ('fleet', coalesce(fleet_id, '')),
                               ('route', coalesce(route_id, '')), ('vehicle', coalesce(vehicle_id, '')))
               AS of_payment (dimension, member)
    GROUP BY tenant_id, currency, dimension, day, member
    UNION ALL
    SELECT tenant_id, currency, 'payee', day, payee_id, sum(amount), count(*), sum(fee), 0, 0, 0, 0
    FROM parts GROUP BY tenant_id, currency, day, payee_id
    UNION ALL
    SELECT tenant_id, currency, 'total', day, '', 0, 0, 0, sum(amount), sum(commission), sum(cash_held), 0
    FROM earnings GROUP BY tenant_id, currency, day
    UNION ALL
    SELECT tenant_id, currency, 'total', disbursed_on, '', 0, 0, 0, 0, 0, 0, sum(amount)
    FROM payouts WHERE status = 'disbursed' GROUP BY tenant_id, currency, disbursed_on
), sums AS (
    SELECT tenant_id, currency, dimension, day, member, jsonb_build_object(
               'revenue', sum(revenue), 'payments', sum(payments), 'fees', sum(fees), 'earnings', sum(earnings),
               'commission', sum(commission), 'cash_held', sum(cash_held), 'payouts', sum(payouts), 'refunds', 0, 'costs', 0
           ) AS should
    FROM contributions GROUP BY tenant_id, currency, dimension, day, member
    HAVING (sum(revenue), sum(payments), sum(fees), sum(earnings), sum(commission), sum(cash_held), sum(payouts))
           <> (0, 0, 0, 0, 0, 0, 0)
), kept AS (
    SELECT tenant_id, currency, dimension, day, member, jsonb_build_object(
               'revenue', revenue, 'payments', payments, 'fees', fees, 'earnings', earnings, 'commission', commission,
               'cash_held', cash_held, 'payouts', payouts, 'refunds', refunds, 'costs', costs) AS has
    FROM daily_rollups
)
SELECT tenant_id, 'daily_rollups' AS table_name, concat_ws(' ', day, dimension, nullif(member, ''), currency) AS key,
       has, should
FROM kept FULL JOIN sums USING (tenant_id, currency, dimension, day, member)
WHERE has IS DISTINCT FROM should
"""
BALANCES_SUM = """
WITH contributions AS (
    SELECT tenant_id, currency, payee_id, sum(amount) AS earned, sum(cash_held) AS cash_held, 0 AS disbursed
    FROM earnings GROUP BY tenant_id, currency, payee_id
    UNION ALL
    SELECT tenant_id, currency, payee_id, 0, 0, sum(amount) FROM payouts WHERE status = 'disbursed'
    GROUP BY tenant_id, currency, payee_id
), sums AS (
    SELECT tenant_id, currency, payee_id, jsonb_build_object(
               'earned', sum(earned), 'cash_held', sum(cash_held), 'disbursed', sum(disbursed)) AS should
    FROM contributions GROUP BY tenant_id, currency, payee_id
    HAVING (sum(earned), sum(cash_held), sum(disbursed)) <> (0, 0, 0)
), kept AS (
    SELECT tenant_id, currency, payee_id, jsonb_build_object(
               'earned', earned, 'cash_held', cash_held, 'disbursed', disbursed) AS has
    FROM payee_balances
)
SELECT tenant_id, 'payee_balances' AS table_name, payee_id || ' ' || currency AS key, has, should
FROM kept FULL JOIN sums USING (tenant_id, currency, payee_id)
WHERE has IS DISTINCT FROM should
"""
DAYS_CUT = """
WITH dated AS (
    SELECT tenant_id, 'payments' AS table_name, payment_id AS key, at, day FROM payments
    UNION ALL
    SELECT tenant_id, 'earnings', earning_id, at, day FROM earnings
)
SELECT tenant_id, table_name, key, has, should
FROM dated LEFT JOIN tenants USING (tenant_id), LATERAL (
    SELECT jsonb_build_object('day', day) AS has, jsonb_build_object('day', (at AT TIME ZONE time_zone)::date) AS should
) AS compared
WHERE has <> should
"""
STATES_RANKED = """
SELECT tenant_id, table_name, key, has, should
FROM (
    SELECT tenant_id, 'payments' AS table_name, payment_id AS key, status, rank,
           CASE rank WHEN 1 THEN 'pending' WHEN 2 THEN 'failed' WHEN 3 THEN 'completed' WHEN 4 THEN 'completed' END AS ranked
    FROM payments
    UNION ALL
    SELECT tenant_id, 'payouts', payout_id, status, rank,
           CASE WHEN rank = 1 THEN 'requested' WHEN rank = 2 THEN 'approved' WHEN rank = 3 THEN 'disbursed'
                WHEN rank = 4 AND status IN ('rejected', 'failed') THEN status END
    FROM payouts
) AS facts, LATERAL (
    SELECT jsonb_build_object('status', status, 'rank', rank) AS has,
           jsonb_build_object('status', ranked, 'rank', rank) AS should
) AS compared
WHERE has <> should
"""
SERVICE = "reporting"
CHECKS = (
    Check(SERVICE, "roll-ups", "daily roll-ups equal the facts", ROLLUPS_SUM),
    Check(SERVICE, "payee balances", "all-time sums of payees equal the facts", BALANCES_SUM),
    Check(SERVICE, "days", "facts stand on the day of their tenant's time zone", DAYS_CUT),
    Check(SERVICE, "states", "facts have the status of their rank", STATES_RANKED),
)
