"""Migrations that put rows right reach those of every tenant, though the owner sees none, and leave the others alone."""

import asyncio
import secrets
from contextlib import asynccontextmanager

import asyncpg
import pytest

from shared.migrations import upgrade
from tests.conftest import connected

PAYMENT = """
INSERT INTO payments (tenant_id, payment_id, account_id, transaction_id, status, amount, currency, method, paid_at, recorded_at,
                      updated_at, failure_code, failure_text)
VALUES ($1, gen_random_uuid(), 'a', $2, $2, 5, 'KES', 'm', '2026-03-01', '2026-03-01', '2026-03-01', $3, 'text')
"""
QUEUE = """
INSERT INTO mail_queues (tenant_id, rule_id, recipient, not_before, last_error)
VALUES ($1, gen_random_uuid(), 'x', now(), $2)
"""
FORCED = "SELECT relname FROM pg_class WHERE relrowsecurity AND NOT relforcerowsecurity"
CLEANING = "SELECT polrelid::regclass FROM pg_policy WHERE polname = 'cleaning'"


@asynccontextmanager
async def of_version(templates, service, version):
    """A database of `service` as it was at `version`, and its superuser's connection."""
    name = f"{service}_{secrets.token_hex(6)}"
    async with connected(templates.server_url) as admin:
        await admin.execute(f"CREATE DATABASE {name} OWNER {service}_owner TEMPLATE template0")
        try:
            urls = templates.urls(service, name)
            await asyncio.to_thread(upgrade, f"services.{service}", urls.owner, version)
            async with connected(urls.superuser) as conn:
                await conn.execute("SET session_replication_role = replica")  # no foreign keys
                yield urls, conn
                assert await conn.fetch(FORCED) + await conn.fetch(CLEANING) == []
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_only_failed_payments_keep_their_failure(templates):
    async with of_version(templates, "payments", "0005") as (urls, conn):
        for tenant in ("t1", "t2"):
            for status, code in ("completed", "no_funds"), ("pending", None), ("failed", "no_funds"):
                await conn.execute(PAYMENT, tenant, status, code)
        await asyncio.to_thread(upgrade, "services.payments", urls.owner)
        rows = await conn.fetch("SELECT DISTINCT status, failure_code, failure_text FROM payments ORDER BY 1")
        assert [tuple(row) for row in rows] == [
            ("completed", None, None), ("failed", "no_funds", "text"), ("pending", None, None)
        ]  # fmt: skip
        assert await conn.fetchval("SELECT convalidated FROM pg_constraint WHERE conname = 'payments_failure_check'")
        with pytest.raises(asyncpg.CheckViolationError, match="payments_failure_check"):
            await conn.execute("UPDATE payments SET failure_code = 'x' WHERE status = 'completed'")


async def test_errors_of_mails_name_nobody(templates):
    said = {
        "SMTPRecipientsRefused: {'Boss@acme.example': (550, b'no <boss@[10.0.0.1]>')}":
            "SMTPRecipientsRefused: {'an address': (550, b'no <an address]>')}",
        "ConnectionRefusedError: no": "ConnectionRefusedError: no",
    }  # fmt: skip
    async with of_version(templates, "alerts", "0004") as (urls, conn):
        for tenant in ("t1", "t2"):
            for error in said:
                await conn.execute(QUEUE, tenant, error)
        await asyncio.to_thread(upgrade, "services.alerts", urls.owner)
        rows = await conn.fetch("SELECT last_error FROM mail_queues ORDER BY 1 DESC")
        assert [row["last_error"] for row in rows] == [error for error in said.values() for _ in range(2)]
