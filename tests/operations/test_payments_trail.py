"""`takings check` on the audit trail of payments: money that joined its request did so as its event told."""

import asyncpg

from deploy.operations.check import payments_trail
from tests.operations.one_check import faults_of

JOINED = "WHERE action = 'match-payment'"


async def test_a_match_that_no_event_told_of_is_found(world):
    conn = await asyncpg.connect(world.urls["payments"].superuser)

    async def faulty():
        return {fault.key for fault in await faults_of(payments_trail.CHECKS, "matches told")}

    joined = {str(row["audit_id"]) for row in await conn.fetch(f"SELECT audit_id FROM audit {JOINED}")}  # noqa: S608
    assert joined
    assert await faulty() == set()
    for change in ("after = after || '{\"applied\": 7}'", "before = before || '{\"applied\": 7}'", "subject = 'x'"):
        await conn.execute(f"CREATE TABLE kept AS SELECT * FROM audit {JOINED}")  # noqa: S608
        await conn.execute(f"UPDATE audit SET {change} {JOINED}")  # noqa: S608
        assert await faulty() == joined, change
        await conn.execute("UPDATE audit AS a SET after = k.after, before = k.before, subject = k.subject "
                           "FROM kept AS k WHERE a.audit_id = k.audit_id")  # fmt: skip
        await conn.execute("DROP TABLE kept")
    assert await faulty() == set()
    await conn.close()
