"""Large tables in minutes: rows are put in without indexes, which are made afterwards, as a restore does it."""

import asyncio

import asyncpg

from bench.place import TENANT, Place

TENANTS = 20
YEAR_FROM = "2025-11-01"
CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint
WHERE conrelid = $1::regclass AND contype IN ('p', 'u') ORDER BY contype
"""
INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
WHERE indrelid = $1::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
# Payment n of all: its tenant, time and people. Amounts and ids are never the same for long.
NUMBERED = f"""
(SELECT n, CASE n % {TENANTS} WHEN 0 THEN '{TENANT}' ELSE 'tenant-' || n % {TENANTS} END AS tenant, uuidv7() AS id,
        5000 + n * 37 % 90000 AS amount, timestamptz '{YEAR_FROM}' + n * (interval '365 days' / $1) AS at,
        'fleet-' || n / {TENANTS} % 10 AS fleet, 'route-' || n / {TENANTS} % 40 AS route,
        'vehicle-' || n / {TENANTS} % 300 AS vehicle, 'driver-' || n / {TENANTS} % 500 AS driver,
        (ARRAY['mpesa', 'card', 'cash', 'transfer'])[1 + n / {TENANTS} % 4] AS method
 FROM generate_series(1, $1) AS n) AS p
"""
PAYEES = """'[{"payee_id": "' || driver || '", "share_bp": 10000}]'"""

FILL_PAYMENTS = {
    "requests": f"""
        INSERT INTO requests (tenant_id, request_id, status, kind, amount, paid, currency, occurred_at, client_id, client_name,
            client_phone, fleet_id, route_id, vehicle_id, payees, content_hash, created_at, updated_at)
        SELECT tenant, 'old-' || n, 'completed', 'trip', amount, amount, 'KES', at, 'client-' || n % 99991, 'Client', '+2547',
            fleet, route, vehicle, ({PAYEES})::jsonb, '\\x00', at, at FROM {NUMBERED}
    """,
    "payments": f"""
        INSERT INTO payments (tenant_id, payment_id, account_id, transaction_id, request_id, status, amount, applied, fee,
            currency, method, paid_at, client_id, fleet_id, route_id, vehicle_id, payees, recorded_at, updated_at)
        SELECT tenant, id, tenant || '.0123456789abcdef', 'tx-old-' || n, 'old-' || n, 'completed', amount, amount, 25, 'KES',
            method, at, 'client-' || n % 99991, fleet, route, vehicle, ({PAYEES})::jsonb, at, at FROM {NUMBERED}
    """,
    "callbacks": f"""
        INSERT INTO callbacks (tenant_id, callback_id, account_id, webhook_id, body, received_at, payment_id, handled_at)
        SELECT tenant, id, tenant || '.0123456789abcdef', 'msg_' || n, '\\x7b7d', at, id, at FROM {NUMBERED}
    """,
    "outbox": f"""
        INSERT INTO outbox (tenant_id, event_id, topic, key, event, created_at, published_at)
        SELECT tenant, id, 'payments', id::text, '{{}}', at, at FROM {NUMBERED}
    """,
}
FILL_PAYOUTS = {
    "journals": f"""
        INSERT INTO journals (tenant_id, journal_id, kind, source_id, posted_at)
        SELECT tenant, id, 'payment', uuidv7(), at FROM {NUMBERED}
    """,
    "entries": f"""
        INSERT INTO entries (tenant_id, journal_id, line, account, payee_id, currency, amount)
        SELECT tenant, id, line, account, CASE account WHEN 'wallet' THEN driver END, 'KES', part * amount / 10
        FROM {NUMBERED}, (VALUES (1, 'gateway', -10), (2, 'wallet', 9), (3, 'commission', 1)) AS lines (line, account, part)
    """,
    "earnings": f"""
        INSERT INTO earnings (tenant_id, earning_id, payment_id, payee_id, fleet_id, currency, gross, commission, commission_bp,
            net, cash_held, paid_at, accrued_at, available_at)
        SELECT tenant, id, id, driver, fleet, 'KES', amount, 0, 1000, amount, 0, at, at, at FROM {NUMBERED}
    """,
    "outbox": FILL_PAYMENTS["outbox"].replace("'payments'", "'payouts'"),
}
FILL_ALERTS = {"inbox": f"INSERT INTO inbox (tenant_id, event_id, claimed_at) SELECT tenant, id, at FROM {NUMBERED}"}
FILL_REPORTING = {
    "payments": f"""
        INSERT INTO payments (tenant_id, payment_id, rank, event_id, status, request_id, transaction_id, client_id, amount,
            applied, fee, currency, method, at, day, fleet_id, route_id, vehicle_id, payees, flags)
        SELECT tenant, id::text, 3, id, 'completed', 'old-' || n, 'tx-old-' || n, 'client-' || n % 99991, amount, amount, 25,
            'KES', method, at, (at AT TIME ZONE 'Africa/Nairobi')::date, fleet, route, vehicle, ({PAYEES})::jsonb, '[]'
        FROM {NUMBERED}
    """,
    "earnings": f"""
        INSERT INTO earnings (tenant_id, earning_id, payment_id, payee_id, fleet_id, currency, gross, commission, amount,
            cash_held, at, day)
        SELECT tenant, id::text, id::text, driver, fleet, 'KES', amount, amount / 10, amount - amount / 10, 0, at,
            (at AT TIME ZONE 'Africa/Nairobi')::date
        FROM {NUMBERED}
    """,
    "daily_rollups": """
        TRUNCATE daily_rollups;
        INSERT INTO daily_rollups (tenant_id, currency, dimension, day, member, revenue, payments, fees, earnings, commission,
            cash_held, payouts)
        SELECT tenant_id, currency, dimension, day, member, sum(amount), count(*), sum(fee),
            CASE dimension WHEN 'total' THEN sum(amount - amount / 10) ELSE 0 END,
            CASE dimension WHEN 'total' THEN sum(amount / 10) ELSE 0 END, 0, 0
        FROM payments, LATERAL (VALUES ('total', ''), ('fleet', fleet_id), ('route', route_id), ('vehicle', vehicle_id),
            ('method', method), ('payee', payees -> 0 ->> 'payee_id')) AS d (dimension, member)
        WHERE $1 > 0 GROUP BY 1, 2, 3, 4, 5 ORDER BY min(at)  -- as they come: a day's rows lie together
    """,
    "payee_balances": """
        TRUNCATE payee_balances;
        INSERT INTO payee_balances (tenant_id, currency, payee_id, earned, cash_held, disbursed)
        SELECT tenant_id, currency, payee_id, sum(amount), 0, 0 FROM earnings WHERE $1 > 0 GROUP BY 1, 2, 3
    """,
    "tenants": f"""
        INSERT INTO tenants (tenant_id, name, time_zone, currency, version, updated_at)
        SELECT 'tenant-' || n, 'T', 'Africa/Nairobi', 'KES', 1, now() FROM generate_series(1, {TENANTS} - 1) AS n WHERE $1 > 0
    """,
}


def fill(place: Place, database: str, statements: dict[str, str], *, payments: int) -> None:
    """Put the rows of so many payments into the tables of one database."""
    asyncio.run(fill_tables(place.superuser_url(database), statements, payments=payments))


async def fill_tables(url: str, statements: dict[str, str], *, payments: int) -> None:
    """The same, by the superuser's URL."""
    conn = await asyncpg.connect(url, server_settings={"maintenance_work_mem": "1GB", "work_mem": "1GB"})
    try:
        for table, statement in statements.items():
            constraints, indexes = await conn.fetch(CONSTRAINTS, table), await conn.fetch(INDEXES, table)
            for constraint in constraints:
                await conn.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint['conname']} CASCADE")
            for index in indexes:
                await conn.execute(f"DROP INDEX {index['name']}")
            await conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            await conn.execute(statement.replace("$1", f"{payments}::bigint"), timeout=3600)
            for constraint in constraints:
                added = f"ALTER TABLE {table} ADD CONSTRAINT {constraint['conname']} {constraint['definition']}"
                await conn.execute(added, timeout=3600)
            for index in indexes:
                await conn.execute(index["definition"], timeout=3600)
            await conn.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
            await conn.execute(f"VACUUM ANALYZE {table}", timeout=3600)
        await conn.execute("CHECKPOINT", timeout=600)
    finally:
        await conn.close()
