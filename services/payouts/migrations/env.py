"""Run by Alembic; see shared/migrations.py."""

from alembic import context

from shared.migrations import run

run(context.config)
