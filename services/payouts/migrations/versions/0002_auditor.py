"""What the auditor role may read: all tenants' rows, without kept answers."""

from alembic import op

from shared import tables

revision = "0002"
down_revision = "0001"
SERVICE = "payouts"
TABLES = ("tenants", "outbox", "audit", "commission_plans", "wallets", "payouts", "earnings", "journals", "entries")


def upgrade() -> None:
    """Add policies and grants."""
    op.execute("SET lock_timeout = '5s'")
    for table in TABLES:
        op.execute(tables.audited(table, SERVICE))
    op.execute(tables.audited_answers(SERVICE))


def downgrade() -> None:
    """There is no way back: restore a backup instead."""
    raise RuntimeError("restore a backup instead")
