"""A durable stack for all tests of this folder, and a city of its own for each of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.faults.load import City, new_city
from tests.faults.seeds import seeded
from tests.faults.servers import Servers, running_servers


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """PostgreSQL, Kafka and the four services. A test leaves all of them running, reached without detours."""
    async with running_servers(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture
async def city(servers: Servers, found_city: Callable[[Servers], Awaitable[City]]) -> City:
    """A tenant with its traffic, on the common stack."""
    return await found_city(servers)


@pytest.fixture
async def found_city(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Callable[[Servers], Awaitable[City]]]:
    """`await found_city(servers)`: a tenant with its traffic on any stack."""
    chance = seeded(request.node.name)
    async with AsyncExitStack() as stack:

        async def found(servers: Servers) -> City:
            tenant = f"city-{chance.randrange(16**8):08x}"
            city = await new_city(servers, tenant, tmp_path_factory.mktemp("journal") / "journal.jsonl", chance)
            stack.push_async_callback(city.close)
            return city

        yield found
