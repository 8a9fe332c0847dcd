"""An event log is read in passes: each row once, whenever it appears, and tenants that have written nothing are left alone."""

from collections import Counter
from contextlib import aclosing

import pytest

from deploy.operations.rebuild import event_log
from deploy.operations.rebuild.event_log import EventLog
from shared.events import Decoder
from shared.events.catalogue import ALL_EVENTS
from tests.conftest import connected

WRITE = """
INSERT INTO outbox (tenant_id, id, event_id, topic, key, event, created_at) OVERRIDING SYSTEM VALUE
SELECT $1, id, gen_random_uuid(), 'payments', id::text, '{}',
       now() - $3::int * interval '1 minute'
FROM unnest($2::bigint[]) AS id
"""


class Counted:
    """A connection, and for which tenants pages were read."""

    def __init__(self, conn):
        self.conn, self.read = conn, Counter()

    def __getattr__(self, name):
        return getattr(self.conn, name)

    async def fetch(self, statement, *arguments):
        if statement == event_log.PAGE:
            self.read[arguments[0]] += 1
        return await self.conn.fetch(statement, *arguments)


@pytest.fixture
async def log(database, monkeypatch):
    monkeypatch.setattr(event_log, "PAGE_LIMIT", 2)
    monkeypatch.setattr(EventLog, "_decoded", lambda _self, row: row["id"])
    urls = await database("payments")
    async with connected(urls.system) as conn, connected(urls.superuser) as writer:

        async def write(tenant, *ids, minutes_ago=0):
            await writer.execute(WRITE, tenant, list(ids), minutes_ago)

        async def age():
            await writer.execute("UPDATE outbox SET created_at = created_at - interval '1 hour'")

        write.age = age
        yield EventLog(Counted(conn), Decoder([], known=ALL_EVENTS)), write


async def read(log, *, pages=100):
    found = []
    async with aclosing(log.pages()) as several:
        async for page in several:
            found += [(page.tenant_id, number) for number in page.events]
            pages -= 1
            if not pages:
                break
    return found


async def test_each_row_comes_once_also_one_that_appears_below_others(log):
    log, write = log
    await write("a", 1, 2, 3, minutes_ago=20)
    await write("a", 10, 12)
    await write("b", 20)
    assert await read(log) == [("a", 1), ("a", 2), ("a", 3), ("a", 10), ("a", 12), ("b", 20)]
    await write("a", 11)
    await write("c", 30)
    assert sorted(await read(log)) == [("a", 11), ("c", 30)]
    assert await read(log) == []


async def test_a_row_of_a_host_whose_clock_is_late_comes_as_well(log):
    """What stands in a log is as old as a clock says: five minutes do not mean that no row appears below it any more."""
    log, write = log
    await write("a", 1, 3, minutes_ago=6)
    assert await read(log) == [("a", 1), ("a", 3)]
    await write("a", 2, minutes_ago=6)
    assert await read(log) == [("a", 2)]
    assert await read(log) == []


async def test_a_pass_that_is_left_in_the_middle_loses_nothing(log):
    """What was read before has become old meanwhile, as much as is new: numbers alone would say that nothing is."""
    log, write = log
    await write("a", 1, 2, 3, 4)
    assert len(await read(log)) == 4
    await write.age()
    await write("a", 5, 6, 7, 8, 9, 10)
    first = await read(log, pages=1)
    assert first + await read(log) == [("a", number) for number in range(5, 11)]


async def test_tenants_that_have_written_nothing_are_not_asked(log):
    log, write = log
    for tenant in "abcdef":
        await write(tenant, ord(tenant))
    await read(log)
    log.conn.read.clear()
    await write("c", 500)
    assert await read(log) == [("c", 500)]
    assert set(log.conn.read) == {"c"}
