"""A database that dies in the middle of everything: nobody is told yes meanwhile, nothing told before is lost."""

import asyncio
import os
import signal
import time
from contextlib import suppress

import asyncpg
import pytest

from deploy.databases import SERVICES
from deploy.postgres_folder import find_binaries, plain_environment
from deploy.processes import guarded, run, spawn
from tests.conftest import until
from tests.faults.books import drained, rows
from tests.faults.load import City
from tests.faults.reads import READS, read
from tests.faults.servers import Server, Servers
from tests.faults.sizes import LONG, size

STOPS = size(short=2, long=10)
KILLED_BACKENDS = size(short=1, long=5)
RATE = size(short=100, long=300)
GOES_ON_WITHIN_S = 15.0
NOISE = 1 if LONG else 3  # the short form runs beside much else
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename = $1 AND pid <> pg_backend_pid()"
AMCHECK = "SELECT FROM pg_available_extensions WHERE name = 'amcheck'"

pytestmark = pytest.mark.timeout(size(short=300, long=3_600))


async def test_a_database_that_is_stopped_at_once_again_and_again(servers: Servers, city: City):
    async with city.traffic(RATE):
        for _ in range(STOPS):
            await asyncio.sleep(city.chance.uniform(0.5, 1.5))
            await servers.postgres.end(signal.SIGQUIT)  # pg_ctl stop -m immediate
            ended_at = time.time()
            await _all_are_put_off(city)
            still_away_at = await _start(servers.postgres)
            assert city.journal.told_between(ended_at, still_away_at) == []
            print(f"nobody was told yes for {still_away_at - ended_at:.1f} s")
            await _goes_on(servers, city)
    await city.check()
    await servers.takings("check")
    await _is_sound(servers)


async def test_a_backend_that_is_killed_takes_nothing_with_it(servers: Servers, city: City):
    """Nor an answer: each call is told yes, or to come again."""
    async with city.traffic(RATE):
        for _ in range(KILLED_BACKENDS):
            await asyncio.sleep(city.chance.uniform(0.2, 1.0))
            for role in ("payments_app", "payouts_system", "reporting_app", "alerts_app"):
                (pid,) = city.chance.choice(await until(lambda role=role: _backends(servers, role)))
                os.kill(pid, signal.SIGTERM if role == "payouts_system" else signal.SIGKILL)
                await until(servers.postgres.ready)
            await _goes_on(servers, city)
    # No client was left without an answer, neither by a connection that broke nor by its own patience.
    assert city.journal.failed.keys() <= {503}
    await city.check()
    await servers.takings("check")


async def _backends(servers: Servers, role: str) -> list[asyncpg.Record]:
    # The server may be about to throw out everybody for the one that was killed before, although it has just answered.
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return await rows(servers, "postgres", BACKENDS, role)
    return []


async def _all_are_put_off(city: City) -> None:
    """Every new call and read gets a 503 that names a time to come again (of calls, the journal sees to that)."""
    put_off = city.journal.answers[503]

    async def some_were_put_off() -> bool:
        return city.journal.answers[503] > put_off + 5

    await until(some_were_put_off)
    assert await asyncio.gather(*(read(city, service) for service in READS)) == [503] * len(READS)


async def _start(server: Server) -> float:
    """Start the server; the last moment at which it was certainly not back yet."""
    away_at = time.time()

    async def is_back() -> bool:
        nonlocal away_at
        asked_at = time.time()
        if await server.ready():
            return True
        away_at = asked_at
        return False

    server.process = spawn(server.command)
    await until(is_back, within_s=90)
    return away_at


async def _goes_on(servers: Servers, city: City) -> None:
    started, settled = time.monotonic(), len(city.journal.settled)
    await servers.until_ready(*SERVICES)

    async def calls_are_answered() -> bool:
        return len(city.journal.settled) > settled + 50

    await until(calls_are_answered, within_s=60)
    after_s = time.monotonic() - started
    print(f"goes on after {after_s:.1f} s")
    assert after_s < GOES_ON_WITHIN_S * NOISE


async def _is_sound(servers: Servers) -> None:
    """PostgreSQL's own tools find nothing wrong on disk."""
    binaries, command = find_binaries(), servers.postgres.command
    data = command.argv[command.argv.index("-D") + 1]
    await servers.postgres.end(signal.SIGINT)
    checksums = [*guarded(command.account), str(binaries / "pg_checksums"), "--check", "-D", data]
    said = await asyncio.to_thread(run, checksums, what="pg_checksums", env=plain_environment())
    assert "Bad checksums:  0" in said
    await servers.postgres.start()
    if await rows(servers, "postgres", AMCHECK):
        amcheck = [str(binaries / "pg_amcheck"), "--all", "--install-missing", "--heapallindexed", "--maintenance-db"]
        await asyncio.to_thread(
            run, [*amcheck, servers.postgres_server.url()], what="pg_amcheck", env=plain_environment()
        )  # fmt: skip
    else:
        print("pg_amcheck was not run: this PostgreSQL comes without the extension amcheck")
    await servers.until_ready()
    await drained(servers)
