"""A broker that dies, stands still or comes late delays events and nothing else."""

import asyncio
import time

import pytest

from deploy.databases import SERVICES
from tests.faults.books import drained, events_in_order
from tests.faults.load import City
from tests.faults.servers import Servers
from tests.faults.sizes import LONG, size

KILLS = size(short=1, long=10)
FROZEN_S = size(short=4, long=20)
RATE = size(short=100, long=300)
DRAINED_WITHIN_S = 30.0
NOISE = 1 if LONG else 3  # the short form runs beside much else

pytestmark = pytest.mark.timeout(size(short=300, long=3_600))


async def test_a_broker_that_is_killed_again_and_again(servers: Servers, city: City):
    async with city.traffic(RATE, must_be_reached=LONG):
        for _ in range(KILLS):
            await asyncio.sleep(city.chance.uniform(0.2, 1.5))
            await servers.kafka.end()
            await asyncio.sleep(city.chance.uniform(0.2, 1.5))
            await servers.kafka.start()
            back_at = time.monotonic()
    await _nothing_but_delay(servers, city, back_at)


async def test_a_broker_that_comes_after_the_services(servers: Servers, city: City):
    await servers.kafka.end()
    for service in SERVICES:
        servers.start_service(service)
    await servers.until_ready()
    async with city.traffic(RATE, must_be_reached=LONG):
        await asyncio.sleep(1)
    await servers.kafka.start()
    await _nothing_but_delay(servers, city, time.monotonic())


async def test_a_broker_that_stands_still(servers: Servers, city: City):
    async with city.traffic(RATE, must_be_reached=LONG):
        await asyncio.sleep(0.5)
        servers.kafka.freeze()
        try:
            await asyncio.sleep(FROZEN_S)
        finally:
            servers.kafka.thaw()
        back_at = time.monotonic()
        await asyncio.sleep(0.5)
    await _nothing_but_delay(servers, city, back_at)


async def _nothing_but_delay(servers: Servers, city: City, back_at: float) -> None:
    """No call failed or was put off, all is there once and in order, within the time from the broker's return on."""
    assert city.journal.failed == {}
    await drained(servers, within_s=DRAINED_WITHIN_S * NOISE - (time.monotonic() - back_at))
    print(f"drained {time.monotonic() - back_at:.1f} s after the broker's return")
    await city.check()
    await servers.takings("check")
    await events_in_order(servers, city.tenant)
