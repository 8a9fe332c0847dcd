"""A world of many tenants: the rows of one of them again for each, under another name."""

import asyncpg

from tests.operations.world import SERVICES, World

TABLES = """
SELECT relname AS name, array_agg(attname::text ORDER BY attnum) AS columns
FROM pg_class AS c JOIN pg_attribute AS a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version' GROUP BY relname
"""
# These the database gives itself, in the order of the rows.
NUMBERS = {("outbox", "id"), ("audit", "number")}
# The tenant's name wherever it stands, but for addresses, of which there are fingerprints.
COPY = """
INSERT INTO {name} ({columns})
SELECT {made} FROM {name} AS t, generate_series(1, $1) AS n, jsonb_populate_record(
    t, regexp_replace(to_jsonb(t)::text, '(?<!@)amka', 'amka-' || n, 'g')::jsonb) AS made
WHERE t.tenant_id = 'amka' ORDER BY n, {order}
"""


async def multiply(world: World, times: int) -> None:
    """As many tenants like `amka` more."""
    for service in SERVICES:
        conn = await asyncpg.connect(world.urls[service].superuser)
        await conn.execute("SET session_replication_role = replica")
        for name, columns in await conn.fetch(TABLES):
            numbers = [column for column in columns if (name, column) in NUMBERS]
            copied = [column for column in columns if column not in numbers]
            made = ", ".join(f"made.{column}" for column in copied)
            order = ", ".join(f"t.{column}" for column in (*numbers, "ctid"))
            await conn.execute(COPY.format(name=name, columns=", ".join(copied), made=made, order=order), times)
        await conn.execute("ANALYZE")
        await conn.close()
