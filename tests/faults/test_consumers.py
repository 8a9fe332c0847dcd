"""Consumers that come and go, or cannot keep up: nothing lost, nothing doubled, and no memory eaten meanwhile."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from deploy.databases import SERVICES
from tests.faults.books import drained
from tests.faults.load import City
from tests.faults.servers import Server, Servers
from tests.faults.sizes import size

ROUNDS = size(short=1, long=24)
EVERY_S = size(short=3, long=5)
SLOW_S = size(short=8, long=60)
RATE = size(short=100, long=300)
MEMORY_LIMIT_MB = 250
BACKLOGS = (size(short=3_000, long=10_000), size(short=15_000, long=50_000))
GROWTH_LIMIT_MB = 20  # buffers fill; the events themselves would be twice that and more
READERS = ("payouts", "reporting", "alerts")
# Every batch of these services writes there; while others read it in peace.
BUSY_TABLES = {"payouts": "wallets", "reporting": "daily_rollups", "alerts": "inbox"}
HELD_S, FREE_S = 2.5, 0.3

pytestmark = pytest.mark.timeout(size(short=240, long=1_800))


async def test_consumers_that_join_and_leave(servers: Servers, city: City):
    async with memory_bounded(servers) as joined, city.traffic(RATE):
        for _ in range(ROUNDS):
            joined[:] = workers = [servers.another_worker(service) for service in READERS]
            async with running(workers, end=city.chance.choice([signal.SIGTERM, signal.SIGKILL])):
                await asyncio.sleep(EVERY_S)
            await asyncio.sleep(city.chance.uniform(0, EVERY_S))
    await city.check(within_s=90)
    await servers.takings("check")


async def test_consumers_that_are_slow(servers: Servers, city: City):
    async with memory_bounded(servers), city.traffic(RATE):
        await asyncio.gather(*(_slow_down(servers, service) for service in READERS))
    await city.check(within_s=90)
    await servers.takings("check")


async def test_memory_does_not_grow_with_the_backlog(servers: Servers, city: City):
    few, many = [await _most_resident_mb(servers, city, backlog) for backlog in BACKLOGS]
    grown = {service: round(many[service] - few[service], 1) for service in SERVICES}
    print(f"resident at most {many} MB; with {BACKLOGS[1]} events behind, not {BACKLOGS[0]}, more by {grown} MB")
    assert max(many.values()) < MEMORY_LIMIT_MB
    assert max(grown.values()) < GROWTH_LIMIT_MB
    await city.check(within_s=90)
    await servers.takings("check")


async def _most_resident_mb(servers: Servers, city: City, backlog: int) -> dict[str, float]:
    """What fresh processes have used at most when so many events have waited for the broker and gone through all of them."""
    await servers.kafka.end()
    for service in SERVICES:
        servers.start_service(service)
    await servers.until_ready()
    await city.collect(backlog)
    await servers.kafka.start()
    await drained(servers, within_s=300)
    return {service: _most_mb(servers.supervisor.pid(service)) for service in SERVICES}


def _most_mb(pid: int | None) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@asynccontextmanager
async def running(workers: list[Server], *, end: signal.Signals) -> AsyncIterator[None]:
    """Workers that join for the block and leave by the signal."""
    try:
        await asyncio.gather(*(worker.start() for worker in workers))
        yield
    finally:
        await asyncio.gather(*(worker.end(end) for worker in workers if worker.runs))


@asynccontextmanager
async def memory_bounded(servers: Servers) -> AsyncIterator[list[Server]]:
    """Fail when a service, or a worker in the list, was larger than a service may be, at any moment of the block."""
    largest_mb: Counter[str] = Counter()
    joined: list[Server] = []

    async def watch() -> None:
        while True:
            pids = {service: servers.supervisor.pid(service) for service in SERVICES}
            pids |= {worker.command.name: worker.process.pid for worker in joined if worker.process and worker.runs}
            for name, pid in pids.items():
                largest_mb[name] = max(largest_mb[name], psutil.Process(pid).memory_info().rss >> 20)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(watch())
    try:
        yield joined
        assert not task.done()  # it has watched until now
    finally:
        task.cancel()
    print(f"resident at most {dict(largest_mb)} MB")
    assert all(largest_mb[name] for name in (*SERVICES, *(worker.command.name for worker in joined)))
    assert max(largest_mb.values()) < MEMORY_LIMIT_MB


async def _slow_down(servers: Servers, service: str) -> None:
    conn = await asyncpg.connect(servers.database_url(service))
    try:
        for _ in range(int(SLOW_S / (HELD_S + FREE_S))):
            async with conn.transaction():
                await conn.execute(f"LOCK TABLE {BUSY_TABLES[service]} IN SHARE MODE")
                await asyncio.sleep(HELD_S)
            await asyncio.sleep(FREE_S)
    finally:
        await conn.close()
