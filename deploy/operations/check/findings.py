"""A check is a statement that returns the rows at fault: what each has, and what it should have."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg
import msgspec

from shared.db import Connection

MOST_NAMED = 20
PAGE = 1_000
TENANTS = "SELECT tenant_id FROM tenants ORDER BY tenant_id"


class Check(NamedTuple):
    """`sql` returns tenant_id, table_name, key, has, should (JSON objects; null: there is no such row), one row a fault."""

    service: str
    name: str
    holds: str  # what is true when it finds nothing, in one line
    sql: str


class Fault(NamedTuple):
    """A row that is wrong, or one that is missing, and how."""

    tenant_id: str
    table_name: str
    key: str
    problem: str


@dataclass(slots=True)
class Outcome:
    """What a check has found: the first faults by name, the number of the rest as far as they were looked for."""

    service: str
    name: str
    holds: str
    faults: list[Fault] = field(default_factory=list)
    more: int = 0
    is_counted: bool = True  # else there may be more than `more`
    error: str | None = None  # the check could not be made
    took_s: float = 0.0

    @property
    def is_held(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults and self.error is None

    async def collect(
        self, found: AsyncIterator[Fault], snapshots: Iterable[Connection], *, is_counted: bool = True
    ) -> "Outcome":
        """Keep the first of what is `found` in `snapshots`; what cannot be read is an outcome too.

        The rest is counted, or else looking ends with the first one that is not kept.
        """
        began = time.monotonic()
        try:
            async with AsyncExitStack() as savepoints:  # the snapshots outlive a failure
                for conn in snapshots:
                    await savepoints.enter_async_context(conn.transaction())
                async for fault in found:
                    if len(self.faults) < MOST_NAMED:
                        self.faults.append(fault)
                        continue
                    self.more += 1
                    if not is_counted:
                        self.is_counted = False
                        break
        except (asyncpg.PostgresError, msgspec.MsgspecError, ValueError) as error:
            self.error = str(error)
        self.took_s = round(time.monotonic() - began, 3)
        return self


async def make(check: Check, conn: Connection) -> Outcome:
    """Make `check` in the open snapshot of `conn`."""
    return await Outcome(check.service, check.name, check.holds).collect(_faults(conn, check.sql), [conn])


async def _faults(conn: Connection, sql: str) -> AsyncIterator[Fault]:
    cursor = await conn.cursor(sql)
    while rows := await cursor.fetch(PAGE):
        for row in rows:
            yield Fault(row["tenant_id"], row["table_name"], row["key"], difference(row["has"], row["should"]))


def difference(has: str | None, should: str | None) -> str:
    """In words, how two JSON objects with the same names differ; None stands for a row that is not there."""
    if has is None:
        return "is missing" + (f": {should}" if should else "")
    if should is None:
        return f"nothing accounts for it: {has}"
    here, there = msgspec.json.decode(has), msgspec.json.decode(should)
    return ", ".join(
        f"{name} is {_shown(here.get(name))}, should be {_shown(there.get(name))}"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    )


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
