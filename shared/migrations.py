"""Alembic for one service: run as the owner, one at a time, and never waiting long for a lock on a busy table."""

from functools import cache
from pathlib import Path
from typing import Any

from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text

LOCK = 4_155_117  # any number, the same for all who migrate one database


def upgrade(package: str, owner_url: str, version: str = "head") -> None:
    """Bring the database behind `owner_url` to the newest `version` of `package` (for example `services.payments`)."""
    config = _config(package)
    config.attributes["url"] = owner_url.replace("postgresql://", "postgresql+psycopg://", 1)
    command.upgrade(config, version)


@cache
def newest_version(package: str) -> str | None:
    """The version to which `upgrade` would bring a database."""
    return ScriptDirectory.from_config(_config(package)).get_current_head()


def _config(package: str) -> Config:
    config = Config()
    root = Path(__file__).resolve().parent.parent
    config.set_main_option("script_location", str(root.joinpath(*package.split("."), "migrations")))
    return config


def run(config: Any) -> None:
    """What each service's `migrations/env.py` calls."""
    engine = create_engine(config.attributes["url"])
    try:
        _migrate(engine)
    finally:
        engine.dispose()


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        # Session level: it outlives the transactions of the versions and ends with the connection.
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        connection.commit()
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
