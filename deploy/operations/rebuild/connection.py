"""How a rebuild is connected: as a named role, for as long as it takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from deploy.errors import StackError
from shared.db import CALL_LIMIT_S, PLANS, Connection

SETTINGS = {"application_name": "takings rebuild", "TimeZone": "UTC", **PLANS}


@asynccontextmanager
async def connection(url: str, service: str) -> AsyncIterator[Connection]:
    """A connection to the database of `service`. Raises StackError when there is none."""
    try:
        conn = await asyncpg.connect(url, timeout=CALL_LIMIT_S, server_settings=SETTINGS)
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        raise StackError(f"cannot reach the database of {service}: {error or repr(error)}") from None
    try:
        yield conn
    finally:
        conn.terminate()
