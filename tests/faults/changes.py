"""Which row of a table is changed and to what, by what else a fault may name it, and which changes nobody can see."""

# Which row is changed, where not any would do.
ROWS = {
    "payments.requests": "tenant_id = 'amka' AND request_id = 'trip-1'",
    "payments.payments": "tenant_id = 'amka' AND transaction_id = 't-1'",
    "payments.callbacks": "payment_id = (SELECT payment_id FROM payments WHERE (tenant_id, transaction_id) = ('amka', 't-1'))",
    "payments.outbox": "tenant_id = 'amka' AND event #>> '{data,transaction_id}' = 't-1'",
    "payments.idempotency_keys": "key = 'cash-1'",
    "payments.audit": "action = 'record-payment'",
    "payouts.outbox": "event ->> 'type' = 'payout-disbursed'",
    "payouts.payouts": "status = 'disbursed'",
    "payouts.audit": "action = 'request-payout'",
    "payouts.journals": "kind = 'payout-disbursed'",
    "payouts.entries": "(journal_id, line) IN (SELECT journal_id, max(line) FROM entries GROUP BY journal_id)",
    "payouts.earnings": "payout_id IS NOT NULL AND part = 1",
    "reporting.payments": "tenant_id = 'amka' AND transaction_id = 't-1'",
    "reporting.payouts": "status = 'disbursed'",
    "reporting.daily_rollups": "tenant_id = 'amka' AND dimension = 'payee'",
    "alerts.alerts": "status = 'acknowledged'",
    "alerts.audit": "action = 'rule-changed'",
    "alerts.alert_rules": "kind = 'high_value'",
    "alerts.subject_fleets": "fleet_id IS NOT NULL",
    "alerts.deliveries": "status = 'sent'",
    "alerts.mail_queues": "waiting_since IS NOT NULL AND last_sent_at IS NULL",
}
ANOTHER_JSON = """
CASE jsonb_typeof({0}) WHEN 'array' THEN {0} || '["overpaid"]'
ELSE coalesce({0}, '{{}}') || '{{"status": "x", "amount": 7, "name": "x", "enabled": false, "KES": 7}}' END
"""
ANOTHER = {
    "text": "coalesce({0}, '') || 'x'",
    "uuid": "gen_random_uuid()",
    "bigint": "{0} + 1000000",
    "integer": "{0} + 1",
    "smallint": "{0} + 1",
    "boolean": "NOT {0}",
    "date": "coalesce({0}, '2026-03-01') + 1",
    "timestamp with time zone": "coalesce({0}, '2026-03-01') + interval '1 hour'",
    "bytea": "'other'",
    "text[]": "{0} || '{{overpaid}}'::text[]",
    "jsonb": ANOTHER_JSON,
    "json": """regexp_replace({0}::text, '"amount": ?', '"amount":1')::json""",
}
# By these columns a fault names the row where another table's row, or the group that it is in, is at fault because of it.
NAMES = ("payment_id", "payout_id", "request_id", "key", "subject", "rule_id", "event_id", "journal_id", "alert_id",
         "source_id")  # fmt: skip
# And by these, which belong to no other row either: of a secret that is gone, and of an entry's journal.
MORE_NAMES = {
    "payments.gateway_secrets": "t.account_id",
    "payouts.entries": "(SELECT source_id FROM journals WHERE (tenant_id, journal_id) = (t.tenant_id, t.journal_id))::text",
}
# Kept once, and nothing else says the same; or a person or a secret is in it, and the auditor may not read it.
UNSEEN: dict[str, set[str]] = {
    "payments.audit": {"audit_id", "request_id", "actor"},
    "payments.callbacks": {"callback_id", "webhook_id", "body", "doubled"},  # a gateway may call twice
    "payments.gateway_secrets": {"secret_id", "encrypted"},
    "payments.idempotency_keys": {"caller", "key", "deleted", "doubled"},  # they are forgotten after days
    "payments.outbox": {"published_at"},
    "payments.payments": {"reference", "payer_name", "payer_phone"},
    "payments.requests": {"kind", "occurred_at", "client_name", "client_phone", "reference", "content_hash", "created_at",
                          "updated_at"},
    "payouts.audit": {"audit_id", "request_id"},
    "payouts.idempotency_keys": {"caller", "key", "deleted", "doubled"},
    "payouts.outbox": {"published_at"},
    "payouts.tenants": {"updated_at"},
    "reporting.tenants": {"updated_at"},
    "alerts.audit": {"audit_id", "request_id", "actor"},
    "alerts.inbox": {"claimed_at"},  # of an event that raised nothing
    "alerts.mail_queues": {"not_before", "attempts", "last_error"},
    "alerts.tenants": {"updated_at"},
}  # fmt: skip
