"""An event id is claimed once, in the transaction of its effect."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from shared import tables
from shared.db import Database
from shared.events import Received
from shared.inbox import claim
from tests.conftest import until

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)


def event(event_id=None, *, tenant="t1"):
    return Received(event_id or uuid4(), "ping", "s", NOW, tenant, None, None)


@pytest.fixture
async def db(database):
    urls = await database("payments")
    owner = await asyncpg.connect(urls.owner)
    if await owner.fetchval("SELECT to_regclass('inbox')") is None:
        await owner.execute(tables.inbox("payments"))
    await owner.close()
    made = Database(urls.app, "test")
    yield made
    await made.close()


async def claimed(db, events, *tenants):
    return await db.run(lambda conn: claim(conn, events, now=NOW), *tenants)


async def test_each_event_is_claimed_once_in_the_order_given(db):
    first, second, third = sorted((event() for _ in range(3)), key=lambda e: e.id, reverse=True)
    assert await claimed(db, [first, second, first], "t1") == [first, second]
    assert await claimed(db, [third, second, first, third], "t1") == [third]
    assert await claimed(db, [first, second, third], "t1") == []


async def test_the_same_id_of_two_tenants_is_two_events(db):
    shared_id = uuid4()
    ours, theirs = event(shared_id), event(shared_id, tenant="t2")
    assert await claimed(db, [ours, theirs], "t1", "t2") == [ours, theirs]
    assert await claimed(db, [theirs, ours], "t1", "t2") == []


async def test_a_claim_dies_with_its_transaction(db):
    one = event()
    with pytest.raises(RuntimeError):  # noqa: PT012
        async with db.transaction("t1") as conn:
            assert await claim(conn, [one], now=NOW) == [one]
            raise RuntimeError("the effect failed")
    assert await claimed(db, [one], "t1") == [one]


@pytest.mark.parametrize("first_commits", [True, False])
async def test_of_two_at_once_the_second_waits_and_has_it_only_if_the_first_fails(db, first_commits):
    one, entered, finish = event(), asyncio.Event(), asyncio.Event()

    async def first():
        async with db.transaction("t1") as conn:
            got = await claim(conn, [one], now=NOW)
            entered.set()
            await finish.wait()
            if not first_commits:
                raise RuntimeError("the effect failed")
            return got

    async def second():
        await entered.wait()
        return await claimed(db, [one], "t1")

    tasks = [asyncio.create_task(first()), asyncio.create_task(second())]

    async def second_waits():
        async with db.transaction() as conn:
            return await conn.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")

    await until(second_waits)
    finish.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    if first_commits:
        assert results == [[one], []]
    else:
        assert isinstance(results[0], RuntimeError)
        assert results[1] == [one]
