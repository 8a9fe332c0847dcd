"""Every request is written again when it is paid: with room on its page, no index hears of it."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Leave room on new pages."""
    op.execute("SET lock_timeout = '5s'")
    op.execute("ALTER TABLE requests SET (fillfactor = 70)")


def downgrade() -> None:
    """Fill pages again."""
    op.execute("ALTER TABLE requests RESET (fillfactor)")
