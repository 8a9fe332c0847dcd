"""The tables of reporting: closed to other tenants, read by index, and every statement fits them."""

import asyncio

import asyncpg
import pytest

from services.reporting import queries
from shared.migrations import upgrade
from tests.reporting.calls import TABLES, project
from tests.reporting.events import earning, payment, payout


async def test_no_tenant_set_sees_no_row(db):
    await project(db, payment(), earning(), payout())
    async with db.transaction() as conn:
        for table in (*TABLES, "tenants"):
            assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608
    async with db.transaction("other") as conn:
        for table in TABLES:
            assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with db.transaction("other") as conn:
            await conn.execute("INSERT INTO payee_balances VALUES ('acme', 'KES', 'd1', 1, 0, 0)")


async def test_every_tenant_table_is_protected(db):
    async with db.transaction() as conn:
        open_tables = await conn.fetch(
            "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r'"
            " AND nspname = 'public' AND relname <> 'alembic_version' AND NOT (relrowsecurity AND relforcerowsecurity)"
        )
    assert open_tables == []


async def test_migrating_again_changes_nothing(database):
    urls = await database("reporting")
    await asyncio.to_thread(upgrade, "services.reporting", urls.owner)
    await asyncio.to_thread(upgrade, "services.reporting", urls.owner)


@pytest.mark.parametrize(
    ("statement", "index"), [(queries.HISTORY, "payments_history"), (queries.PERIODS, "daily_rollups_pkey")]
)
async def test_reports_read_by_index_alone(db, statement, index):
    arguments = {"payments_history": "'acme', now(), now(), '', '', NULL, 101"}.get(
        index, "'acme', 'KES', 'total', '2026-01-01', '2026-02-01', 'day', NULL"
    )
    async with db.transaction("acme") as conn:
        # Tiny tables are read whole anyway; the plan of unknown arguments is the one that lasts.
        await conn.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        await conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await conn.execute(f"PREPARE report AS {statement}")
        plan = "\n".join(row[0] for row in await conn.fetch(f"EXPLAIN EXECUTE report ({arguments})"))
        await conn.execute("DEALLOCATE report")
    condition = plan.partition(f"using {index} ")[2].partition("Index Cond: ")[2].partition("\n")[0]
    assert "(day >= $4)" in condition or "(ROW(at, payment_id) <= ROW($3, $4))" in condition, plan
