"""The operator's commands on a stack at work: each does what it is for, and nobody who pays or reads notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from deploy.operations.dead_letters import open_letters
from tests.conftest import until
from tests.faults.books import rows
from tests.faults.load import City
from tests.faults.reads import READS, read
from tests.faults.servers import Servers
from tests.faults.sizes import size
from tests.shared.topics import producing

TIMES = size(short=1, long=5)
RATE = size(short=60, long=300)
READERS = {"payouts", "reporting", "alerts"}  # of payments' events
PUBLISHED = """
SELECT event::text FROM outbox
WHERE tenant_id = $1 AND published_at IS NOT NULL AND event ->> 'type' = 'payment-completed' LIMIT 1
"""
MISPLACED = "the key is not the subject"

pytestmark = pytest.mark.timeout(size(short=240, long=1_800))


async def test_every_command_is_safe_while_the_services_work(servers: Servers, city: City):
    began = datetime.now(UTC).isoformat()
    async with city.traffic(RATE), reads_go_well(city):
        for _ in range(TIMES):
            await _set_an_event_aside(servers, city)
            for command in (
                "lag", "check", "rebuild reporting", "rebuild alerts", f"republish payments --since {began}",
                f"republish payouts --since {began}", "dlq list", "lag",
            ):  # fmt: skip
                print((await servers.takings(*command.split())).strip().rpartition("\n")[2])
            print(await servers.takings("dlq", "replay", "--reason", MISPLACED))
            assert await _set_aside(servers) == set()
    assert city.journal.failed == {}
    await city.check(within_s=90)
    await servers.takings("check")
    assert await _set_aside(servers) == set()  # sent again it was known, and came back to nobody


@asynccontextmanager
async def reads_go_well(city: City) -> AsyncIterator[None]:
    """Each service is read again and again during the block, and always answers."""
    statuses: set[int] = set()

    async def read_for_ever(service: str) -> None:
        while True:
            statuses.add(await read(city, service))
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(read_for_ever(service)) for service in READS]
    try:
        yield
        assert [task.exception() for task in tasks if task.done()] == []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert statuses == {200}


async def _set_an_event_aside(servers: Servers, city: City) -> None:
    """One that had its effect comes again under a key that is not its own, which no reader takes."""
    ((event,),) = await until(lambda: rows(servers, "payments", PUBLISHED, city.tenant))
    async with producing(servers.broker.bootstrap) as producer:
        await producer.send_and_wait("payments", event.encode(), key=b"another")

    async def all_have_set_it_aside() -> bool:
        return await _set_aside(servers) == READERS

    await until(all_have_set_it_aside)


async def _set_aside(servers: Servers) -> set[str]:
    letters = await open_letters(servers.broker.bootstrap)
    return {letter.consumer for letter in letters if letter.reason == MISPLACED}
