"""What the auditor role may read: all tenants' rows, without secrets, callbacks' bodies and people."""

from alembic import op

from shared import tables

revision = "0002"
down_revision = "0001"
SERVICE = "payments"
ACCOUNT_SECRETS = "tenant_id, account_id, secret_id, created_at, expires_at"
REQUESTS = """tenant_id, request_id, status, flags, kind, amount, paid, currency, occurred_at, client_id, fleet_id, route_id,
    vehicle_id, platform, payees, reference, content_hash, created_at, updated_at"""
PAYMENTS = """tenant_id, payment_id, account_id, transaction_id, request_id, status, flags, amount, applied, fee, currency,
    method, paid_at, reference, failure_code, failure_text, client_id, fleet_id, route_id, vehicle_id, platform, payees,
    recorded_at, updated_at"""
CALLBACKS = """tenant_id, callback_id, account_id, webhook_id, received_at, payment_id, handled_at, attempts, retry_at,
    error"""


def upgrade() -> None:
    """Add policies and grants."""
    op.execute("SET lock_timeout = '5s'")
    for table in ("tenants", "outbox", "audit", "gateway_accounts"):
        op.execute(tables.audited(table, SERVICE))
    op.execute(tables.audited_answers(SERVICE))
    op.execute(tables.audited("gateway_secrets", SERVICE, columns=ACCOUNT_SECRETS))
    op.execute(tables.audited("requests", SERVICE, columns=REQUESTS))
    op.execute(tables.audited("payments", SERVICE, columns=PAYMENTS))
    op.execute(tables.audited("callbacks", SERVICE, columns=CALLBACKS))


def downgrade() -> None:
    """There is no way back: restore a backup instead."""
    raise RuntimeError("restore a backup instead")
