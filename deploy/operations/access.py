"""How an operator's command reaches the databases and the broker: by the environment, else by the local stack's secrets."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import asyncpg

from deploy.databases import service_database, url_as
from deploy.errors import StackError
from deploy.running_stack import running_stack
from deploy.stack_secrets import read_or_make_secrets
from deploy.state import state_folder
from shared.db import CALL_LIMIT_S, LIMITS, PLANS, Connection

Role = Literal["owner", "app", "system", "auditor"]
# What a command holds must not outlive its host by hours.
LINE_LIMITS = {name: value for name, value in LIMITS.items() if name.startswith("tcp_")}
SHUT_DOWN = (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
CLOCK = "SELECT clock_timestamp()"  # of the server: the operator's own may be off


@dataclass(frozen=True)
class DatabaseAccess:
    """The URLs of one service's database, one per role."""

    service: str
    owner: str = field(repr=False)
    app: str = field(repr=False)
    system: str = field(repr=False)
    auditor: str = field(repr=False)


def database_access(service: str) -> DatabaseAccess:
    """What the service's *_DATABASE_URL settings name, else the running stack's. StackError when there is neither."""
    prefix = service.upper()
    names = {
        "owner": f"{prefix}_OWNER_DATABASE_URL",
        "app": f"{prefix}_DATABASE_URL",
        "system": f"{prefix}_SYSTEM_DATABASE_URL",
        "auditor": f"{prefix}_AUDITOR_DATABASE_URL",
    }
    given = {kind: os.environ.get(name, "") for kind, name in names.items()}
    if any(given.values()):
        missing = [names[kind] for kind, url in given.items() if not url]
        if missing:
            raise StackError(f"{', '.join(missing)} is not set, and other database URLs are")
        return DatabaseAccess(service, **given)
    server = running_stack()["postgres"]["url"]
    passwords = read_or_make_secrets(state_folder()).passwords
    database = service_database(service)
    urls = {
        kind: url_as(server, database.database, role, passwords[role])
        for kind, role in zip(names, database.roles, strict=True)
    }
    return DatabaseAccess(service, **urls)


@asynccontextmanager
async def connected(
    service: str, role: Role, *, command: str, limit_s: float | None = None, settings: Mapping[str, str] = PLANS
) -> AsyncIterator[Connection]:
    """A connection of `takings <command>` whose statements take `limit_s` at most.

    Raises StackError when the database cannot be reached, goes away meanwhile, or does not answer in time.
    """
    url = getattr(database_access(service), role)
    named = {"application_name": f"takings {command}", **LINE_LIMITS, **settings}
    try:
        conn = await asyncpg.connect(url, timeout=CALL_LIMIT_S, command_timeout=limit_s, server_settings=named)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StackError(
            f"cannot reach the database of {service} as its {role}: {str(error) or repr(error)}"
        ) from error
    try:
        yield conn
    except StackError:
        raise
    except Exception as error:
        if isinstance(error, TimeoutError):
            raise StackError(f"a database did not answer in time, that of {service} or one used beside it") from error
        if conn.is_closed() or isinstance(error, SHUT_DOWN):
            raise StackError(f"lost the database of {service}: {str(error) or repr(error)}") from error
        raise
    finally:
        conn.terminate()


def kafka_bootstrap() -> str:
    """What TAKINGS_KAFKA_BOOTSTRAP names, else the running stack's broker. StackError when there is neither."""
    given = os.environ.get("TAKINGS_KAFKA_BOOTSTRAP")
    return given or str(running_stack()["kafka"]["bootstrap"])
