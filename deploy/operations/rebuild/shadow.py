"""A second schema in a service's database, made by its own migrations, whose tables can take the place of the live ones."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncpg

from deploy.errors import StackError
from deploy.operations.access import connected, database_url
from deploy.operations.rebuild.differences import ComparedTable
from deploy.operations.take_turns import keep_all_out
from shared.db import PLANS, Connection, Database
from shared.migrations import newest_version, upgrade

SCHEMA = "rebuild"
SETTINGS = {"TimeZone": "UTC", **PLANS}
# While writers wait, a rebuild that hangs, or hangs on somebody, is ended by the server.
ENDED_AFTER = "10s"
OWNER_SETTINGS = {**SETTINGS, "lock_timeout": ENDED_AFTER, "idle_in_transaction_session_timeout": ENDED_AFTER}
TRIES = 40
# For all the tables together.
WAIT_FOR_WRITERS = "2s"
# Less than deadlock_timeout: readers are never the ones who are sent away.
WAIT_FOR_READERS = "500ms"
WAIT_FOR_AUTOVACUUM = "5s"
PAUSE_S = 0.25

VERSION = "SELECT version_num FROM public.alembic_version"
DROP = "DROP SCHEMA IF EXISTS rebuild, retired CASCADE"
CREATE = "CREATE SCHEMA rebuild"
OPEN = "SELECT format('GRANT USAGE ON SCHEMA rebuild TO %I, %I', $1::text, $2::text)"
# Writers wait, readers go on.
STOP_WRITERS = """
SELECT format('LOCK TABLE %s IN EXCLUSIVE MODE', string_agg(format('public.%I', t), ', ')) FROM unnest($1::text[]) AS t
"""
STOP_READERS = """
SELECT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', string_agg(format('public.%I', t), ', ')) FROM unnest($1::text[]) AS t
"""
# Keeps autovacuum out, which gives way to a lock that waits for longer than deadlock_timeout; the last events still go in.
CLAIM_NEW = """
SELECT format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', string_agg(format('rebuild.%I', t), ', '))
FROM unnest($1::text[]) AS t
"""
RETIRE = "SELECT format('ALTER TABLE public.%I SET SCHEMA retired', $1::text)"
INSTALL = "SELECT format('ALTER TABLE rebuild.%I SET SCHEMA public', $1::text)"
ANALYZE = "SELECT format('ANALYZE rebuild.%I', $1::text)"


@dataclass
class Shadow:
    """The schema while it is being filled; `db` reaches its tables as the service reaches the live ones."""

    service: str
    owner: Connection = field(repr=False)
    auditor: Connection = field(repr=False)  # sees what the live tables have of all tenants
    db: Database
    tables: Sequence[ComparedTable]  # in the order in which the service locks them
    is_swapped: bool = False

    @property
    def names(self) -> list[str]:
        """The tables that take the place of the live ones."""
        return [table.name for table in self.tables]

    @asynccontextmanager
    async def writers_stopped(self) -> AsyncIterator[None]:
        """A transaction of the owner, throughout which the live tables stay as they are; kept only when they are swapped.

        Raises StackError when writers never pause, and when they would wait for too long.
        """
        ending = await self._locked()
        try:
            yield
        except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as error:
            await ending.rollback()
            raise StackError(f"writers of {self.service} would wait too long ({error}): nothing was changed") from None
        except BaseException:
            await ending.rollback()
            raise
        await (ending.commit() if self.is_swapped else ending.rollback())

    async def _locked(self) -> asyncpg.transaction.Transaction:
        for _ in range(TRIES):
            ending = self.owner.transaction()
            await ending.start()
            try:
                await self._claim_new()
                await self._lock(STOP_WRITERS, WAIT_FOR_WRITERS)
            except (asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError):
                # A batch of the consumer takes its time.
                await ending.rollback()
                await asyncio.sleep(PAUSE_S)
            except BaseException:
                await ending.rollback()
                raise
            else:
                return ending
        raise StackError(f"the writers of {self.service} never pause: nothing was changed, try again")

    async def swap(self) -> None:
        """Put the tables in the place of the live ones, in the owner's transaction. Raises StackError."""
        await _refuse_other_version(self.owner, self.service)
        for _ in range(TRIES):
            try:
                async with self.owner.transaction():  # a savepoint: giving up lets the readers go on
                    await self._lock(STOP_READERS, WAIT_FOR_READERS)
                break
            except asyncpg.QueryCanceledError:
                await asyncio.sleep(PAUSE_S)
        else:
            raise StackError(f"{self.service} is being read without a pause: nothing was changed, try again")
        await self.owner.execute("CREATE SCHEMA retired")
        for name in self.names:
            await self.owner.execute(await self.owner.fetchval(RETIRE, name))
            await self.owner.execute(await self.owner.fetchval(INSTALL, name))
        self.is_swapped = True

    async def _claim_new(self) -> None:
        """Nobody is to be waited for at the new tables once writers wait."""
        try:
            await self._lock(CLAIM_NEW, WAIT_FOR_AUTOVACUUM)
        except asyncpg.QueryCanceledError:
            raise StackError("the new tables are being vacuumed: nothing was changed, try again") from None

    async def _lock(self, tables: str, limit: str) -> None:
        """Take all the locks in that time, in which whoever comes later waits behind; else raises QueryCanceledError."""
        statement = await self.owner.fetchval(tables, self.names)
        await self.owner.execute(f"SET LOCAL statement_timeout = '{limit}'")  # lock_timeout would count for each table
        await self.owner.execute(statement)
        await self.owner.execute(f"SET LOCAL statement_timeout = '{ENDED_AFTER}'")


@asynccontextmanager
async def shadow(service: str, tables: Sequence[ComparedTable]) -> AsyncIterator[Shadow]:
    """An empty shadow of `service`; what an earlier run left is dropped, and so is this one in the end.

    Raises StackError when another one is being filled, and when the database is of another version than this program.
    """
    db = Database(_in_schema(database_url(service, "app"), "search_path"), "takings rebuild", size=2)
    async with (
        connected(service, "owner", command="rebuild", settings=OWNER_SETTINGS) as owner,
        connected(service, "auditor", command="rebuild", settings=SETTINGS) as auditor,
    ):
        await keep_all_out(owner, service)
        await _refuse_other_version(owner, service)
        async with _dropped_afterwards(owner, db):
            await owner.execute(CREATE)
            await owner.execute(await owner.fetchval(OPEN, f"{service}_app", f"{service}_auditor"))
            url = _in_schema(database_url(service, "owner"), "options", "-csearch_path%3D")
            await asyncio.to_thread(upgrade, f"services.{service}", url)
            yield Shadow(service, owner, auditor, db, tables)


async def _refuse_other_version(owner: Connection, service: str) -> None:
    has, makes = await owner.fetchval(VERSION), newest_version(f"services.{service}")
    if has != makes:
        raise StackError(
            f"the database of {service} is of version {has}, and this program makes tables of version {makes}: "
            f"nothing was changed, rebuild with what {service} itself runs"
        )


@asynccontextmanager
async def _dropped_afterwards(owner: Connection, db: Database) -> AsyncIterator[None]:
    await _drop(owner)
    try:
        yield
    finally:
        await db.close()
        with suppress(StackError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # else the next run drops it
            await _drop(owner)


async def _drop(owner: Connection) -> None:
    """Drop what a rebuild leaves. What refers to a live table is dropped under a lock of that table: never wait long for it."""
    for _ in range(TRIES):
        try:
            async with owner.transaction():
                await owner.execute(f"SET LOCAL lock_timeout = '{WAIT_FOR_READERS}'")
                await owner.execute(DROP)
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(PAUSE_S)
        else:
            return
    raise StackError("the tables of an earlier rebuild cannot be dropped while others are being read: try again later")


async def analyze(shadow: Shadow) -> None:
    """Let the planner know the new tables before anybody asks for them."""
    for name in shadow.names:
        await shadow.owner.execute(await shadow.owner.fetchval(ANALYZE, name))


def _in_schema(url: str, parameter: str, prefix: str = "") -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameter}={prefix}{SCHEMA}"
