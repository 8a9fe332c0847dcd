"""Creates the databases and roles of the four services; safe to run again, and by two at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import asyncpg

from deploy.errors import StackError

SERVICES = ("payments", "payouts", "reporting", "alerts")
OLDEST_POSTGRES = 15  # since then nobody but a database's owner creates in its schema "public"

LOCK = "SELECT pg_advisory_lock(hashtext('takings provision'))"
ROLE_EXISTS = "SELECT true FROM pg_roles WHERE rolname = $1"
DATABASE_EXISTS = "SELECT true FROM pg_database WHERE datname = $1"
# The server quotes names and passwords into these, so that neither can end a statement.
CREATE_ROLE = "SELECT format('CREATE ROLE %I', $1::text)"
SET_ROLE = """
SELECT format(
  'ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD %L', $1::text, $2::text
)
"""
CREATE_DATABASE = (
    "SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8''', $1::text, $2::text)"
)
CLOSE_DATABASE = "SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $1::text)"
OPEN_DATABASE = "SELECT format('GRANT CONNECT ON DATABASE %I TO %I', $1::text, $2::text)"


@dataclass(frozen=True)
class ServiceDatabase:
    """The database of a service and its four roles: one owns it and migrates, two work in it, one only reads."""

    service: str
    database: str
    owner: str
    app: str
    system: str
    auditor: str

    @property
    def roles(self) -> tuple[str, str, str, str]:
        """The four roles."""
        return self.owner, self.app, self.system, self.auditor


def service_databases(names: Mapping[str, str] | None = None) -> tuple[ServiceDatabase, ...]:
    """The databases of the four services; `names` (service → database) gives some of them another name.

    Roles belong to the whole server and always have their usual names: `payments_owner`, `payments_app`, ….
    """
    return tuple(
        ServiceDatabase(
            name,
            (names or {}).get(name, name),
            *(f"{name}_{role}" for role in ("owner", "app", "system", "auditor")),
        )
        for name in SERVICES
    )


def service_database(service: str) -> ServiceDatabase:
    """The database of one service."""
    return next(database for database in service_databases() if database.service == service)


def role_names() -> tuple[str, ...]:
    """All sixteen roles."""
    return tuple(role for database in service_databases() for role in database.roles)


def url_as(server_url: str, database: str, user: str, password: str) -> str:
    """`server_url` with another database, user and password."""
    parts = urlsplit(server_url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(
        netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{place}", path=f"/{quote(database, safe='')}"
    ).geturl()


def database_url(server_url: str, database: str) -> str:
    """`server_url` with another database, as the same user."""
    return urlsplit(server_url)._replace(path=f"/{quote(database, safe='')}").geturl()


async def provision(
    superuser_url: str, passwords: Mapping[str, str], *, names: Mapping[str, str] | None = None
) -> None:
    """Create what is missing, set every role's password and attributes, and shut the databases to all other roles.

    `passwords` maps each of `role_names()` to its password. StackError when the server is too old or refuses.
    """
    try:
        conn = await asyncpg.connect(superuser_url)
    except (OSError, asyncpg.PostgresError) as error:
        raise StackError(f"cannot reach PostgreSQL as its superuser: {error}") from None
    try:
        if conn.get_server_version().major < OLDEST_POSTGRES:
            raise StackError(
                f"PostgreSQL {OLDEST_POSTGRES} or newer is needed, this is {conn.get_server_version().major}"
            )
        await conn.execute(LOCK)  # released with the connection
        for database in service_databases(names):
            await _provision_one(conn, database, passwords)
    except asyncpg.PostgresError as error:
        raise StackError(f"provisioning failed: {error}") from error
    finally:
        await conn.close()


async def _provision_one(
    conn: "asyncpg.Connection[asyncpg.Record]", database: ServiceDatabase, passwords: Mapping[str, str]
) -> None:
    for role in database.roles:
        if not await conn.fetchval(ROLE_EXISTS, role):
            await conn.execute(await conn.fetchval(CREATE_ROLE, role))
        await conn.execute(await conn.fetchval(SET_ROLE, role, passwords[role]))
    if not await conn.fetchval(DATABASE_EXISTS, database.database):
        await conn.execute(await conn.fetchval(CREATE_DATABASE, database.database, database.owner))
    await conn.execute(await conn.fetchval(CLOSE_DATABASE, database.database))
    for role in database.roles:
        await conn.execute(await conn.fetchval(OPEN_DATABASE, database.database, role))
