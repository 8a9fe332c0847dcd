"""Each service's schema as its migrations leave it, for reading and for the comparison in CI."""

import asyncio
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

from deploy.databases import provision, role_names, service_databases, url_as
from deploy.postgres import running_postgres
from deploy.postgres_folder import find_binaries
from shared.migrations import upgrade

HEADER = "-- Generated from the migrations by `make generate`; never edited.\n"
# Comments, session settings and the random guard lines of pg_dump say nothing about the schema.
NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\..*|\\(un)?restrict .*)\n", re.MULTILINE)


def dumped_schemas(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and SQL of each service's schema, from a real server in `folder`."""
    with running_postgres(folder / "postgres", durable=False) as server:
        passwords = {role: secrets.token_hex(8) for role in role_names()}
        asyncio.run(provision(server.url(), passwords))
        for database in service_databases():
            upgrade(
                f"services.{database.service}",
                url_as(server.url(), database.database, database.owner, passwords[database.owner]),
            )
            yield database.service, _dump(server.url(database.database))


def _dump(url: str) -> str:
    command = [str(find_binaries() / "pg_dump"), "--schema-only", "--no-owner", "--exclude-table=alembic_version", url]
    dumped = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return HEADER + re.sub(r"\n{3,}", "\n\n", NOISE.sub("", dumped)).strip() + "\n"
