"""Alembic's way in."""

from alembic import context

from shared.migrations import run

run(context.config)
