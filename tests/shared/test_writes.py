"""Writes that go to the server as one statement."""

from datetime import UTC, datetime

import pytest

from services.payouts.ledger import OPEN_JOURNALS
from shared import audit, outbox
from shared.db import ConcurrentWrite, Database
from shared.events.tenants import TenantConfigured
from shared.ids import new_id
from shared.writes import NoTransaction, Write, write

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
ALL = "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM audit), (SELECT count(*) FROM journals)"


@pytest.fixture
async def db(database):
    made = Database((await database("payouts")).app, "test")
    yield made
    await made.close()


def event():
    told = TenantConfigured(name="t", time_zone="UTC", currency="KES", version=1)
    return outbox.add("payouts", [outbox.Outgoing("t1", "t1", told)] * 2, now=NOW)


def note():
    return audit.record(audit.Actor("someone"), "tried", [audit.Change("x", None, {})], tenant_id="t1", now=NOW)


def journals(*sources):
    columns = (["t1"] * len(sources), [new_id() for _ in sources], ["payment"] * len(sources), list(sources), NOW)
    return Write(OPEN_JOURNALS, columns, rows=len(sources))


async def counts(db):
    async with db.transaction("t1") as conn:
        return tuple(await conn.fetchrow(ALL))


async def test_all_are_written_in_one_crossing(db):
    seen = []
    async with db.transaction("t1") as conn:
        conn.add_query_logger(lambda query: seen.append(query.query))
        await write(conn, event(), None, journals(new_id()), note(), journals(new_id(), new_id()))
    assert len([query for query in seen if "INSERT" in query]) == 1
    assert await counts(db) == (2, 1, 3)


async def test_a_row_that_somebody_else_has_written_fails_them_all(db):
    taken = new_id()
    async with db.transaction("t1") as conn:
        await write(conn, journals(taken))
    with pytest.raises(ConcurrentWrite):
        async with db.transaction("t1") as conn:
            await write(conn, event(), journals(new_id()), journals(new_id(), taken), note())
    assert await counts(db) == (0, 0, 1)


async def test_nothing_to_write_asks_the_server_nothing(db):
    seen = []
    async with db.transaction("t1") as conn:
        conn.add_query_logger(seen.append)
        await write(conn)
        await write(conn, None)
    assert [query.query for query in seen] == ["COMMIT"]


async def test_outside_a_transaction_all_is_refused(db):
    pool = await db.pool()
    async with pool.acquire() as conn:
        for one in (event(), None):
            with pytest.raises(NoTransaction):
                await write(conn, one)
    assert await counts(db) == (0, 0, 0)


async def test_arguments_that_do_not_fit_are_refused_before_another_ones_are_taken(db):
    with pytest.raises(TypeError, match="2 arguments"):
        async with db.transaction("t1") as conn:
            await write(conn, Write(OPEN_JOURNALS, ([], [])), event())
    assert await counts(db) == (0, 0, 0)
