"""All data of the broker is gone: the services' event logs are sent again, and everything downstream is as it must be."""

import asyncio
import os
import re
import signal
from datetime import UTC, datetime

import pytest

from deploy.databases import SERVICES
from tests.faults.books import drained, rows
from tests.faults.load import City
from tests.faults.servers import Servers
from tests.faults.sizes import LONG, size
from tests.shared.topics import end_offsets, exists

TRAFFIC_S = size(short=1, long=30)
RATE = size(short=100, long=300)
HASHES = """
SELECT tablename, format(
    'SELECT md5(string_agg(row, '''' ORDER BY row)) FROM (SELECT md5(t::text) AS row FROM %I AS t) AS r', tablename
)
FROM pg_tables WHERE schemaname = 'public'
"""
READERS = ("payouts", "reporting", "alerts")
COMPLETED = "SELECT key, event_id::text FROM outbox WHERE tenant_id = $1 AND event ->> 'type' = 'payment-completed'"
# By one of the two a reader keeps each of them.
HEARD_OF = {
    "payouts": "SELECT payment_id::text FROM earnings WHERE tenant_id = $1",
    "reporting": "SELECT payment_id FROM payments WHERE tenant_id = $1",
    "alerts": "SELECT event_id::text FROM inbox WHERE tenant_id = $1",
}
LOGGED = """
SELECT topic, count(*) FROM outbox
WHERE published_at IS NOT NULL AND ($1::timestamptz IS NULL OR created_at >= $1) GROUP BY topic
"""

pytestmark = pytest.mark.timeout(size(short=240, long=1_200))


async def test_all_data_of_the_broker_is_deleted(servers: Servers, city: City):
    began = datetime.now(UTC)
    async with city.traffic(RATE):
        await asyncio.sleep(TRAFFIC_S)
        _send(servers, signal.SIGSTOP)  # so that there are events in the broker which nobody has read
        await asyncio.sleep(TRAFFIC_S)
        await servers.lose_all_events()
        _send(servers, signal.SIGCONT)
    await drained(servers)
    unheard_of = await _unheard_of(servers, city)
    print(f"payments that a reader never heard of: {unheard_of}")
    assert all(unheard_of.values())
    # In the short form what other tests have left in the logs is spared: it has had its effect.
    since = None if LONG else began
    await _republish(servers, since)
    await city.check(within_s=90)
    content = await _content(servers)
    await servers.lose_all_events()
    assert await _in_topics(servers) == {"payments": 0, "payouts": 0}
    await _republish(servers, since)
    await drained(servers)
    assert await _content(servers) == content
    async with city.traffic(RATE):
        await _republish(servers, since)
    await city.check()
    await servers.takings("check")


async def _unheard_of(servers: Servers, city: City) -> dict[str, int]:
    """Of how many completed payments the readers know nothing."""
    completed = [set(row) for row in await rows(servers, "payments", COMPLETED, city.tenant)]
    count = {}
    for reader, query in HEARD_OF.items():
        heard_of = {row[0] for row in await rows(servers, reader, query, city.tenant)}
        count[reader] = sum(names.isdisjoint(heard_of) for names in completed)
    return count


async def _republish(servers: Servers, since: datetime | None) -> None:
    """Send both logs again; fails unless all that was in them is in the topics once more."""
    options = ("--since", since.isoformat()) if since else ()
    before = await _in_topics(servers)
    for service in ("payments", "payouts"):
        logged = {row["topic"]: row["count"] for row in await rows(servers, service, LOGGED, since)}
        print(said := (await servers.takings("republish", service, *options)).strip())
        sent = re.search(r"([\d,]+) events sent again", said)
        assert sent is not None
        assert int(sent[1].replace(",", "")) >= sum(logged.values())  # more, under traffic
        added = (await _in_topics(servers))[service] - before[service]
        assert added >= logged[service] > 0


async def _in_topics(servers: Servers) -> dict[str, int]:
    """How many records there are; none where the broker does not even have the topic."""
    broker = servers.broker.bootstrap
    topics = ("payments", "payouts")
    return {topic: await end_offsets(broker, topic) if await exists(broker, topic) else 0 for topic in topics}


def _send(servers: Servers, number: signal.Signals) -> None:
    for service in READERS:
        os.kill(servers.supervisor.pid(service), number)


async def _content(servers: Servers) -> dict[str, str]:
    """A hash of each table of each service."""
    hashes = {}
    for service in SERVICES:
        for table, hash_of_rows in await rows(servers, service, HASHES):
            ((hashes[f"{service}.{table}"],),) = await rows(servers, service, hash_of_rows)
    return hashes
