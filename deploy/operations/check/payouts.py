"""The ledger balances, wallets and payouts are the sums of what is in it, and nobody is paid twice or too much."""

from deploy.operations.check.event_log import event_log_checks
from deploy.operations.check.findings import Check

JOURNALS_BALANCE = """
SELECT tenant_id, 'entries' AS table_name, journal_id::text AS key, jsonb_build_object(currency, sum(amount)) AS has,
       jsonb_build_object(currency, 0) AS should
FROM entries GROUP BY tenant_id, journal_id, currency HAVING sum(amount) <> 0
"""
# A match that nothing was due for moves nothing.
JOURNALS_WHOLE = """
WITH posted AS (
    SELECT tenant_id, journal_id, count(*) AS lines, min(line) AS first, max(line) AS last
    FROM entries GROUP BY tenant_id, journal_id
)
SELECT tenant_id, 'journals' AS table_name, journal_id::text AS key, has, should
FROM journals AS j FULL JOIN posted AS p USING (tenant_id, journal_id), LATERAL (
    SELECT jsonb_build_object('kind', j.kind, 'first', p.first, 'last', p.last, 'has_lines', p.lines > 0) AS has,
           jsonb_build_object('kind', CASE WHEN j.kind IN ('payment', 'match', 'payout-requested', 'payout-disbursed',
                                                           'payout-rejected', 'payout-failed') THEN j.kind ELSE 'known' END,
                              'first', CASE WHEN p.lines > 0 THEN 1 END, 'last', p.lines,
                              'has_lines', CASE WHEN j.kind <> 'match' OR p.lines > 0 THEN true END) AS should
) AS compared
WHERE has <> should
"""
WALLETS_SUM = """
WITH posted AS (
    SELECT tenant_id, payee_id, currency,
           coalesce(sum(amount) FILTER (WHERE account = 'wallet'), 0) AS balance,
           coalesce(sum(amount) FILTER (WHERE account = 'locked'), 0) AS locked,
           coalesce(sum(amount) FILTER (WHERE account = 'disbursed'), 0) AS paid
    FROM entries WHERE payee_id IS NOT NULL GROUP BY tenant_id, payee_id, currency
), earned AS (
    SELECT tenant_id, payee_id, currency, sum(net) AS earned, sum(commission) AS commission, sum(cash_held) AS cash_held,
           coalesce(sum(payable) FILTER (WHERE payout_id IS NULL), 0) AS free
    FROM earnings GROUP BY tenant_id, payee_id, currency
)
SELECT tenant_id, 'wallets' AS table_name, payee_id || ' ' || currency AS key,
       CASE WHEN w.balance IS NOT NULL THEN has END AS has, should
FROM wallets AS w FULL JOIN posted AS p USING (tenant_id, payee_id, currency)
FULL JOIN earned AS e USING (tenant_id, payee_id, currency), LATERAL (
    SELECT jsonb_build_object('balance', w.balance, 'locked', w.locked, 'paid', w.paid, 'earned', w.earned,
                              'commission', w.commission, 'cash_held', w.cash_held,
                              'free_earnings', coalesce(e.free, 0)) AS has,
           jsonb_build_object('balance', coalesce(p.balance, 0), 'locked', coalesce(p.locked, 0), 'paid', coalesce(p.paid, 0),
                              'earned', coalesce(e.earned, 0), 'commission', coalesce(e.commission, 0),
                              'cash_held', coalesce(e.cash_held, 0), 'free_earnings', coalesce(p.balance, 0)) AS should
) AS compared
WHERE has <> should
"""
PAID_WITHIN_EARNED = """
WITH paid AS (
    SELECT tenant_id, payee_id, currency, sum(amount) AS paid FROM payouts WHERE status = 'disbursed'
    GROUP BY tenant_id, payee_id, currency
), earned AS (
    SELECT tenant_id, payee_id, currency, sum(net) AS earned FROM earnings GROUP BY tenant_id, payee_id, currency
)
SELECT tenant_id, 'payouts' AS table_name, payee_id || ' ' || currency AS key, jsonb_build_object('paid', p.paid) AS has,
       jsonb_build_object('paid', 'at most ' || coalesce(e.earned, 0)) AS should
FROM paid AS p LEFT JOIN earned AS e USING (tenant_id, payee_id, currency) WHERE p.paid > coalesce(e.earned, 0)
"""
PAYOUTS_COVERED = """
WITH locked AS (
    SELECT tenant_id, payout_id, sum(payable) AS amount, min(payee_id) AS payee_id, max(payee_id) AS other_payee,
           min(currency) AS currency, max(currency) AS other_currency
    FROM earnings WHERE payout_id IS NOT NULL GROUP BY tenant_id, payout_id
)
SELECT tenant_id, 'payouts' AS table_name, payout_id::text AS key, CASE WHEN p.status IS NOT NULL THEN has END AS has, should
FROM payouts AS p FULL JOIN locked AS l USING (tenant_id, payout_id), LATERAL (
    SELECT p.status IN ('requested', 'approved', 'disbursed') AS needs_cover
) AS known, LATERAL (
    SELECT jsonb_build_object('amount', CASE WHEN needs_cover THEN p.amount END, 'payee_id', p.payee_id,
                              'currency', p.currency, 'locks_earnings', needs_cover) AS has,
           jsonb_build_object('amount', l.amount,
                              'payee_id', coalesce(nullif(l.payee_id, p.payee_id), l.other_payee, p.payee_id),
                              'currency', coalesce(nullif(l.currency, p.currency), l.other_currency, p.currency),
                              'locks_earnings', l.amount IS NOT NULL) AS should
) AS compared
WHERE has <> should
"""
# Parts of an earning, split by payouts, sum to what was accrued; the first carries its id and its commission.
EARNINGS_TOLD = """
WITH kept AS (
    SELECT tenant_id, payment_id::text AS payment_id, payee_id, (array_agg(earning_id ORDER BY part))[1] AS earning_id,
           max(part) = count(*) AND min(part) = 1
           AND min(fleet_id) IS NOT DISTINCT FROM max(fleet_id) AND count(fleet_id) IN (0, count(*))
           AND min(currency) = max(currency) AND min(paid_at) = max(paid_at) AND min(accrued_at) = max(accrued_at)
           AND min(available_at) = max(available_at) AND min(commission_bp) = max(commission_bp) AS parts_agree,
           min(fleet_id) AS fleet_id, min(currency) AS currency, sum(gross) AS gross, sum(commission) AS commission,
           sum(net) AS net, sum(cash_held) AS cash_held, min(paid_at) AS paid_at, min(accrued_at) AS accrued_at,
           min(commission_bp) AS commission_bp, extract(epoch FROM min(available_at) - min(paid_at)) / 86400 AS delay
    FROM earnings GROUP BY tenant_id, payment_id, payee_id
), told AS (
    SELECT tenant_id, event #>> '{data,payment_id}' AS payment_id, event #>> '{data,payee_id}' AS payee_id,
           event -> 'data' AS data, created_at
    FROM outbox WHERE event ->> 'type' = 'earning-accrued'
)
SELECT tenant_id, 'earnings' AS table_name, payment_id || ' ' || payee_id AS key,
       CASE WHEN k.earning_id IS NOT NULL THEN has END AS has, CASE WHEN t.data IS NOT NULL THEN should END AS should
FROM kept AS k FULL JOIN told AS t USING (tenant_id, payment_id, payee_id)
LEFT JOIN LATERAL json_to_record(t.data) AS d (
    earning_id text, fleet_id text, currency text, gross bigint, commission bigint, amount bigint, cash_held bigint,
    paid_at timestamptz
) ON true, LATERAL (
    SELECT (k.commission_bp, k.delay) = (1000, 0) OR EXISTS (
        SELECT FROM commission_plans AS plan
        WHERE plan.tenant_id = k.tenant_id AND (plan.commission_bp, plan.delay_days) = (k.commission_bp, k.delay)
          AND (plan.fleet_id IS NULL OR plan.fleet_id = k.fleet_id) AND (plan.payee_id IS NULL OR plan.payee_id = k.payee_id)
    ) AS is_planned
) AS terms, LATERAL (
    SELECT jsonb_build_object('earning_id', k.earning_id, 'fleet_id', k.fleet_id, 'currency', k.currency, 'gross', k.gross,
                              'commission', k.commission, 'net', k.net, 'cash_held', k.cash_held, 'paid_at', k.paid_at,
                              'accrued_at', k.accrued_at, 'parts_agree', k.parts_agree, 'by_a_plan', is_planned,
                              'commission_by_its_rate', div(2 * k.gross * k.commission_bp + 10000, 20000)) AS has,
           jsonb_build_object('earning_id', d.earning_id, 'fleet_id', d.fleet_id, 'currency', d.currency, 'gross', d.gross,
                              'commission', d.commission, 'net', d.amount, 'cash_held', d.cash_held, 'paid_at', d.paid_at,
                              'accrued_at', t.created_at, 'parts_agree', true, 'by_a_plan', true,
                              'commission_by_its_rate', d.commission) AS should
) AS compared
WHERE k.earning_id IS NULL OR t.data IS NULL OR has <> should
"""
EARNINGS_POSTED = """
WITH posted AS (
    SELECT e.tenant_id, j.source_id AS payment_id, e.payee_id, e.currency, sum(e.amount) AS amount
    FROM entries AS e JOIN journals AS j USING (tenant_id, journal_id)
    WHERE j.kind IN ('payment', 'match') AND e.account IN ('wallet', 'commission')
    GROUP BY e.tenant_id, j.source_id, e.payee_id, e.currency
), earned AS (
    SELECT tenant_id, payment_id, payee_id, currency, sum(payable) AS amount
    FROM earnings GROUP BY tenant_id, payment_id, payee_id, currency
    UNION ALL
    SELECT tenant_id, payment_id, NULL, currency, sum(commission) FROM earnings GROUP BY tenant_id, payment_id, currency
)
SELECT coalesce(p.tenant_id, e.tenant_id) AS tenant_id, 'entries' AS table_name,
       'payment ' || coalesce(p.payment_id, e.payment_id) || ' ' || coalesce(p.payee_id, e.payee_id, 'commission') AS key,
       jsonb_build_object('posted', coalesce(p.amount, 0)) AS has, jsonb_build_object('posted', coalesce(e.amount, 0)) AS should
FROM posted AS p FULL JOIN earned AS e
     ON p.tenant_id = e.tenant_id AND p.payment_id = e.payment_id AND p.currency = e.currency
        AND coalesce(p.payee_id, '') = coalesce(e.payee_id, '')
WHERE coalesce(p.amount, 0) <> coalesce(e.amount, 0)
"""
SERVICE = "payouts"
CHECKS = (
    *event_log_checks(SERVICE),
    Check(SERVICE, "journals balance", "journals sum to zero per currency", JOURNALS_BALANCE),
    Check(SERVICE, "journals whole", "journals have all their lines", JOURNALS_WHOLE),
    Check(SERVICE, "wallets", "balances equal entries, earnings and what of them is free", WALLETS_SUM),
    Check(SERVICE, "paid within earned", "no payee was paid more than was earned", PAID_WITHIN_EARNED),
    Check(
        SERVICE,
        "payouts covered",
        "a payout's amount is that of its earnings, which no other payout has",
        PAYOUTS_COVERED,
    ),
    Check(SERVICE, "earnings told", "earnings, with all their parts, are what was accrued, by a plan", EARNINGS_TOLD),
    Check(SERVICE, "earnings posted", "entries of payments equal their earnings", EARNINGS_POSTED),
)
