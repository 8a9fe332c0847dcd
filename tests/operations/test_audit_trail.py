"""`takings check` on the audit trail: its numbers are the database's, and rows of before the numbering have none."""

import asyncpg
import pytest

from deploy.operations.check import alerts, payments_trail
from tests.operations.one_check import faults_of

# ruff: noqa: S608 - of constants
NUMBERED = {"payments": payments_trail.CHECKS, "alerts": alerts.CHECKS}
# The oldest rows are made to be of another day, as its id says.
LONG_AGO = """
UPDATE audit SET number = NULL, audit_id = overlay(audit_id::text PLACING '01999999-9999' FROM 1)::uuid
WHERE number IN (SELECT number FROM audit ORDER BY number LIMIT 2)
"""
NEWEST = "WHERE number = (SELECT max(number) FROM audit)"
CHANGES = {
    "another row's number": f"UPDATE audit SET number = (SELECT min(number) FROM audit) {NEWEST}",
    "a number never given": f"UPDATE audit SET number = number + 1 {NEWEST}",
    "no number": f"UPDATE audit SET number = NULL {NEWEST}",
}


@pytest.mark.parametrize("service", NUMBERED)
async def test_numbers_are_those_that_the_database_gave(world, service):
    conn = await asyncpg.connect(world.urls[service].superuser)

    async def faults():
        return await faults_of(NUMBERED[service], "audit numbered")

    assert await faults() == []
    await conn.execute(LONG_AGO)
    assert await faults() == []
    for change, statement in CHANGES.items():
        # The newest row is an hour younger than the first one that has a number, as its id says.
        await conn.execute(f"UPDATE audit SET audit_id = overlay(audit_id::text PLACING '02' FROM 1)::uuid {NEWEST}")
        row = await conn.fetchrow(f"SELECT audit_id, number FROM audit {NEWEST}")
        await conn.execute(statement)
        assert str(row["audit_id"]) in [fault.key for fault in await faults()], change
        await conn.execute("UPDATE audit SET number = $2 WHERE audit_id = $1", row["audit_id"], row["number"])
        assert await faults() == []
    await conn.close()
