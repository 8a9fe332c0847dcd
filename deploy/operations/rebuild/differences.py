"""In what a table and the one that was made anew differ: all of it without a lock, and the suspects again under it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.operations.check.findings import MOST_NAMED, PAGE, difference
from shared.db import Connection, bind_tenants

SUSPECTS_LIMIT = 100_000


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
        SELECT {key} FROM {live} AS live FULL JOIN {made} AS made USING ({key})
        WHERE ROW(live.*) IS DISTINCT FROM ROW(made.*) ORDER BY {self._lacks} DESC
        """  # noqa: S608 - of constants

    @property
    def at_keys(self) -> str:
        """What differs of the keys $1, $2, …"""
        live, made = self._both
        key = ", ".join(self.key)
        given = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(self.key.values(), 1))
        return f"""
        SELECT {key}, to_jsonb(live)::text AS has, to_jsonb(made)::text AS should, {self._lacks} AS is_lacking
        FROM unnest({given}) AS suspect ({key}) LEFT JOIN {live} AS live USING ({key}) LEFT JOIN {made} AS made USING ({key})
        WHERE ROW(live.*) IS DISTINCT FROM ROW(made.*)
        """  # noqa: S608 - of constants


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


Suspects = dict[str, list[tuple[Any, ...]]]


async def suspects_in(auditor: Connection, tables: Sequence[ComparedTable]) -> Suspects:
    """The keys of the rows that differ now, also those that are only on their way."""
    return {table.name: [row async for row in _keys(auditor, table)] for table in tables}


async def _keys(auditor: Connection, table: ComparedTable) -> AsyncIterator[tuple[Any, ...]]:
    async with auditor.transaction(isolation="repeatable_read", readonly=True):
        cursor = await auditor.cursor(table.everywhere)
        found = 0
        while (rows := await cursor.fetch(PAGE)) and found < SUSPECTS_LIMIT:
            found += len(rows)
            for row in rows:
                yield tuple(row)


async def differences_at(owner: Connection, tables: Sequence[ComparedTable], suspects: Suspects) -> Differences:
    """Which of the suspects still differ, in the open transaction of `owner`."""
    found = Differences()
    for table in tables:
        keys = suspects[table.name]
        if not keys:
            continue
        await bind_tenants(owner, {key[0] for key in keys})
        rows = await owner.fetch(table.at_keys, *map(list, zip(*keys, strict=True)))
        rows.sort(key=lambda row: not row["is_lacking"])
        found.counts[table.name] = len(rows)
        if lacking := sum(row["is_lacking"] for row in rows):
            found.lacking[table.name] = lacking
        for row in rows[:MOST_NAMED]:
            key = " ".join(str(value) for value in tuple(row)[: len(table.key)])
            found.lines.append(f"{table.name} {key}: {difference(row['has'], row['should'])}")
    return found
