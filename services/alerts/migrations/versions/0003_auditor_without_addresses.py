"""The auditor sees who is mailed by fingerprints only, as the audit trail has them."""

from alembic import op

revision = "0003"
down_revision = "0002"
FINGERPRINT = "left(encode(sha256(convert_to({}, 'UTF8')), 'hex'), 12)"
NARROWED = {
    "alert_rules": "tenant_id, rule_id, kind, thresholds, cooldown_seconds, enabled, created_at, updated_at",
    "deliveries": "tenant_id, alert_id, rule_id, status, created_at, sent_at",
    "mail_queues": "tenant_id, rule_id, waiting_since, not_before, last_sent_at, attempts, last_error",
}
# Views read as their owner, whom row-level security shows the tenants of `app.tenant` only.
VIEWS = f"""
CREATE VIEW audited_rules AS
SELECT {NARROWED["alert_rules"]}, (
    SELECT coalesce(jsonb_agg({FINGERPRINT.format("address")} ORDER BY position), '[]')
    FROM unnest(recipients) WITH ORDINALITY AS listed (address, position)
) AS recipients
FROM alert_rules;

CREATE VIEW audited_deliveries AS
SELECT {NARROWED["deliveries"]}, error IS NOT NULL AS has_error, {FINGERPRINT.format("recipient")} AS recipient
FROM deliveries;

CREATE VIEW audited_mail_queues AS
SELECT {NARROWED["mail_queues"]}, {FINGERPRINT.format("recipient")} AS recipient
FROM mail_queues;

GRANT SELECT ON audited_rules, audited_deliveries, audited_mail_queues TO alerts_auditor;
"""  # noqa: S608 - DDL, of constants


def upgrade() -> None:
    """Narrow the grants, add the views."""
    op.execute("SET lock_timeout = '5s'")
    for table, columns in NARROWED.items():
        op.execute(f"REVOKE ALL ON {table} FROM alerts_auditor")
        op.execute(f"GRANT SELECT ({columns}) ON {table} TO alerts_auditor")
    op.execute(VIEWS)


def downgrade() -> None:
    """There is no way back: restore a backup instead."""
    raise RuntimeError("restore a backup instead")
