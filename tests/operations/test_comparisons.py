"""What two databases are compared by: each statement once a tenant, and no further than needed to name what is wrong."""

from collections import Counter

import asyncpg

from deploy.operations.check.comparisons import _by_key, compare
from deploy.operations.check.facts import FACTS
from deploy.operations.check.findings import MOST_NAMED
from deploy.operations.check.run_checks import lines_of, snapshots_of_all

ADD_FACTS = """
INSERT INTO payments SELECT (jsonb_populate_record(p, jsonb_build_object('payment_id', gen_random_uuid()))).*
FROM payments AS p, generate_series(1, $2)
WHERE tenant_id = $1 AND payment_id = (SELECT min(payment_id) FROM payments WHERE tenant_id = $1)
"""
PAYMENT_FACTS = FACTS[0]


class Counted:
    """A connection, and which statements of which tenant went through it how often."""

    def __init__(self, conn):
        self.conn, self.made = conn, Counter()

    def __getattr__(self, name):
        method = getattr(self.conn, name)
        if name not in {"fetch", "cursor"}:
            return method

        def call(statement, *arguments, **options):
            self.made[statement, arguments[:1]] += 1
            return method(statement, *arguments, **options)

        return call


async def compared(world, facts):
    """What the comparison of payments finds after so many facts were added by tenant, and how often a statement was made."""
    conn = await asyncpg.connect(world.urls["reporting"].superuser)
    for tenant, count in facts.items():
        await conn.execute(ADD_FACTS, tenant, count)
    await conn.close()
    async with snapshots_of_all() as snapshots:
        counted = {service: Counted(snapshot) for service, snapshot in snapshots.items()}
        outcome = await compare(PAYMENT_FACTS, counted)
        return outcome, counted


async def test_many_buckets_that_differ_are_read_by_one_statement(world):
    outcome, counted = await compared(world, {"amka": 12, "windy": 4})
    assert [len([f for f in outcome.faults if f.tenant_id == tenant]) for tenant in ("amka", "windy")] == [12, 4]
    assert all(fault.problem.startswith("nothing accounts for it: ") for fault in outcome.faults)
    assert (outcome.more, outcome.is_counted) == (0, True)
    assert {times for conn in counted.values() for times in conn.made.values()} == {1}


async def test_looking_ends_when_enough_is_named(world):
    outcome, counted = await compared(world, {"amka": MOST_NAMED + 30, "windy": 1})
    assert ({f.tenant_id for f in outcome.faults}, len(outcome.faults)) == ({"amka"}, MOST_NAMED)
    assert (outcome.more, outcome.is_counted) == (1, False)
    assert lines_of([outcome])[-2] == "         and more, not looked for"
    assert "windy" not in {
        argument for conn in counted.values() for _, arguments in conn.made for argument in arguments
    }


async def test_streams_meet_at_their_keys():
    async def stream(*keys):
        for number, key in enumerate(keys):
            yield {"key": key, "number": number}

    streams = [stream("a", "b", "b", "é"), stream(), stream("B", "b", "c")]
    met = [(key, [None if row is None else row["number"] for row in rows]) async for key, rows in _by_key(streams)]
    assert met == [
        ("B", [None, None, 0]), ("a", [0, None, None]), ("b", [2, None, 1]), ("c", [None, None, 2]), ("é", [3, None, None])
    ]  # fmt: skip
