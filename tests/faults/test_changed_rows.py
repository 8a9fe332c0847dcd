"""A change of one row in any table, by someone with every right, is found by `takings check`.

Tables and columns come from the catalogue: a new one fails here until a change of it is found, or until it stands in UNSEEN.
"""

import json
import re
from contextlib import aclosing
from dataclasses import dataclass

import asyncpg
import pytest

from deploy.operations.check import comparisons
from deploy.operations.check.comparisons import compare
from deploy.operations.check.facts import FACTS
from deploy.operations.check.findings import make
from deploy.operations.check.raised import compare_alerts
from deploy.operations.check.run_checks import CHECKS, snapshots_of_all
from tests.faults.changes import ANOTHER, MORE_NAMES, NAMES, ROWS, UNSEEN
from tests.faults.seeds import seeded
from tests.faults.sizes import LONG, size
from tests.operations.conftest import populated, world  # noqa: F401 - fixtures
from tests.operations.world import SERVICES

# ruff: noqa: S608 - the names in these statements come from the catalogue
# ruff: noqa: F811 - the fixture's name again, as pytest wants it

TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'alembic_version' ORDER BY 1
"""
COLUMNS = """
SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
KEY = """
SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = $1::text::regclass AND i.indisprimary ORDER BY array_position(i.indkey::int[], a.attnum::int)
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text AS table_name, conname FROM pg_constraint
WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace
"""


@dataclass
class Table:
    """A table, and the row of it that is changed."""

    conn: asyncpg.Connection
    service: str
    name: str
    columns: dict[str, str]
    key: list[str]

    @property
    def full_name(self):
        return f"{self.service}.{self.name}"

    async def row(self, place=None):
        """Where the row is (at `place`, or the one to be changed), all that is in it, and its key in words."""
        key = ", ".join(f"{column}::text" for column in self.key)
        found = await self.conn.fetchrow(
            f"SELECT ctid::text AS place, to_jsonb(t)::text AS content, array[{key}] AS key, "
            f"{MORE_NAMES.get(self.full_name, 'NULL')} AS more FROM {self.name} AS t "
            f"WHERE CASE WHEN $1::text IS NULL THEN {ROWS.get(self.full_name, 'true')} ELSE ctid = $1::text::tid END "
            "ORDER BY ctid LIMIT 1", place
        )  # fmt: skip
        assert found is not None, f"the world has no row for {self.full_name}"
        return found

    async def remove(self, place):
        await self.conn.execute(f"DELETE FROM {self.name} WHERE ctid = $1::text::tid", place)

    async def restore(self, content):
        names = ", ".join(self.columns)
        await self.conn.execute(
            f"INSERT INTO {self.name} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {names} FROM jsonb_populate_record(NULL::{self.name}, $1::text::jsonb)", content
        )  # fmt: skip

    async def make(self, change, place):
        """Make the change; where the row is afterwards, which is nowhere when it was deleted."""
        if change == "deleted":
            return await self.remove(place)
        if change == "doubled":
            another = {self.key[-1]: ANOTHER[self.columns[self.key[-1]]].format(self.key[-1])}
            values = ", ".join(another.get(name, name) for name in self.columns)
            return await self.conn.fetchval(
                f"INSERT INTO {self.name} ({', '.join(self.columns)}) OVERRIDING SYSTEM VALUE "
                f"SELECT {values} FROM {self.name} WHERE ctid = $1::text::tid RETURNING ctid::text", place
            )  # fmt: skip
        another = ANOTHER[self.columns[change]].format(change)
        return await self.conn.fetchval(
            f"UPDATE {self.name} SET {change} = {another} WHERE ctid = $1::text::tid RETURNING ctid::text", place
        )


async def faults_near(service):
    """What the checks find, one check after the other, in which a table of `service` has a part."""
    async with snapshots_of_all() as snapshots:
        for check in CHECKS:
            if check.service == service:
                for fault in (await make(check, snapshots[service])).faults:
                    yield fault
        for comparison in FACTS:
            if service in {comparison.kept.service, *(side.service for side in comparison.told)}:
                for fault in (await compare(comparison, snapshots)).faults:
                    yield fault
        for fault in (await compare_alerts(snapshots)).faults:
            yield fault


async def is_named(table, rows):
    """Whether some check names one of these, which are the same row before and after."""
    async with aclosing(faults_near(table.service)) as faults:
        async for fault in faults:
            if any(names(fault, table, row) for row in rows):
                return True
    return False


def names(fault, table, row):
    """Whether a fault is about that row, by its whole key, or by what else tells it from all others."""
    tenant_id, *key = row["key"]
    content = json.loads(row["content"])
    others = [str(each) for each in (*(content.get(name) for name in NAMES), row["more"]) if each is not None]
    if fault.tenant_id != tenant_id:
        return False
    if fault.table_name == table.name and all(_stands_in(part, fault.key) for part in key or [tenant_id]):
        return True
    return any(_stands_in(other, fault.key) for other in others)


def _stands_in(part, key):
    return part == "" or re.search(rf"(^|[ ,]){re.escape(part)}($|[ ,])", key) is not None


async def tables_of(conn, service):
    return [
        Table(
            conn,
            service,
            name,
            {c["name"]: c["type"] for c in await conn.fetch(COLUMNS, name)},
            [row["attname"] for row in await conn.fetch(KEY, name)],
        )
        for (name,) in await conn.fetch(TABLES)
    ]


async def unseen_changes(table, changes):
    """Those of `changes` that no check finds; each is undone."""
    unseen = set()
    for change in changes:
        row = await table.row()
        try:
            place = await table.make(change, row["place"])
        except (asyncpg.UniqueViolationError, asyncpg.GeneratedAlwaysError, asyncpg.NotNullViolationError):
            continue  # the keys do not allow it
        if not await is_named(table, [row] if place is None else [row, await table.row(place)]):
            unseen.add(change)
        if change != "deleted":
            await table.remove(place)
        if change != "doubled":
            await table.restore(row["content"])
    return unseen


@pytest.mark.timeout(900)
async def test_a_change_of_one_row_in_each_table_is_found(world, monkeypatch):
    draw = seeded("changed rows")
    monkeypatch.setattr(comparisons, "DUE", "SELECT now() + interval '1 minute'")  # nothing is on its way any more
    unseen = {}
    for service in SERVICES:
        conn = await asyncpg.connect(world.urls[service].superuser)
        await conn.execute("SET session_replication_role = replica")  # no trigger, no foreign key stands in the way
        for constraint in await conn.fetch(CONSTRAINTS):
            await conn.execute(f'ALTER TABLE {constraint["table_name"]} DROP CONSTRAINT "{constraint["conname"]}"')
        for table in await tables_of(conn, service):
            changes = ["deleted", "doubled", *table.columns]
            if not LONG:
                seen = [change for change in changes if change not in UNSEEN.get(table.full_name, set())]
                changes = draw.sample(seen, min(len(seen), size(short=3, long=0)))
            if missed := await unseen_changes(table, changes):
                unseen[table.full_name] = missed
        assert [fault async for fault in faults_near(service)] == []
        await conn.close()
    assert unseen == (UNSEEN if LONG else {})
