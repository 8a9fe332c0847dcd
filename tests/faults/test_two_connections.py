"""Two connections serve many tenants and mix up none, whatever goes wrong in between."""

import asyncio
import json
import re
from collections import Counter

import pytest

from tests.conftest import Running, connected
from tests.faults.callers import CALLERS, Answer, open_tenants
from tests.faults.seeds import seeded
from tests.faults.sizes import size

CALLS = {"payments": size(short=1_000, long=10_000)}
CALLS_OF_OTHERS = size(short=400, long=10_000)
TENANTS = [f"tenant-{number}" for number in range(20)]
# Two backends of the service's at most, so that those who wait feel it.
CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename LIKE '%_app' ORDER BY random() LIMIT 1
"""
TABLES = """
SELECT relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND attname = 'tenant_id'
WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND NOT relispartition ORDER BY relname
"""
ROWS = "SELECT tenant_id, to_jsonb(t)::text AS row FROM {table} AS t"


@pytest.mark.timeout(size(short=180, long=900))
@pytest.mark.parametrize("service", CALLERS)
async def test_two_connections_serve_many_tenants_and_mix_up_none(run, service):
    """Calls of twenty tenants, with refusals, lost connections and callers who leave in the middle."""
    chance, calls = seeded("two connections"), CALLS.get(service, CALLS_OF_OTHERS)
    running = await run(service, pool_size="2")
    call, expected = CALLERS[service]
    await open_tenants(running, service, TENANTS)
    outcomes: Counter[str] = Counter()
    gate = asyncio.Semaphore(24)

    async def one(number: int) -> None:
        tenants = chance.sample(TENANTS, 2)  # the second one's events stand in the same batch
        async with gate:
            calling = asyncio.ensure_future(call(running, tenants, number, chance))
            if chance.random() < 0.1:
                await asyncio.sleep(chance.random() / 50)
                calling.cancel()
            try:
                answer: Answer = await calling
            except asyncio.CancelledError:
                outcomes["left"] += 1
                return
        outcomes[str(answer.status)] += 1
        assert named(answer.text) <= {tenants[0]}, (tenants[0], answer)

    cutting = asyncio.create_task(_cut_connections(running))
    await asyncio.gather(*(one(number) for number in range(1, calls + 1)))
    cutting.cancel()
    print(service, dict(outcomes))
    assert {"left", *expected} <= outcomes.keys() <= {"left", "503", *expected}
    assert outcomes["503"] < calls / 4
    assert await _rows_that_name_their_tenant(running) > calls / 10


def named(text: str) -> set[str]:
    """The tenants that a text names."""
    return set(re.findall(r"tenant-\d+", text))


async def _cut_connections(running: Running) -> None:
    async with connected(running.urls.superuser) as conn:
        while True:
            await asyncio.sleep(0.3)
            await conn.execute(CUT, running.urls.name)


async def _rows_that_name_their_tenant(running: Running) -> int:
    """How many there are; no row names another tenant than its own."""
    owned = 0
    async with connected(running.urls.superuser) as conn:
        for (table,) in await conn.fetch(TABLES):
            for row in await conn.fetch(ROWS.format(table=table)):
                content = json.loads(row["row"])
                del content["tenant_id"]
                assert named(json.dumps(content)) <= {row["tenant_id"]}, (table, row)
                owned += bool(named(json.dumps(content)))
    return owned
