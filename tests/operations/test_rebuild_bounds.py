"""What `takings rebuild` does while writers wait is bounded, and what it lets into the tables then is whole."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from bench.place import TENANT
from deploy.errors import StackError
from deploy.operations.rebuild import alert_rows, alerts, building, event_log, reporting
from deploy.operations.rebuild.event_log import EventLog
from deploy.operations.rebuild.shadow import Shadow
from tests.conftest import connected
from tests.operations import test_rebuild_alerts, test_rebuild_reporting
from tests.test_query_plans import looked_at

BOTH = pytest.mark.parametrize("model", [test_rebuild_reporting, test_rebuild_alerts], ids=["reporting", "alerts"])
MANY = """
SET session_replication_role = replica;
INSERT INTO inbox SELECT '{tenant}', gen_random_uuid(), now() FROM generate_series(1, 20000);
INSERT INTO alerts (tenant_id, alert_id, rule_id, kind, subject, summary, raised_at)
SELECT '{tenant}', gen_random_uuid(), '{rule}', 'high_value', n, 'x', now() FROM generate_series(1, 20000) AS n;
INSERT INTO audit (tenant_id, audit_id, at, actor, action, subject)
SELECT '{tenant}', alert_id, now(), 'x', 'alert-acknowledged', alert_id FROM alerts;
CREATE SCHEMA rebuild;
CREATE TABLE rebuild.alerts (LIKE alerts INCLUDING ALL);
INSERT INTO rebuild.alerts SELECT * FROM alerts;
ANALYZE;
"""


@dataclass
class Waits:
    """Each time that writers wait, how many events are read; `before` comes just before they do."""

    reads: list[int] = field(default_factory=list)
    is_stopped: bool = False

    def watch(self, monkeypatch, before):
        stop, decode = Shadow.writers_stopped, EventLog._decoded

        @asynccontextmanager
        async def watched(shadow):
            await before()
            async with stop(shadow):
                self.reads.append(0)
                self.is_stopped = True
                try:
                    yield
                finally:
                    self.is_stopped = False

        def counted(log, row):
            if self.is_stopped:
                self.reads[-1] += 1
            return decode(log, row)

        monkeypatch.setattr(Shadow, "writers_stopped", watched)
        monkeypatch.setattr(EventLog, "_decoded", counted)
        return self


async def outbox_rows(world):
    found = 0
    for service in ("payments", "payouts"):
        async with connected(world.urls[service].system) as conn:
            found += await conn.fetchval("SELECT count(*) FROM outbox")
    return found


@BOTH
async def test_writers_wait_only_for_what_is_new(world, monkeypatch, model):
    """One event is handled only after the first passes have met it, the others are told after them."""
    await world.callback("amka", kind="failed", amount=777)
    before, right = await outbox_rows(world), {}

    async def more():
        await world.callback("amka", kind="failed", amount=778)
        await world.deliver()
        right.update(await model.contents(world))

    waits = Waits().watch(monkeypatch, more)
    rebuilt = await model.rebuild()
    assert waits.reads == [await outbox_rows(world) - before]
    assert (rebuilt.differences.total, rebuilt.is_swapped) == (0, True)
    assert await model.contents(world) == right


@BOTH
async def test_when_much_has_come_writers_go_on_first(world, monkeypatch, model):
    monkeypatch.setattr(building, "FEW", 3)
    monkeypatch.setattr(event_log, "PAGE_LIMIT", 1)
    times = []

    async def much():
        if not times:
            for number in range(8):
                await world.callback("amka", kind="failed", amount=800 + number)
            await world.deliver()
        times.append(1)

    waits = Waits().watch(monkeypatch, much)
    rebuilt = await model.rebuild()
    assert waits.reads == [4, 0]
    assert (rebuilt.differences.total, rebuilt.is_swapped) == (0, True)


async def test_when_much_comes_each_time_it_gives_up(world, monkeypatch):
    monkeypatch.setattr(building, "FEW", 3)
    monkeypatch.setattr(building, "PASSES_LIMIT", 2)
    right = await test_rebuild_reporting.contents(world)

    async def much():
        for number in range(8):
            await world.callback("amka", kind="failed", amount=800 + number)

    Waits().watch(monkeypatch, much)
    monkeypatch.setattr(event_log, "PAGE_LIMIT", 1)
    with pytest.raises(StackError, match="events come faster than reporting can be rebuilt"):
        await test_rebuild_reporting.rebuild()
    assert await test_rebuild_reporting.contents(world) == right


@pytest.fixture
def projected(monkeypatch):
    """How many events were projected at a time while writers waited."""
    project, sizes = reporting.project_events, []

    async def counted(conn, events):
        if waits.is_stopped:
            sizes.append(len(events))
        await project(conn, events)

    async def nothing():
        return

    waits = Waits().watch(monkeypatch, nothing)
    monkeypatch.setattr(reporting, "project_events", counted)
    monkeypatch.setattr(reporting, "ON_ITS_WAY", timedelta(days=1))  # all of the world's events, whenever it was made
    return sizes


async def test_few_events_are_projected_on_the_live_tables(world, monkeypatch, projected):
    monkeypatch.setattr(reporting, "FEW", 5)
    assert (await test_rebuild_reporting.rebuild()).is_swapped
    assert projected == [5]


async def test_events_that_the_live_tables_cannot_take_end_nothing(world, projected):
    right = await test_rebuild_reporting.contents(world)
    conn = await asyncpg.connect(world.urls["reporting"].superuser)
    await conn.execute("DELETE FROM tenants WHERE tenant_id = 'windy'")
    # Of a tenant that is known: a fact that no projection can merge.
    await conn.execute("UPDATE payments SET payees = '7' WHERE (tenant_id, transaction_id) = ('amka', 't-1')")
    await conn.close()
    rebuilt = await test_rebuild_reporting.rebuild()
    assert (rebuilt.differences.counts["tenants"], rebuilt.differences.counts["payments"]) == (1, 1)
    assert 3 < len(projected) < 30  # halved until the one was found; those of the lost tenant were not tried
    assert await test_rebuild_reporting.contents(world) == right


async def test_a_consumer_that_is_far_behind_comes_first(world, monkeypatch):
    monkeypatch.setattr(alerts, "LEFT_LIMIT", 2)
    for number in range(3):
        await world.callback("amka", kind="failed", amount=900 + number)
    with pytest.raises(StackError, match="alerts has more than 2 events still to handle"):
        await test_rebuild_alerts.rebuild()


async def test_no_statement_reads_all_alerts_while_writers_wait(database):
    urls, rule = await database("alerts"), uuid4()
    async with connected(urls.superuser) as conn:
        await conn.execute(MANY.format(tenant=TENANT, rule=rule))
    async with looked_at(urls.superuser) as conn:
        await conn.fetch(alert_rows.HANDLED, TENANT, [uuid4() for _ in range(500)])
        await conn.fetch(alert_rows.LIVE_ALERTS, TENANT, [rule] * 500, [str(n) for n in range(500)])
        await conn.execute(alert_rows.ACKNOWLEDGE, [TENANT, "other"], UUID(int=255 << 120))


async def test_no_pass_reads_a_log_again(database):
    urls = await database("payments")
    async with connected(urls.superuser) as conn:
        await conn.execute(
            "INSERT INTO outbox (tenant_id, event_id, topic, key, event, created_at) "
            "SELECT $1, gen_random_uuid(), 'payments', n, '{}', now() FROM generate_series(1, 20000) AS n",
            TENANT,
        )
        await conn.execute("ANALYZE outbox")
        last = await conn.fetchval("SELECT max(id) FROM outbox")
    async with looked_at(urls.superuser) as conn:
        await conn.fetch(event_log.MOVED, [TENANT], [last - 3_000], [10])
        await conn.fetch(event_log.PAGE, TENANT, 0, [], 500)
        await conn.fetch(event_log.PAGE, TENANT, last - 3_000, list(range(last - 3_000, last - 10)), 500)
