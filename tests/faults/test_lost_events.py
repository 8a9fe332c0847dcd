"""All data of the broker is gone: the services' event logs are sent again, and everything downstream is as it must be."""

import asyncio
import os
import signal
from datetime import UTC, datetime

import pytest

from deploy.databases import SERVICES
from tests.faults.books import drained, rows
from tests.faults.load import City
from tests.faults.servers import Servers
from tests.faults.sizes import LONG, size

TRAFFIC_S = size(short=1, long=30)
RATE = size(short=100, long=300)
HASHES = """
SELECT tablename, format(
    'SELECT md5(string_agg(row, '''' ORDER BY row)) FROM (SELECT md5(t::text) AS row FROM %I AS t) AS r', tablename
)
FROM pg_tables WHERE schemaname = 'public'
"""
READERS = ("payouts", "reporting", "alerts")

pytestmark = pytest.mark.timeout(size(short=240, long=1_200))


async def test_all_data_of_the_broker_is_deleted(servers: Servers, city: City):
    began = datetime.now(UTC).isoformat()
    async with city.traffic(RATE):
        await asyncio.sleep(TRAFFIC_S)
        _send(servers, signal.SIGSTOP)  # so that there are events in the broker which nobody has read
        await asyncio.sleep(TRAFFIC_S)
        await servers.lose_all_events()
        _send(servers, signal.SIGCONT)
    # In the short form what other tests have left in the logs is spared: it has had its effect.
    options = () if LONG else ("--since", began)
    await _republish(servers, *options)
    await city.check(within_s=90)
    content = await _content(servers)
    await servers.lose_all_events()
    await _republish(servers, *options)
    await drained(servers)
    assert await _content(servers) == content
    async with city.traffic(RATE):
        await _republish(servers, *options)
    await city.check()
    await servers.takings("check")


async def _republish(servers: Servers, *options: str) -> None:
    for service in ("payments", "payouts"):
        print((await servers.takings("republish", service, *options)).strip())


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
