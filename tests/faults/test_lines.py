"""Lines that break, stall, drip or hang: no call waits for ever, and when the line is whole again, so is the service."""

import asyncio
import time

import aiohttp
import pytest

from shared.db import CALL_LIMIT_S, Database
from tests.conftest import until
from tests.faults.lines import Line, Lines, PostgresMessages, Trouble, line_to
from tests.faults.load import LOST, City
from tests.faults.servers import Servers
from tests.faults.sizes import LONG, size

LASTS_S = {Trouble.CUT: 2, Trouble.DRIP: 2, Trouble.STALLED: 6, Trouble.HALF_OPEN: 6}
TIMES = size(short=1, long=3)
PLACES = ["database", "broker"] if LONG else ["both"]
RATE = 40
MARGIN_S = 1.0
HEALED_WITHIN_S = 10.0
NOISE = 1 if LONG else 2  # the short form runs beside much else
MORE_THAN_A_POOL = 12
READS = {"payments": "/payments", "payouts": "/payouts", "reporting": "/reports/revenue", "alerts": "/alerts"}

pytestmark = pytest.mark.timeout(size(short=240, long=1_200))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("trouble", [trouble for trouble in Trouble if trouble is not Trouble.NONE])
async def test_a_line_in_trouble(servers: Servers, lines: Lines, city: City, place: str, trouble: Trouble):
    bad = [*(lines.postgres.values() if place != "broker" else ()), *([lines.kafka] if place != "database" else ())]
    longest_read_s = 0.0
    for _ in range(TIMES):
        async with city.traffic(RATE):
            await asyncio.gather(*(_read(city, service) for service in READS for _ in range(MORE_THAN_A_POOL)))
            await _suffer(bad, trouble)
            reads = await asyncio.gather(*(_read_for(city, service, LASTS_S[trouble]) for service in READS))
            longest_read_s = max(longest_read_s, *reads)
            await _suffer(bad, Trouble.NONE)
            healed_s = await asyncio.gather(*(_healed(city, service) for service in READS))
        print(f"{trouble}: longest call {city.longest_s:.1f} s, longest read {longest_read_s:.1f} s, "
              f"healed after {max(healed_s):.1f} s")  # fmt: skip
        assert max(longest_read_s, city.longest_s) < (CALL_LIMIT_S + MARGIN_S) * NOISE
        assert max(healed_s) < HEALED_WITHIN_S * NOISE
    await city.check(within_s=90)


async def test_a_pool_of_dead_connections_is_not_tried_one_by_one(servers: Servers):
    async with line_to(servers.postgres_server.port, PostgresMessages) as line:
        url = servers.database_url("payments").replace(f":{servers.postgres_server.port}/", f":{line.port}/")
        db = Database(url, "full pool")
        together = asyncio.Barrier(db.size)
        await asyncio.gather(*(_meet(db, together) for _ in range(db.size)))
        await line.suffer(Trouble.HALF_OPEN)
        await line.suffer(Trouble.NONE)  # for new connections
        with pytest.raises(TimeoutError):
            await _use(db)
        started = time.monotonic()
        for _ in range(db.size):
            await _use(db)
        assert time.monotonic() - started < CALL_LIMIT_S
        await db.close()


async def _meet(db: Database, together: asyncio.Barrier) -> None:
    async with db.transaction("t1"):
        await together.wait()


async def _use(db: Database) -> None:
    async with db.transaction("t1") as conn:
        await conn.fetchval("SELECT 1")


async def _suffer(bad: list[Line], trouble: Trouble) -> None:
    for line in bad:
        await line.suffer(trouble)


async def _read_for(city: City, service: str, seconds: float) -> float:
    """Read again and again; how long the longest call took."""
    longest_s, until_s = 0.0, time.monotonic() + seconds
    while (started := time.monotonic()) < until_s:
        await _read(city, service)
        longest_s = max(longest_s, time.monotonic() - started)
        await asyncio.sleep(0.1)
    return longest_s


async def _healed(city: City, service: str) -> float:
    """Seconds until as many reads in a row have gone well as no pool has connections."""
    started = time.monotonic()

    async def all_well() -> bool:
        return all([await _read(city, service) for _ in range(MORE_THAN_A_POOL)])

    await until(all_well, within_s=60)
    return time.monotonic() - started


async def _read(city: City, service: str) -> bool:
    headers = city.servers.bearer("admin", tenant=city.tenant)
    url = f"{city.servers.url(service)}/api/v1{READS[service]}"
    try:
        async with city.session.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as answer:
            assert answer.status in {200, 503}, await answer.text()
            return answer.status == 200
    except LOST:
        return False
