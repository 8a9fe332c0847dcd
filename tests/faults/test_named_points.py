"""Kills at the points where a promise could break: between two steps that no transaction holds together."""

import asyncio
from importlib import import_module

import pytest

from tests.faults.books import READ_BY, drained, rows
from tests.faults.lines import Held, Lines, Trouble
from tests.faults.load import City
from tests.faults.messages import offset_commit_of, sql
from tests.faults.servers import Servers
from tests.shared import topics

pytestmark = pytest.mark.timeout(240)
TRIPS = 20
CUT_S = 2  # less than until a member is missed: its group goes on with it
EFFECTS = {
    "payouts": "SELECT FROM journals WHERE tenant_id = $1",
    "reporting": "SELECT FROM payments WHERE tenant_id = $1",
    "alerts": "SELECT FROM inbox WHERE tenant_id = $1",
}
ALL_ROWS = "SELECT count(*) FROM outbox"
TOLD = "SELECT count(*) FROM outbox WHERE topic = 'payments' AND tenant_id = $1 AND event ->> 'type' = ANY ($2)"
CONSUMED = 'takings_events_consumed_total{topic="payments"} '


async def caught(*held: Held) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*(one.caught.wait() for one in held))


async def test_after_the_database_has_committed_and_before_the_offset_is(servers: Servers, lines: Lines, city: City):
    await drained(servers)
    broker = servers.broker.bootstrap
    read_before = {group: await topics.committed(broker, group) for group in READ_BY}
    held = [lines.kafka.hold(offset_commit_of(group), every=True) for group in READ_BY]
    await _pay(city)
    await caught(*held)
    for service, effect in EFFECTS.items():
        assert await rows(servers, service, effect, city.tenant)
        servers.kill_service(service)
    assert {group: await topics.committed(broker, group) for group in READ_BY} == read_before
    await lines.kafka.drop_held()
    await servers.until_ready()
    await city.check()
    # The new processes have read all of the city's events, thus some for the second time, and without effect.
    for service in EFFECTS:
        types = [event.TYPE for event in import_module(f"services.{service}.worker").EVENTS]
        ((told,),) = await rows(servers, "payments", TOLD, city.tenant, types)
        assert await _consumed(city, service) >= told >= TRIPS
    await servers.takings("check")


async def test_a_commit_that_the_broker_never_heard_is_made_good(servers: Servers, lines: Lines, city: City):
    """Without another event: after the last one of a day there is none, and the group would be behind until the morning."""
    await drained(servers)
    held = [lines.kafka.hold(offset_commit_of(group), every=True) for group in READ_BY]
    await _pay(city)
    await caught(*held)
    await lines.kafka.suffer(Trouble.CUT)
    await lines.kafka.drop_held()
    await asyncio.sleep(CUT_S)
    await lines.kafka.suffer(Trouble.NONE)
    await drained(servers, within_s=30)
    await city.check()


async def test_between_publishing_and_marking(servers: Servers, lines: Lines, city: City):
    before = await _repeats(servers)
    held = [lines.postgres[service].hold(sql("UPDATE outbox SET published_at")) for service in ("payments", "payouts")]
    await _pay(city)
    await caught(*held)
    for service in ("payments", "payouts"):
        servers.kill_service(service)
        await lines.postgres[service].drop_held()
    await servers.until_ready()
    await city.check()
    after = await _repeats(servers)
    assert all(after[topic] > before[topic] for topic in after)  # published again, and without effect
    await servers.takings("check")


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit, before the answer"])
async def test_between_reserving_and_answering(servers: Servers, lines: Lines, city: City, committed: bool):
    await _pay(city)
    await drained(servers)
    callback, cash = city.add_trip("webhook"), city.add_trip("cash")
    await asyncio.gather(city.register(callback), city.register(cash))
    payee = next(trip.shares[0][0] for trip in city.trips if trip.way == "webhook")
    points = {
        "INSERT INTO callbacks": ("payments", city.pay(callback)),
        "INSERT INTO idempotency_keys": ("payments", city.pay(cash)),
        "INSERT INTO payouts": ("payouts", city.ask_for_payout(payee, {})),
    }
    held = []
    for statement, (service, call) in points.items():
        held.append(lines.postgres[service].hold(sql(statement), sql("COMMIT"), answer_only=committed))
        city.play(call)
        await caught(held[-1])
    assert (
        bool(await rows(servers, "payments", "SELECT FROM payments WHERE transaction_id = $1", callback.transaction))
        is committed
    )
    assert bool(await rows(servers, "payouts", "SELECT FROM payouts WHERE tenant_id = $1", city.tenant)) is committed
    for service in ("payments", "payouts"):
        servers.kill_service(service)
        await lines.postgres[service].drop_held()
    await servers.until_ready()
    await city.settled()
    assert len(city.payouts) == 1
    await city.check()
    await servers.takings("check")


async def _pay(city: City) -> None:
    for _ in range(TRIPS):
        trip = city.add_trip("webhook")
        await city.register(trip)
        city.play(city.pay(trip))
    await city.settled()


async def _consumed(city: City, service: str) -> int:
    """How many records of the topic `payments` the service's process has given their effect, or found to have had it."""
    async with city.session.get(city.servers.url(service) + "/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(int(float(line.removeprefix(CONSUMED))) for line in lines if line.startswith(CONSUMED))


async def _repeats(servers: Servers) -> dict[str, int]:
    """How many records of each topic are more than there are events."""
    return {
        topic: await topics.end_offsets(servers.broker.bootstrap, topic) - (await rows(servers, topic, ALL_ROWS))[0][0]
        for topic in ("payments", "payouts")
    }
