"""PostgreSQL: a pool, transactions bound to their tenants, and which errors pass by themselves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import msgspec

from shared.errors import Unavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

# Every call ends: a stalled server or network must not hold a caller for longer than this.
CALL_LIMIT_S = 5.0
# Who has waited longer for a connection is put off: with hardly any of its time left a call would only spoil the connection
# that it gets, and after a stall one caller after the other would.
CONNECTION_LIMIT_S = 2.5
# For a call of its own, which keeps a connection but nobody else waiting: consumers hold rows for as long as a batch takes,
# which is no reason to be put off. Who shares a transaction waits for less.
LOCK_LIMIT_MS = 2_500
# A plan that is kept from when its table was empty would read all of it later, and one for any arguments cannot leave out
# the filters that are not set: planning each time costs a fraction of a millisecond and is right. What is hot lies in
# memory: at the default price of a random page, a batch of 500 keys would be looked up by reading the whole table.
PLANS = {"jit": "off", "plan_cache_mode": "force_custom_plan", "random_page_cost": "1.1"}
# What the server does by itself about a client that has gone without a word: its locks must not outlive it by hours.
LIMITS = {
    "statement_timeout": "5000",
    "idle_in_transaction_session_timeout": "5000",
    "tcp_user_timeout": "4000",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
}
RACE_LIMIT = 5
BEGIN = "BEGIN"
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
DURABILITY = """
SELECT name FROM pg_settings
WHERE (name IN ('fsync', 'full_page_writes', 'data_checksums') AND setting <> 'on')
   OR (name = 'synchronous_commit' AND setting NOT IN ('on', 'remote_apply'))
"""
# What lies in the server, not in the statement: connection, read-only after a failover, roles and passwords being changed,
# a database that is away or closed or locked, rollback, resources (disk full), operator intervention, system error; and a
# missing right, table, column or function: the migration is still to come, and no event is to blame for that.
TRANSIENT_STATES = ("08", "25006", "28", "3D", "40", "42501", "42P01", "42703", "42883", "53", "55", "57", "58")


class ConcurrentWrite(Exception):
    """Another transaction wrote the same new row first; run again and it will be seen."""


RACES_LOST = (
    ConcurrentWrite,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)
# Others work with the same rows, or the statement is too much for its time: what a smaller call need not meet.
HELD_UP = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
Result = TypeVar("Result")
_encode = msgspec.json.Encoder().encode


class UnsafeServer(Exception):
    """The server does not keep what it has acknowledged."""


TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConcurrentWrite,
    Unavailable,
)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later, unchanged."""
    if isinstance(error, asyncpg.PostgresError):
        return str(getattr(error, "sqlstate", "") or "").startswith(TRANSIENT_STATES)
    return isinstance(error, TRANSIENT)


@dataclass(slots=True)
class Database:
    """One database through one role. Nothing is connected before it is needed, so a server that is down stops no start."""

    dsn: str = field(repr=False)
    application: str
    size: int = 8
    _pool: Pool | None = None
    _expired_at: float = 0.0

    async def pool(self) -> Pool:
        """The pool, opened at the first call."""
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                self.dsn,
                min_size=0,
                max_size=self.size,
                command_timeout=CALL_LIMIT_S,
                timeout=CALL_LIMIT_S,
                reset=_nothing_to_reset,
                server_settings={"application_name": self.application, **PLANS, **LIMITS},
            )
        await self._pool  # opening twice at once is one opening
        return self._pool

    @asynccontextmanager
    async def transaction(
        self, *tenants: str, snapshot: bool = False, lock_limit_ms: int | None = None
    ) -> AsyncIterator[Connection]:
        """A transaction that sees the rows of `tenants` only; committed when the block ends well, over within 5 s.

        With `snapshot` it only reads, and all its statements see the same moment. It waits for a lock at most
        `lock_limit_ms`, for a connection at most 2.5 s. Raises TimeoutError.
        """
        pool, clock = await self.pool(), asyncio.get_running_loop().time
        started = clock()
        async with asyncio.timeout(CONNECTION_LIMIT_S) as limit:
            conn = await pool.acquire()
            acquired_at = clock()
            try:
                limit.reschedule(started + CALL_LIMIT_S)
                try:
                    await conn.execute(f"{BEGIN_SNAPSHOT if snapshot else BEGIN}; {_binding(tenants, lock_limit_ms)}")
                    yield conn
                except (TimeoutError, asyncio.CancelledError):
                    raise
                except BaseException:
                    await _roll_back(conn)
                    raise
                if await conn.execute("COMMIT") != "COMMIT":  # the server says ROLLBACK, and no more than that
                    raise asyncpg.InFailedSQLTransactionError(
                        "a statement's error was passed over: nothing is committed"
                    )
            except (TimeoutError, asyncio.CancelledError):
                conn.terminate()  # a ROLLBACK through a line that is dead would wait once more
                if acquired_at >= self._expired_at:  # where one line is dead all may be: the next calls make new ones
                    self._expired_at = clock()
                    await pool.expire_connections()
                raise
            finally:
                await pool.release(conn)

    async def run(
        self, call: Callable[[Connection], Awaitable[Result]], *tenants: str, lock_limit_ms: int | None = None
    ) -> Result:
        """`call` in a transaction as above; run again, a few times, when it lost a race that it cannot lose twice."""
        async with asyncio.timeout(CALL_LIMIT_S):
            for _ in range(RACE_LIMIT - 1):
                try:
                    async with self.transaction(*tenants, lock_limit_ms=lock_limit_ms) as conn:
                        return await call(conn)
                except RACES_LOST:
                    continue
            async with self.transaction(*tenants, lock_limit_ms=lock_limit_ms) as conn:
                return await call(conn)

    async def refuse_unsafe_server(self) -> None:
        """Raises UnsafeServer when the server could lose what it has acknowledged."""
        pool = await self.pool()
        async with pool.acquire(timeout=CALL_LIMIT_S) as conn:
            off = [row["name"] for row in await conn.fetch(DURABILITY)]
        if off:
            raise UnsafeServer(
                f"PostgreSQL has {', '.join(off)} off; only UNSAFE_DURABILITY_FOR_TESTS=true starts there"
            )

    async def close(self) -> None:
        """Close the pool, waiting a moment for what is under way."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(2):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
        self._pool = None


async def _roll_back(conn: Connection) -> None:
    # Who called learns what went wrong first, also where this fails as well because the connection has gone.
    try:
        if conn.is_in_transaction():
            await conn.execute("ROLLBACK")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        with suppress(asyncpg.InterfaceError):
            conn.terminate()


async def bind_tenants(conn: Connection, tenants: Iterable[str]) -> None:
    """Make the rows of `tenants` the only ones that the open transaction sees."""
    await conn.execute(_binding(tenants, None))


def _binding(tenants: Iterable[str], lock_limit_ms: int | None) -> str:
    # Without arguments it can be sent together with BEGIN. As hexadecimal digits no name can end its literal.
    names = ",".join(sorted(set(tenants))).encode().hex()
    binding = f"SELECT set_config('app.tenant', convert_from(decode('{names}', 'hex'), 'UTF8'), true)"
    return binding if lock_limit_ms is None else f"{binding}, set_config('lock_timeout', '{lock_limit_ms:d}', true)"


def as_rows(rows: Sequence[Any]) -> str:
    """Structs, dataclasses or dicts as the argument of a `json_to_recordset`, whose columns take the fields of their names.

    The way in for whole rows: of arrays the driver looks at each element several times, which costs ten times as much.
    """
    return _encode(rows).decode()


async def _nothing_to_reset(_conn: Any) -> None:
    """Sessions keep no state (tenants are bound per transaction), so the pool's reset would be a round trip for nothing."""
