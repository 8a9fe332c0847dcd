"""Only a failed payment says why it failed; rows from before are put right by the next versions, without a lock."""

from alembic import op

revision = "0006"
down_revision = "0005"
FAILURES = """
ALTER TABLE payments ADD CONSTRAINT payments_failure_check
CHECK (status = 'failed' OR (failure_code IS NULL AND failure_text IS NULL)) NOT VALID
"""
# The owner's, whom row-level security shows nothing else.
CLEANING = "CREATE POLICY cleaning ON payments TO CURRENT_USER USING (true) WITH CHECK (true)"


def upgrade() -> None:
    """Hold new rows to it, and open the table to the next versions."""
    op.execute("SET lock_timeout = '5s'")
    op.execute(FAILURES)
    op.execute(CLEANING)


def downgrade() -> None:
    """There is no way back: restore a backup instead."""
    raise RuntimeError("restore a backup instead")
