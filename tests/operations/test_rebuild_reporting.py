"""`takings rebuild reporting`: the same tables again, put right where they were wrong, under traffic and without a gap."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from deploy.operations.check.run_checks import run_checks
from deploy.operations.rebuild import differences, reporting
from deploy.operations.rebuild.reporting import TABLES, rebuild_reporting
from deploy.operations.rebuild.shadow import Shadow
from tests.conftest import connected
from tests.operations.world import ZONES

# ruff: noqa: S608 - the names in these statements are constants
CATALOGUE = """
SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relacl::text, c.relowner::regrole::text,
       (SELECT array_agg(indexdef ORDER BY indexdef) FROM pg_indexes WHERE schemaname = 'public' AND tablename = relname),
       (SELECT array_agg(format('%s %s %s %s', polname, polcmd, polroles::regrole[], pg_get_expr(polqual, polrelid))
                         ORDER BY polname)
        FROM pg_policy WHERE polrelid = c.oid),
       (SELECT array_agg(format('%s %s', conname, pg_get_constraintdef(oid)) ORDER BY conname)
        FROM pg_constraint WHERE conrelid = c.oid)
FROM pg_class AS c WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname
"""
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname IN ('rebuild', 'retired')"


async def contents(world):
    async with connected(world.urls["reporting"].owner, *ZONES) as conn:
        return {
            table.name: [
                tuple(row)
                for row in await conn.fetch(
                    f"SELECT {', '.join((*table.key, *table.columns))} FROM {table.name} ORDER BY {', '.join(table.key)}"
                )
            ]
            for table in TABLES
        }


async def rebuild(**more):
    said = []
    rebuilt = await rebuild_reporting(
        dry_run=more.get("dry_run", False), force=more.get("force", False), say=said.append
    )
    assert said
    assert len(set(said)) == len(said), "a line was said twice"
    return rebuilt


async def catalogue(world):
    async with connected(world.urls["reporting"].superuser) as conn:
        assert await conn.fetch(SCHEMAS) == []
        return [tuple(row) for row in await conn.fetch(CATALOGUE)]


async def spoil(world):
    """Five wrong rows."""
    conn = await asyncpg.connect(world.urls["reporting"].superuser)
    for statement in (
        "UPDATE payments SET amount = amount + 1, fee = 0 WHERE (tenant_id, transaction_id) = ('amka', 't-1')",
        "DELETE FROM earnings WHERE ctid = (SELECT min(ctid) FROM earnings)",
        "UPDATE daily_rollups SET revenue = revenue + 1 WHERE ctid = (SELECT min(ctid) FROM daily_rollups)",
        "INSERT INTO payee_balances VALUES ('amka', 'KES', 'nobody', 1, 0, 0)",
        "UPDATE tenants SET name = 'x' WHERE tenant_id = 'windy'",
    ):
        await conn.execute(statement)
    await conn.close()


async def test_the_same_events_make_the_same_tables(world):
    before, as_made = await contents(world), await catalogue(world)
    rebuilt = await rebuild()
    assert (rebuilt.differences.total, rebuilt.set_aside, rebuilt.is_swapped) == (0, 0, True)
    assert await contents(world) == before
    assert await catalogue(world) == as_made
    assert all(o.is_held for o in await run_checks())


async def test_a_dry_run_says_what_is_wrong_and_a_run_puts_it_right(world, monkeypatch):
    monkeypatch.setattr(reporting, "ON_ITS_WAY", timedelta(0))  # nothing is on its way any more
    right = await contents(world)
    await spoil(world)
    wrong = await contents(world)
    rebuilt = await rebuild(dry_run=True)
    assert {table: count for table, count in rebuilt.differences.counts.items() if count} == {
        "tenants": 1, "payments": 1, "earnings": 1, "daily_rollups": 1, "payee_balances": 1
    }  # fmt: skip
    assert any("amount is 1003, should be 1002" in line for line in rebuilt.lines())
    assert await contents(world) == wrong
    refused = await rebuild()
    assert (refused.is_swapped, refused.differences.lacking) == (False, {"payee_balances": 1})
    assert await contents(world) == wrong
    assert (await rebuild(force=True)).differences.total == 5
    assert await contents(world) == right
    assert (await rebuild(dry_run=True)).differences.total == 0


async def test_what_the_new_tables_lack_is_found_first(world, monkeypatch):
    monkeypatch.setattr(differences, "SUSPECTS_LIMIT", 1)
    monkeypatch.setattr(differences, "PAGE", 1)
    async with connected(world.urls["reporting"].superuser) as conn:
        await conn.execute("INSERT INTO payee_balances VALUES ('amka', 'KES', 'nobody', 1, 0, 0)")
        await conn.execute("UPDATE payee_balances SET earned = earned + 1")
    refused = await rebuild()
    assert (refused.is_swapped, refused.differences.lacking) == (False, {"payee_balances": 1})


async def test_a_state_that_only_the_live_tables_know_is_lacking(world):
    async with connected(world.urls["reporting"].superuser, "amka") as conn:
        await conn.execute("UPDATE payments SET rank = 4 WHERE payment_id = (SELECT min(payment_id) FROM payments)")
    refused = await rebuild()
    assert (refused.is_swapped, refused.differences.lacking) == (False, {"payments": 1})


async def test_what_is_on_its_way_is_no_difference_and_comes_once(world):
    await world.request("amka", "new", 5_000)
    await world.callback("amka", request_id="new", amount=5_000)
    rebuilt = await rebuild()
    assert rebuilt.differences.total == 0
    after = await contents(world)
    assert [row for row in after["payments"] if row[8] == 5_000]  # told, and not yet consumed
    await world.deliver()
    assert [o for o in await run_checks() if not o.is_held] == []


async def test_what_a_killed_run_left_is_no_hindrance(world, monkeypatch):
    right = await contents(world)
    await spoil(world)

    def killed(_self):
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(Shadow, "writers_stopped", killed)
        with pytest.raises(asyncio.CancelledError):
            await rebuild()
    async with connected(world.urls["reporting"].owner) as conn:  # as kill -9 would leave it
        await conn.execute("CREATE SCHEMA IF NOT EXISTS rebuild; CREATE TABLE rebuild.payments (x int)")
    await rebuild(force=True)  # one row was of nobody
    assert await contents(world) == right
    await catalogue(world)
