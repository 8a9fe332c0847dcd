"""Writes of one transaction sent as one statement: each crossing to the server waits for its turn in two processes."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from shared.db import ConcurrentWrite, Connection

PARAMETER = re.compile(r"\$(\d+)")


class Write(NamedTuple):
    """A statement that writes, and its arguments. With `rows` it must return as many, or another transaction was faster."""

    statement: str
    args: tuple[Any, ...]
    rows: int | None = None


class NoTransaction(RuntimeError):
    """A write outside a transaction would be committed whether or not the others are."""


async def write(conn: Connection, *writes: Write | None) -> None:
    """Run `writes` in the open transaction; None is nothing to write. None of them sees what another one writes.

    They run in no order to rely on. At most one of them may wait for rows that are not locked yet: of two, another call
    could have the second one's rows and want the first one's.

    Raises NoTransaction, and ConcurrentWrite when a row was written by another transaction just now: run again.
    """
    if not conn.is_in_transaction():
        raise NoTransaction("writes need the transaction of their effect")
    wanted = [each for each in writes if each is not None]
    if not wanted:
        return
    statement = _as_one(tuple((each.statement, len(each.args), each.rows is not None) for each in wanted))
    counts = await conn.fetchrow(statement, *(arg for each in wanted for arg in each.args)) or ()
    expected = [each.rows for each in wanted if each.rows is not None]
    if any(count < rows for count, rows in zip(counts, expected, strict=True)):
        raise ConcurrentWrite("a row was written just now")


@lru_cache(maxsize=256)
def _as_one(writes: tuple[tuple[str, int, bool], ...]) -> str:
    parts, counts, given = [], [], 0
    for number, (statement, arg_count, is_counted) in enumerate(writes):
        if max(map(int, PARAMETER.findall(statement)), default=0) != arg_count:  # else it would get another one's
            raise TypeError(f"{arg_count} arguments do not fit {statement}")
        parts.append(f"write_{number} AS ({_numbered_after(given, statement)})")
        given += arg_count
        if is_counted:
            counts.append(f"(SELECT count(*) FROM write_{number})")  # noqa: S608 - a number
    return f"WITH {', '.join(parts)} SELECT {', '.join(counts)}"


def _numbered_after(given: int, statement: str) -> str:
    return PARAMETER.sub(lambda found: f"${int(found[1]) + given}", statement)
