"""`takings check` sees rows of tenants that nobody knows, in every table and through every view of the owner."""

import asyncpg
import pytest

from deploy.operations.check import known_tenants
from deploy.operations.check.findings import make
from deploy.operations.check.run_checks import run_checks, snapshots_of_all
from tests.conftest import connected
from tests.operations.world import SERVICES

# ruff: noqa: S608 - the names in these statements come from the catalogue
TABLES = """
SELECT relname AS name, (
    SELECT string_agg(attname, ', ') FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attname <> 'tenant_id'
) AS columns
FROM pg_class AS c WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
AND relname NOT IN ('alembic_version', 'tenants') ORDER BY 1
"""
COPY = """
INSERT INTO {name} (tenant_id, {columns}) OVERRIDING SYSTEM VALUE SELECT 'ghost', {columns} FROM {name} LIMIT 1
"""
OF_OWNER = {
    "payments": ("audited_answers", "answered_ids()"),
    "payouts": ("audited_answers", "answered_ids()"),
    "alerts": ("audited_rules", "audited_deliveries", "audited_mail_queues"),
}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_row_of_an_unknown_tenant_is_found_in_every_table(world, service):
    conn = await asyncpg.connect(world.urls[service].superuser)
    await conn.execute("SET session_replication_role = replica")
    tables = await conn.fetch(TABLES)
    for table in tables:
        await conn.execute(COPY.format(**table))
    await conn.close()
    (check,) = (check for check in known_tenants.CHECKS if check.service == service)
    async with snapshots_of_all() as snapshots:
        outcome = await make(check, snapshots[service])
    assert outcome.error is None
    expected = sorted(("ghost", table["name"]) for table in tables)
    assert [(fault.tenant_id, fault.table_name) for fault in outcome.faults] == expected
    async with connected(world.urls[service].auditor) as auditor:
        for source in OF_OWNER.get(service, ()):
            assert await auditor.fetchval(f"SELECT count(*) FROM {source} WHERE tenant_id = 'ghost'") == 1, source


async def test_only_the_auditors_sessions_see_through_the_owner(world):
    """Neither the owner's own sessions nor those of the application see a row more."""
    for service, sources in OF_OWNER.items():
        for source in sources:
            async with connected(world.urls[service].owner) as owner:
                assert await owner.fetchval(f"SELECT count(*) FROM {source}") == 0
            async with connected(world.urls[service].app) as app:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await app.fetch(f"SELECT * FROM {source}")


async def test_a_tenant_whose_row_is_gone_is_a_fault_everywhere(world):
    for service in SERVICES:
        async with connected(world.urls[service].superuser) as conn:
            await conn.execute("SET session_replication_role = replica")
            await conn.execute("DELETE FROM tenants WHERE tenant_id = 'windy'")
    failed = {(outcome.service, outcome.name) for outcome in await run_checks() if not outcome.is_held}
    assert {(service, "tenants known") for service in SERVICES} <= failed


async def test_the_auditor_reads_no_hash_of_a_call(world):
    for service in ("payments", "payouts"):
        async with connected(world.urls[service].auditor, "amka") as auditor:
            assert {row["hash_bytes"] for row in await auditor.fetch("SELECT hash_bytes FROM audited_answers")} == {32}
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await auditor.fetch("SELECT request_hash FROM idempotency_keys")
