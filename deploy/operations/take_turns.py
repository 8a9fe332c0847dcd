"""Who proves a database and who rebuilds it keep out of each other's way: checks go together, a rebuild goes alone."""

import asyncio

from deploy.errors import StackError
from shared.db import Connection

LOCK = 5_220_417  # any number, the same for all who take turns in one database
TOGETHER = "SELECT pg_try_advisory_lock_shared($1)"
ALONE = "SELECT pg_try_advisory_lock($1)"
# The server takes a moment to notice that somebody has been killed.
TRIES = 10
PAUSE_S = 0.3


async def keep_rebuilds_out(conn: Connection, service: str) -> None:
    """Until `conn` ends no rebuild of `service` begins. Raises StackError while one is under way."""
    await _take(
        conn, TOGETHER, f"a rebuild of {service} is under way: nothing was checked, try again when it has ended"
    )


async def keep_all_out(conn: Connection, service: str) -> None:
    """Until `conn` ends neither a rebuild nor a check of `service` begins. Raises StackError while one is under way."""
    await _take(conn, ALONE, f"a rebuild or a check of {service} is under way already: try again when it has ended")


async def _take(conn: Connection, turn: str, refusal: str) -> None:
    for _ in range(TRIES):
        if await conn.fetchval(turn, LOCK):
            return
        await asyncio.sleep(PAUSE_S)
    raise StackError(refusal)
