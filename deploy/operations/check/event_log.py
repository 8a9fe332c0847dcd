"""The event log of a publisher: every row whole, said once, published in time; and the answers that were kept."""

from deploy.operations.check.findings import Check

ENVELOPES = """
SELECT tenant_id, 'outbox' AS table_name, id::text AS key, has, should
FROM outbox, LATERAL (
    SELECT jsonb_build_object('tenant_id', tenant_id, 'event_id', event_id, 'key', key, 'topic', topic,
                              'created_at', created_at, 'published_in_time', published_at >= created_at - interval '1 minute')
           AS has,
           jsonb_build_object('tenant_id', event ->> 'tenantid', 'event_id', event ->> 'id', 'key', event ->> 'subject',
                              'topic', CASE WHEN event ->> 'type' = 'tenant-configured' THEN 'tenants'
                                            WHEN event ->> 'type' LIKE 'payment-%' THEN 'payments' ELSE 'payouts' END,
                              'created_at', (event ->> 'time')::timestamptz,
                              'published_in_time', CASE WHEN published_at IS NOT NULL THEN true END) AS should
) AS said
WHERE has <> should
"""
EVENTS_TWICE = """
SELECT tenant_id, 'outbox' AS table_name, string_agg(id::text, ', ') AS key,
       jsonb_build_object('rows_of_event', count(*)) AS has, jsonb_build_object('rows_of_event', 1) AS should
FROM outbox GROUP BY tenant_id, event_id HAVING count(*) > 1
"""
# The steps of an aggregate are taken once each; an earning is a step of its payment.
STEPS_TWICE = """
SELECT tenant_id, 'outbox' AS table_name, string_agg(id::text, ', ') AS key,
       jsonb_build_object(type, count(*)) AS has, jsonb_build_object(type, 1) AS should
FROM outbox, LATERAL (SELECT event ->> 'type' AS type, event #>> '{data,version}' AS version) AS said
WHERE type <> 'earning-accrued'
GROUP BY tenant_id, key, type, version HAVING count(*) > 1
"""
UNPUBLISHED = """
SELECT tenant_id, 'outbox' AS table_name, id::text AS key, jsonb_build_object('published_at', NULL) AS has,
       jsonb_build_object('published_at', 'within a minute of ' || created_at) AS should
FROM outbox WHERE published_at IS NULL AND created_at < now() - interval '1 minute'
"""
ANSWERS = """
SELECT k.tenant_id, 'idempotency_keys' AS table_name, caller || ' ' || key AS key, has, should
FROM audited_answers AS k LEFT JOIN tenants AS t USING (tenant_id), LATERAL (
    SELECT jsonb_build_object('answered', status IN (200, 201) OR status BETWEEN 400 AND 499, 'tenant', t.tenant_id,
                              'hash_bytes', hash_bytes,
                              'from_the_future', created_at > now() + interval '1 minute') AS has,
           jsonb_build_object('answered', true, 'tenant', k.tenant_id, 'hash_bytes', 32, 'from_the_future', false) AS should
) AS kept
WHERE has IS DISTINCT FROM should
"""


def event_log_checks(service: str) -> tuple[Check, ...]:
    """The checks of `service`, a publisher."""
    return (
        Check(service, "envelopes", "outbox rows say what their events say", ENVELOPES),
        Check(service, "events once", "no event stands twice in the outbox", EVENTS_TWICE),
        Check(service, "steps once", "no step of a payment or payout is told twice", STEPS_TWICE),
        Check(service, "published", "no event waits for more than a minute to be published", UNPUBLISHED),
        Check(service, "answers", "every Idempotency-Key has its answer", ANSWERS),
    )
