"""Lines that break, stall, drip or hang: no call waits for ever, and when the line is whole again, so is the service."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from deploy.databases import SERVICES
from shared.db import Database
from tests.conftest import until
from tests.faults.books import rows
from tests.faults.lines import Line, Lines, Trouble, line_to
from tests.faults.load import City
from tests.faults.messages import PostgresMessages
from tests.faults.reads import READS, read
from tests.faults.servers import Servers
from tests.faults.sizes import LONG, size

LASTS_S = {Trouble.CUT: 2, Trouble.DRIP: 2, Trouble.STALLED: 6, Trouble.HALF_OPEN: 6}
TIMES = size(short=1, long=3)
PLACES = ["database", "broker"] if LONG else ["both"]
RATE = 40
CALL_LIMIT_S = 5.0  # the promise, not what the product makes of it; a client of the traffic gives up after 8
TO_ANSWER_S = 0.2  # beside what the machine takes, as is measured meanwhile
ALLOWED_S = size(short=2, long=1)  # of that; more would excuse what is no machine's fault
HEALED_WITHIN_S = 10.0
NOISE = 1 if LONG else 2  # the short form runs beside much else
POOL = 8
USED = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND query_start > $2"
UNPUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NULL AND created_at < $1"

pytestmark = pytest.mark.timeout(size(short=240, long=1_200))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("trouble", [trouble for trouble in Trouble if trouble is not Trouble.NONE])
async def test_a_line_in_trouble(servers: Servers, lines: Lines, city: City, place: str, trouble: Trouble):
    bad = [*(lines.postgres.values() if place != "broker" else ()), *([lines.kafka] if place != "database" else ())]
    for _ in range(TIMES):
        async with city.traffic(RATE):
            await asyncio.gather(*(_healed(city, service) for service in READS))  # all pools are full now
            city.longest_s = 0.0
            async with overhead_measured(city) as overhead:
                await _suffer(bad, trouble)
                reads = await asyncio.gather(*(_read_for(city, service, LASTS_S[trouble]) for service in READS))
                await _suffer(bad, Trouble.NONE)  # calls that began before have still to come to their end
                healed_s = await asyncio.gather(*(_healed(city, service) for service in READS), _publishes(servers))
        longest_s = max(*reads, city.longest_s)
        print(f"{trouble}: longest call {longest_s:.2f} s, longest one that waits for nothing {overhead.longest_s:.2f} s, "
              f"healed after {max(healed_s):.1f} s")  # fmt: skip
        assert longest_s < CALL_LIMIT_S + TO_ANSWER_S + min(overhead.longest_s, ALLOWED_S)
        assert max(healed_s) < HEALED_WITHIN_S * NOISE
    await city.check(within_s=90)
    await servers.takings("check")


async def test_a_pool_of_dead_connections_is_not_tried_one_by_one(servers: Servers):
    async with line_to(servers.postgres_server.port, PostgresMessages) as line:
        url = servers.database_url("payments").replace(f":{servers.postgres_server.port}/", f":{line.port}/")
        db = Database(url, "full pool")
        assert db.size == POOL  # as the services have it
        together = asyncio.Barrier(db.size)
        await asyncio.gather(*(_meet(db, together) for _ in range(db.size)))
        await line.suffer(Trouble.HALF_OPEN)
        await line.suffer(Trouble.NONE)  # for new connections
        with pytest.raises(TimeoutError):
            await _use(db)
        started = time.monotonic()
        await asyncio.gather(*(_meet(db, together) for _ in range(db.size)))
        assert time.monotonic() - started < CALL_LIMIT_S
        await db.close()


async def _meet(db: Database, together: asyncio.Barrier) -> None:
    async with db.transaction("t1") as conn:
        await conn.fetchval("SELECT 1")
        await together.wait()


async def _use(db: Database) -> None:
    async with db.transaction("t1") as conn:
        await conn.fetchval("SELECT 1")


async def _suffer(bad: list[Line], trouble: Trouble) -> None:
    for line in bad:
        await line.suffer(trouble)


@dataclass
class Overhead:
    """The longest that the machine took over an answer for which no server is asked."""

    longest_s: float = 0.0


@asynccontextmanager
async def overhead_measured(city: City) -> AsyncIterator[Overhead]:
    """What calls take at most, during the block, that wait for nothing; also when it is this process that gets no time."""
    overhead, over = Overhead(), asyncio.Event()

    async def ask(service: str) -> None:
        while not over.is_set():
            started = time.monotonic()
            await asyncio.sleep(0.05)
            async with city.session.get(city.servers.url(service) + "/health/live") as answer:
                assert answer.status == 200
            overhead.longest_s = max(overhead.longest_s, time.monotonic() - started - 0.05)

    tasks = [asyncio.create_task(ask(service)) for service in SERVICES]
    try:
        yield overhead
    finally:
        over.set()
        await asyncio.gather(*tasks)


async def _read_for(city: City, service: str, seconds: float) -> float:
    """Read again and again; how long the longest call took."""
    longest_s, until_s = 0.0, time.monotonic() + seconds
    while (started := time.monotonic()) < until_s:
        await read(city, service)
        longest_s = max(longest_s, time.monotonic() - started)
        await asyncio.sleep(0.1)
    return longest_s


async def _healed(city: City, service: str) -> float:
    """Seconds until all connections that a pool may have are there and work, several at once."""
    started = time.monotonic()
    await until(lambda: _all_connections_work(city, service), within_s=60)
    print(f"{service}: all connections work after {time.monotonic() - started:.1f} s")
    return time.monotonic() - started


async def _all_connections_work(city: City, service: str) -> bool:
    """Whether twice as many reads at once as a pool has connections go well, and have used them all."""
    ((since,),) = await rows(city.servers, service, "SELECT clock_timestamp()")
    statuses = await asyncio.gather(*(read(city, service) for _ in range(2 * POOL)))
    ((used,),) = await rows(city.servers, service, USED, f"{service}_app", since)
    return statuses == [200] * 2 * POOL and used == POOL


async def _publishes(servers: Servers) -> float:
    """Seconds until all is published that waits now."""
    started, now = time.monotonic(), datetime.now(UTC)

    async def nothing_waits() -> bool:
        return not any([(await rows(servers, service, UNPUBLISHED, now))[0][0] for service in ("payments", "payouts")])

    await until(nothing_waits, within_s=60)
    return time.monotonic() - started
