"""Audit rows are numbered by the database: the order of changes of a rule no longer hangs on callers' clocks."""

from alembic import op

from shared import tables

revision = "0004"
down_revision = "0003"
SERVICE = "alerts"


def upgrade() -> None:
    """Number the rows from now on."""
    op.execute("SET lock_timeout = '5s'")
    op.execute(tables.numbered_audit(SERVICE))


def downgrade() -> None:
    """There is no way back: restore a backup instead."""
    raise RuntimeError("restore a backup instead")
