"""What the auditor role may read: all tenants' rows."""

from alembic import op

from shared import tables

revision = "0002"
down_revision = "0001"
SERVICE = "reporting"
TABLES = ("tenants", "payments", "earnings", "payouts", "daily_rollups", "payee_balances")


def upgrade() -> None:
    """Add policies and grants."""
    op.execute("SET lock_timeout = '5s'")
    for table in TABLES:
        op.execute(tables.audited(table, SERVICE))


def downgrade() -> None:
    """There is no way back: restore a backup instead."""
    raise RuntimeError("restore a backup instead")
