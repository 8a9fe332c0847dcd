"""The audit trail of a service: every change once, and where the database numbers the rows, by numbers that it has given."""

from deploy.operations.check.findings import Check

AUDITED_TWICE = """
SELECT tenant_id, 'audit' AS table_name, string_agg(audit_id::text, ', ') AS key,
       jsonb_build_object('rows_of_change', count(*)) AS has, jsonb_build_object('rows_of_change', 1) AS should
FROM audit GROUP BY tenant_id, action, subject, at, before, after HAVING count(*) > 1
"""
# A number is taken from the sequence before its row is there, and the sequence is read as it is now: a snapshot shows no
# row above it. Rows of before the numbering have none: their ids, by their writers' clocks, are older than the first one's.
# Rows that were written at once have numbers in any order, and a transaction that failed leaves a gap: no more is known.
NUMBERED = """
WITH dated AS (
    SELECT tenant_id, audit_id, number, count(*) OVER (PARTITION BY number) AS times,
           ('x' || left(replace(audit_id::text, '-', ''), 12))::bit(48)::bigint AS written_ms
    FROM audit
), known AS (
    SELECT (SELECT last_value FROM audit_number) AS last, min(written_ms) + 600000 AS numbered_from_ms
    FROM dated WHERE number IS NOT NULL
)
SELECT tenant_id, 'audit' AS table_name, audit_id::text AS key, has, should
FROM dated, known, LATERAL (
    SELECT jsonb_build_object('number', number, 'rows_of_it', CASE WHEN number IS NOT NULL THEN times END) AS has,
           jsonb_build_object('number', CASE WHEN number BETWEEN 1 AND last THEN to_jsonb(number)
                                             WHEN number IS NOT NULL THEN to_jsonb('1 to ' || last)
                                             WHEN written_ms > numbered_from_ms THEN '"one of its own"' END,
                              'rows_of_it', CASE WHEN number IS NOT NULL THEN 1 END) AS should
) AS compared
WHERE has <> should
"""


def audited_once(service: str) -> Check:
    """That `service` has no row twice."""
    return Check(service, "audited once", "no change stands twice in the audit trail", AUDITED_TWICE)


def audit_numbered(service: str) -> Check:
    """That the numbers of `service` are those that its database has given."""
    return Check(service, "audit numbered", "audit rows have numbers of their own, given by the database", NUMBERED)
