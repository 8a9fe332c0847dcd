"""A rebuild and what goes on beside it: other rebuilds, checks, migrations, readers."""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from deploy.errors import StackError
from deploy.operations import take_turns
from deploy.operations.check.run_checks import run_checks, snapshots_of_all
from deploy.operations.rebuild.building import Building
from deploy.operations.rebuild.shadow import Shadow
from tests.conftest import connected
from tests.operations.test_rebuild_reporting import catalogue, contents, rebuild


async def test_of_two_at_once_the_second_is_refused(world, monkeypatch):
    began, may_end = asyncio.Event(), asyncio.Event()
    catch_up = Building.catch_up

    async def slowly(self, **options):
        began.set()
        await may_end.wait()
        return await catch_up(self, **options)

    monkeypatch.setattr(Building, "catch_up", slowly)
    monkeypatch.setattr(take_turns, "TRIES", 1)
    first = asyncio.create_task(rebuild())
    await began.wait()
    with pytest.raises(StackError, match="a rebuild or a check of reporting is under way already"):
        await rebuild()
    with pytest.raises(StackError, match="a rebuild of reporting is under way: nothing was checked"):
        await run_checks()
    may_end.set()
    assert (await first).is_swapped


async def test_while_a_check_is_made_none_is_begun(world, monkeypatch):
    monkeypatch.setattr(take_turns, "TRIES", 1)
    async with snapshots_of_all():
        with pytest.raises(StackError, match="a rebuild or a check of reporting is under way already"):
            await rebuild()
        assert all(outcome.is_held for outcome in await run_checks())  # checks are no hindrance to each other


async def test_a_database_of_another_version_is_refused(world):
    right = await contents(world)
    async with connected(world.urls["reporting"].superuser) as conn:
        await conn.execute("UPDATE alembic_version SET version_num = '9999'")
    for dry_run in (True, False):
        with pytest.raises(StackError, match="the database of reporting is of version 9999, and this program makes"):
            await rebuild(dry_run=dry_run)
    assert await contents(world) == right


async def test_a_database_that_is_migrated_meanwhile_keeps_its_tables(world, monkeypatch):
    right, stop = await contents(world), Shadow.writers_stopped

    @asynccontextmanager
    async def migrated(shadow):
        async with connected(world.urls["reporting"].superuser) as conn:
            await conn.execute("UPDATE alembic_version SET version_num = '9999'")
        async with stop(shadow):
            yield

    monkeypatch.setattr(Shadow, "writers_stopped", migrated)
    with pytest.raises(StackError, match="of version 9999"):
        await rebuild()
    assert await contents(world) == right
    await catalogue(world)


async def test_a_reader_in_the_middle_of_its_work_is_never_sent_away(world):
    """It holds one table and comes for another, which a swap that waits for the first would have taken."""
    async with connected(world.urls["reporting"].app, "amka") as reader:
        begun = asyncio.Event()

        async def read():
            async with reader.transaction():
                await reader.fetch("SELECT * FROM payee_balances")
                begun.set()
                await asyncio.sleep(1.5)
                return await reader.fetch("SELECT * FROM tenants")

        reading = asyncio.create_task(read())
        await begun.wait()
        rebuilt = await rebuild()
        assert len(await reading) == 1
    assert rebuilt.is_swapped


async def test_readers_of_one_table_do_not_wait_for_those_of_all_the_others(world, monkeypatch):
    """Each table is being read a little longer than the one before: a swap that waits for them one by one holds the first."""
    swap, longest_s = Shadow.swap, 0.0

    async def read_until(readers, table, seconds):
        await asyncio.sleep(seconds)
        await readers[table].execute("COMMIT")

    async def held_up(shadow):
        async with AsyncExitStack() as stack:
            readers = {
                name: await stack.enter_async_context(connected(shadow_urls.app, "amka")) for name in shadow.names
            }
            for name, reader in readers.items():
                await reader.execute(f"BEGIN; SELECT FROM {name} LIMIT 1")
            leaving = [
                asyncio.create_task(read_until(readers, name, 0.45 * n)) for n, name in enumerate(shadow.names, 1)
            ]
            reading = asyncio.create_task(measure())
            try:
                await swap(shadow)
            finally:
                reading.cancel()
                await asyncio.gather(reading, *leaving, return_exceptions=True)

    async def measure():
        nonlocal longest_s
        async with connected(shadow_urls.app, "amka") as conn:
            while True:
                began = time.monotonic()
                try:
                    await conn.fetch("SELECT * FROM tenants")
                finally:
                    longest_s = max(longest_s, time.monotonic() - began)
                await asyncio.sleep(0.01)

    shadow_urls = world.urls["reporting"]
    monkeypatch.setattr(Shadow, "swap", held_up)
    assert (await rebuild()).is_swapped
    assert longest_s < 3 * 0.5, f"readers waited {longest_s:.2f} s, and a try is 0.5"
