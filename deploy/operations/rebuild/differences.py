"""In what a table and the one that was made anew differ.

All of it is looked at without a lock; what differed again, when what was on its way has arrived, is wrong but for little,
and of that only the first few are looked at while writers wait.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg

from deploy.operations.check.findings import MOST_NAMED, PAGE, difference
from shared.db import Connection, bind_tenants

SUSPECTS_LIMIT = 100_000
LOOKED_AT = 2_000  # of each table, while writers wait


@dataclass(frozen=True)
class ComparedTable:
    """A table by name; `key` gives its key columns their types, `columns` the others that must be the same."""

    name: str
    key: dict[str, str]
    columns: tuple[str, ...]

    @property
    def _both(self) -> tuple[str, str]:
        columns = ", ".join((*self.key, *self.columns))
        return tuple(f"(SELECT {columns} FROM {schema}.{self.name})" for schema in ("public", "rebuild"))  # type: ignore[return-value]  # noqa: S608

    @property
    def _lacks(self) -> str:
        # A fact of a lower rank is one whose later event is gone.
        gone = "made.tenant_id IS NULL"
        return f"(live.tenant_id IS NOT NULL AND ({gone} OR made.rank < live.rank))" if "rank" in self.columns else gone

    @property
    def everywhere(self) -> str:
        """The keys of all that differs, of what the new table lacks first."""
        live, made = self._both
        key = ", ".join(self.key)
        return f"""
        SELECT {key}, {self._lacks} AS is_lacking FROM {live} AS live FULL JOIN {made} AS made USING ({key})
        WHERE ROW(live.*) IS DISTINCT FROM ROW(made.*) ORDER BY is_lacking DESC
        """  # noqa: S608 - of constants

    @property
    def at_keys(self) -> str:
        """Which of the keys $1, $2, … differ, what the new table lacks first."""
        key = ", ".join(self.key)
        return f"SELECT {key}, {self._lacks} AS is_lacking {self._differing_at_keys} ORDER BY is_lacking DESC"

    @property
    def in_words(self) -> str:
        """What differs of the keys $1, $2, …"""
        key = ", ".join(self.key)
        return f"SELECT {key}, to_jsonb(live)::text AS has, to_jsonb(made)::text AS should {self._differing_at_keys}"

    @property
    def _differing_at_keys(self) -> str:
        live, made = self._both
        key = ", ".join(self.key)
        given = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(self.key.values(), 1))
        return f"""
        FROM unnest({given}) AS suspect ({key}) LEFT JOIN {live} AS live USING ({key}) LEFT JOIN {made} AS made USING ({key})
        WHERE ROW(live.*) IS DISTINCT FROM ROW(made.*)
        """


class Suspect(NamedTuple):
    """The key of a row that differed when it was looked at, and whether the new table lacked it then."""

    key: tuple[Any, ...]
    is_lacking: bool


@dataclass(slots=True)
class Differences:
    """What was found: the number by table, how many of them the new table lacks, the first in words."""

    counts: dict[str, int] = field(default_factory=dict)
    lacking: dict[str, int] = field(default_factory=dict)  # or know an earlier state of; other tables are left out
    lines: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many rows differ."""
        return sum(self.counts.values())


Suspects = dict[str, list[Suspect]]  # by table, what the new one lacks first


async def suspects_in(auditor: Connection, tables: Sequence[ComparedTable]) -> Suspects:
    """The rows that differ now, also those that are only on their way."""
    return {table.name: [suspect async for suspect in _everywhere(auditor, table)] for table in tables}


async def still_suspect(auditor: Connection, tables: Sequence[ComparedTable], suspects: Suspects) -> Suspects:
    """Those of the suspects that differ also now."""
    still: Suspects = {}
    for table in tables:
        slices = range(0, len(suspects[table.name]), LOOKED_AT)
        found = [
            each for n in slices for each in await _at_keys(auditor, table, suspects[table.name][n : n + LOOKED_AT])
        ]
        still[table.name] = sorted(found, key=lambda suspect: not suspect.is_lacking)
    return still


async def differences_at(owner: Connection, tables: Sequence[ComparedTable], suspects: Suspects) -> Differences:
    """Which of the suspects differ in the open transaction of `owner`; those beyond LOOKED_AT as they were found before."""
    found = Differences()
    for table in tables:
        looked_at, others = suspects[table.name][:LOOKED_AT], suspects[table.name][LOOKED_AT:]
        if not looked_at:
            continue
        await bind_tenants(owner, {suspect.key[0] for suspect in looked_at})
        differing = await _at_keys(owner, table, looked_at)
        found.counts[table.name] = len(differing) + len(others)
        if lacking := sum(suspect.is_lacking for suspect in (*differing, *others)):
            found.lacking[table.name] = lacking
        for row in await _fetch(owner, table.in_words, differing[:MOST_NAMED]):
            key = " ".join(str(value) for value in tuple(row)[: len(table.key)])
            found.lines.append(f"{table.name} {key}: {difference(row['has'], row['should'])}")
    return found


async def _everywhere(auditor: Connection, table: ComparedTable) -> AsyncIterator[Suspect]:
    async with auditor.transaction(isolation="repeatable_read", readonly=True):
        cursor = await auditor.cursor(table.everywhere)
        found = 0
        while (rows := await cursor.fetch(PAGE)) and found < SUSPECTS_LIMIT:
            found += len(rows)
            for row in rows:
                yield _suspect(row)


async def _at_keys(conn: Connection, table: ComparedTable, suspects: Sequence[Suspect]) -> list[Suspect]:
    return [_suspect(row) for row in await _fetch(conn, table.at_keys, suspects)]


async def _fetch(conn: Connection, statement: str, suspects: Sequence[Suspect]) -> list[asyncpg.Record]:
    """What `statement` finds at the keys of `suspects`."""
    keys = [suspect.key for suspect in suspects]
    return await conn.fetch(statement, *map(list, zip(*keys, strict=True))) if keys else []


def _suspect(row: asyncpg.Record) -> Suspect:
    *key, is_lacking = tuple(row)
    return Suspect(tuple(key), is_lacking)
