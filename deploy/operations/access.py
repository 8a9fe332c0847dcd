"""How an operator's command reaches the databases and the broker: by the environment, else by the local stack's secrets."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import asyncpg

from deploy.databases import SERVICES, service_database, url_as
from deploy.errors import StackError
from deploy.running_stack import running_stack
from deploy.stack_secrets import read_or_make_secrets
from deploy.state import state_folder
from shared.db import CALL_LIMIT_S, LIMITS, PLANS, Connection

Role = Literal["owner", "app", "system", "auditor"]
SETTINGS_OF: Mapping[Role, str] = {
    "owner": "OWNER_DATABASE_URL",
    "app": "DATABASE_URL",
    "system": "SYSTEM_DATABASE_URL",
    "auditor": "AUDITOR_DATABASE_URL",
}
# What a command holds must not outlive its host by hours.
LINE_LIMITS = {name: value for name, value in LIMITS.items() if name.startswith("tcp_")}
SHUT_DOWN = (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
CLOCK = "SELECT clock_timestamp()"  # of the server: the operator's own may be off


def database_url(service: str, role: Role) -> str:
    """What the service's setting of this role names, else the running stack's. StackError when there is neither.

    Where any of these settings is there, the running stack is not asked: a command must not work on two databases.
    """
    if any(os.environ.get(f"{each.upper()}_{kind}") for each in SERVICES for kind in SETTINGS_OF.values()):
        name = f"{service.upper()}_{SETTINGS_OF[role]}"
        if not (given := os.environ.get(name)):
            raise StackError(f"{name} is not set, and other database URLs are")
        return given
    server, database = running_stack()["postgres"]["url"], service_database(service)
    account = getattr(database, role)
    return url_as(server, database.database, account, read_or_make_secrets(state_folder()).passwords[account])


@asynccontextmanager
async def connected(
    service: str, role: Role, *, command: str, limit_s: float | None = None, settings: Mapping[str, str] = PLANS
) -> AsyncIterator[Connection]:
    """A connection of `takings <command>` whose statements take `limit_s` at most.

    Raises StackError when the database cannot be reached, goes away meanwhile, or does not answer in time.
    """
    url = database_url(service, role)
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
