"""Payments that did not fail lose the failure that a gateway once told with them; money moves on meanwhile."""

from alembic import op

revision = "0007"
down_revision = "0006"
CLEAN = """
UPDATE payments SET failure_code = NULL, failure_text = NULL
WHERE status <> 'failed' AND (failure_code IS NOT NULL OR failure_text IS NOT NULL)
"""


def upgrade() -> None:
    """Clean, under locks of the rows only."""
    op.execute("SET lock_timeout = '5s'")
    op.execute(CLEAN)


def downgrade() -> None:
    """There is no way back: restore a backup instead."""
    raise RuntimeError("restore a backup instead")
