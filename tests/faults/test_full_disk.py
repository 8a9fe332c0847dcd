"""A disk that is full: nobody is told yes for what is not kept, and with room again all goes on by itself."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from deploy.processes import spawn
from tests.conftest import until
from tests.faults.books import UNPUBLISHED, events_in_order, rows
from tests.faults.load import City
from tests.faults.servers import Server, Servers, running_servers
from tests.faults.sizes import size
from tests.faults.writes import WRITES, kept, write

DISK_MB = size(short=500, long=2_000)
RATE = size(short=60, long=300)
FULL_S = size(short=2, long=20)
TIMES = size(short=1, long=3)
STARTED_WITHIN_S = 30

pytestmark = pytest.mark.timeout(size(short=300, long=1_800))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own in memory; skips where this process may not mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """A stack whose database and broker have small disks, one each."""
    folder = tmp_path_factory.mktemp("full-disk")
    with small_disk(folder / "postgres"), small_disk(folder / "kafka"):
        async with running_servers(folder) as servers:
            yield servers


@pytest.fixture
async def crowded(small: Servers, found_city: Callable[[Servers], Awaitable[City]]) -> City:
    return await found_city(small)


@asynccontextmanager
async def kept_running(*servers: Server) -> AsyncIterator[None]:
    """Servers that end, or hang at their start, are started again, as whatever runs them would do it.

    A broker that meets the full disk at its start may hang in its own end.
    """

    over = asyncio.Event()

    async def watch(server: Server) -> None:
        spawned: float | None = None
        while not over.is_set():
            if not server.runs:
                server.process, spawned = spawn(server.command), time.monotonic()
            elif spawned is not None and await server.ready():
                spawned = None
            elif spawned is not None and time.monotonic() - spawned > STARTED_WITHIN_S:
                await server.end()
            await asyncio.sleep(0.3)

    tasks = [asyncio.create_task(watch(server)) for server in servers]
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def filled(disk: Path) -> AsyncIterator[None]:
    """No room but what is freed meanwhile, to which nobody else gets either."""
    filler = disk / "filler"
    await asyncio.to_thread(_fill, filler)  # for seconds, in which clients would hear no answer
    try:
        yield
    finally:
        filler.unlink()


def _fill(filler: Path) -> None:
    with filler.open("wb") as file:
        for size_bytes in (1 << 20, 4096):
            with suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(size_bytes))


async def test_a_database_without_room_refuses_until_there_is_some(small: Servers, crowded: City):
    async with kept_running(small.postgres), crowded.traffic(RATE):
        for _ in range(TIMES):
            await asyncio.sleep(0.5)
            put_off = crowded.journal.answers[503]
            async with filled(small.folder / "postgres"):
                await until(lambda before=put_off: _more_are_put_off(crowded, before), within_s=90)
                told_yes = await asyncio.gather(*(_until_refused(crowded, service) for service in WRITES))
                await asyncio.sleep(FULL_S)
            await until(small.postgres.ready, within_s=60)
            await small.until_ready()
            for service, ids in zip(WRITES, told_yes, strict=True):
                assert ids <= await kept(crowded, service)
    assert crowded.journal.failed.keys() <= {503}
    await crowded.check(within_s=120)
    await small.takings("check")


async def test_a_broker_without_room_delays_events_until_there_is_some(small: Servers, crowded: City):
    async with kept_running(small.kafka), crowded.traffic(RATE):
        for _ in range(TIMES):
            await asyncio.sleep(0.5)
            async with filled(small.folder / "kafka"):
                await until(lambda: _events_wait(small), within_s=90)
                await asyncio.sleep(FULL_S)
            await until(small.kafka.ready, within_s=120)
    assert crowded.journal.failed == {}
    await crowded.check(within_s=120)
    await small.takings("check")
    await events_in_order(small, crowded.tenant)


async def _more_are_put_off(city: City, before: int) -> bool:
    return city.journal.answers[503] > before + 5


async def _until_refused(city: City, service: str) -> set[str]:
    """What the service still finds room for, in pages that it has, until it says no."""
    told_yes = set()
    async with asyncio.timeout(60):
        while (written := await write(city, service)).status != 503:
            told_yes.add(written.id)
    print(f"{service} found room for {len(told_yes)} more")
    return told_yes


async def _events_wait(servers: Servers) -> bool:
    (waiting,) = await rows(servers, "payments", UNPUBLISHED)
    return waiting[0] > 10 * RATE
