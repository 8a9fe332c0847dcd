"""Writers wait for a rebuild for a moment only: not for what was left over, for autovacuum, for one that hangs."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from deploy.errors import StackError
from deploy.operations.rebuild import alerts, building, differences, shadow
from deploy.operations.rebuild.alerts import AlertsBuilding
from deploy.operations.rebuild.reporting import ReportingBuilding
from deploy.operations.rebuild.shadow import Shadow
from tests.conftest import connected
from tests.operations import test_rebuild_alerts, test_rebuild_reporting

WRITE = "BEGIN; LOCK TABLE public.payments IN ROW EXCLUSIVE MODE; COMMIT"


@pytest.fixture
def stops(monkeypatch):
    """For each time that writers wait, a list for tests to fill; `stops.before` comes before each."""

    class Stops(list):
        before = None

    found, stop = Stops(), Shadow.writers_stopped

    @asynccontextmanager
    async def watched(beside):
        if found.before:
            await found.before()
        async with stop(beside):
            found.append([])
            try:
                yield
            finally:
                found.append(None)  # writers go on

    monkeypatch.setattr(Shadow, "writers_stopped", watched)
    return found


async def test_what_was_left_over_is_applied_before_writers_wait(world, monkeypatch, stops):
    """Eight events are handled just before writers are to wait: only a few of them are applied meanwhile."""
    monkeypatch.setattr(building, "FEW", 3)
    monkeypatch.setattr(alerts, "PAGE_LIMIT", 1)
    for number in range(8):
        await world.callback("amka", kind="failed", amount=900 + number)
    apply = AlertsBuilding.apply

    async def watched(self, tenant_id, events):
        applied = await apply(self, tenant_id, events)
        if stops and stops[-1] is not None:
            stops[-1].append(applied)
        return applied

    monkeypatch.setattr(AlertsBuilding, "apply", watched)
    stops.before = world.deliver
    rebuilt = await test_rebuild_alerts.rebuild()
    assert [sum(applied) for applied in stops if applied is not None] == [4, 0]
    assert (rebuilt.differences.lines, rebuilt.is_swapped) == ([], True)


async def test_few_of_many_wrong_rows_are_looked_at_while_writers_wait(world, monkeypatch, stops):
    monkeypatch.setattr(differences, "LOOKED_AT", 3)
    monkeypatch.setattr(differences, "MOST_NAMED", 2)
    fetch = differences._fetch

    async def watched(conn, statement, suspects):
        if stops and stops[-1] is not None:
            stops[-1].append(len(suspects))
        return await fetch(conn, statement, suspects)

    monkeypatch.setattr(differences, "_fetch", watched)
    async with connected(world.urls["reporting"].superuser) as conn:
        await conn.execute("UPDATE earnings SET fleet_id = 'other'")
        await conn.execute(
            "INSERT INTO payee_balances SELECT 'amka', 'KES', 'x' || n, 1, 0, 0 FROM generate_series(1, 5) AS n"
        )
        earnings = await conn.fetchval("SELECT count(*) FROM earnings")
    refused = await test_rebuild_reporting.rebuild()
    assert refused.differences.counts == {"earnings": earnings, "payee_balances": 5}
    assert (refused.is_swapped, refused.differences.lacking) == (False, {"payee_balances": 5})
    assert (len(refused.differences.lines), max(stops[0])) == (4, 3)


async def test_what_has_arrived_meanwhile_is_no_suspect(world, monkeypatch):
    """Two payments were on their way when the tables were compared; one row is wrong."""
    still = building.still_suspect
    seen = []

    async def arrived(auditor, tables, suspects):
        found = await still(auditor, tables, suspects)
        seen.append([sum(map(len, each.values())) for each in (suspects, found)])
        return found

    suspects_in = building.suspects_in

    async def beside_traffic(auditor, tables):
        for number in range(2):
            await world.request("amka", f"new-{number}", 700)
            await world.callback("amka", request_id=f"new-{number}", amount=700)
        await world.deliver()
        return await suspects_in(auditor, tables)

    async with connected(world.urls["reporting"].superuser) as conn:
        await conn.execute("UPDATE tenants SET name = 'x' WHERE tenant_id = 'windy'")
    monkeypatch.setattr(building, "suspects_in", beside_traffic)
    monkeypatch.setattr(building, "still_suspect", arrived)
    rebuilt = await test_rebuild_reporting.rebuild()
    assert (rebuilt.differences.total, rebuilt.is_swapped) == (1, True)
    ((before, after),) = seen
    assert before > 4
    assert after == 1


async def test_autovacuum_at_the_new_tables_holds_up_no_writer(world, monkeypatch, stops):
    monkeypatch.setattr(shadow, "WAIT_FOR_AUTOVACUUM", "1s")
    monkeypatch.setattr(shadow, "TRIES", 2)  # to drop what is vacuumed until this test ends
    async with (
        connected(world.urls["reporting"].superuser) as vacuum,
        connected(world.urls["reporting"].app, "amka") as writer,
    ):
        await writer.execute("SET lock_timeout = '200ms'")

        async def begin():
            await vacuum.execute("BEGIN; LOCK TABLE rebuild.payments IN SHARE UPDATE EXCLUSIVE MODE")

        stops.before = begin
        rebuilding = asyncio.create_task(test_rebuild_reporting.rebuild())
        written = 0
        while not rebuilding.done():
            await writer.execute(WRITE)  # raises when it waits
            written += 1
            await asyncio.sleep(0.01)
        with pytest.raises(StackError, match="the new tables are being vacuumed"):
            await rebuilding
    assert written > 10


async def test_one_that_hangs_is_ended_and_writers_go_on(world, monkeypatch):
    settings = {**shadow.OWNER_SETTINGS, "idle_in_transaction_session_timeout": "3s"}
    monkeypatch.setattr(shadow, "OWNER_SETTINGS", settings)
    right, written = await test_rebuild_reporting.contents(world), []

    async def hang(_self):
        async with connected(world.urls["reporting"].app, "amka") as writer:
            written.append(await asyncio.wait_for(writer.execute(WRITE), 20))

    monkeypatch.setattr(ReportingBuilding, "complete_live", hang)
    with pytest.raises(StackError, match="lost the database of reporting"):
        await test_rebuild_reporting.rebuild()
    assert written == ["COMMIT"]
    assert await test_rebuild_reporting.contents(world) == right


async def test_what_takes_too_long_while_writers_wait_is_given_up(world, monkeypatch):
    monkeypatch.setattr(shadow, "ENDED_AFTER", "500ms")
    right = await test_rebuild_reporting.contents(world)

    async def slow(self):
        await self.beside.owner.execute("SELECT pg_sleep(20)")

    monkeypatch.setattr(ReportingBuilding, "complete_live", slow)
    with pytest.raises(StackError, match=r"writers of reporting would wait too long .*: nothing was changed"):
        await test_rebuild_reporting.rebuild()
    assert await test_rebuild_reporting.contents(world) == right
    async with connected(world.urls["reporting"].superuser) as conn:
        await conn.execute(WRITE)
