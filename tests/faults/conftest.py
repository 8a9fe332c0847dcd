"""A durable stack for all tests of this folder, and a city of its own for each of them."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from deploy.databases import SERVICES
from tests.faults.lines import Lines, line_to
from tests.faults.load import City
from tests.faults.messages import KafkaRequests, PostgresMessages
from tests.faults.new_city import new_city
from tests.faults.seeds import seeded
from tests.faults.servers import Servers, running_servers


@pytest.fixture(scope="package")  # not for longer: they would take their share of the other tests' processors
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """PostgreSQL, Kafka and the four services. A test leaves all of them running, reached without detours."""
    async with running_servers(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(scope="module")
async def lines(servers: Servers) -> AsyncIterator[Lines]:
    """The services reach their servers through lines, for as long as a module's tests run."""
    async with AsyncExitStack() as stack:
        door = servers.second_door
        kafka = await stack.enter_async_context(line_to(door.port, KafkaRequests, at=door.advertised))
        port = servers.postgres_server.port
        postgres = {s: await stack.enter_async_context(line_to(port, PostgresMessages)) for s in SERVICES}
        for service in SERVICES:
            servers.start_service(service, postgres_port=postgres[service].port, bootstrap=f"127.0.0.1:{kafka.port}")
        await servers.until_ready()
        yield Lines(kafka, postgres)
        for service in SERVICES:
            servers.start_service(service)
        await servers.until_ready()


@pytest.fixture
async def city(servers: Servers, found_city: Callable[[Servers], Awaitable[City]]) -> City:
    """A tenant with its traffic, on the common stack."""
    for server in (servers.postgres, servers.kafka):
        if not server.runs:  # a test has failed in the middle: the others need not
            await server.start()
    return await found_city(servers)


@pytest.fixture
async def found_city(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Callable[[Servers], Awaitable[City]]]:
    """`await found_city(servers)`: a tenant with its traffic on any stack."""
    chance = seeded(request.node.name)
    async with AsyncExitStack() as stack:

        async def found(servers: Servers) -> City:
            tenant = f"city-{secrets.token_hex(4)}"  # not by the seed, which all tests of a run may share
            city = await new_city(servers, tenant, tmp_path_factory.mktemp("journal") / "journal.jsonl", chance)
            stack.push_async_callback(city.close)
            return city

        yield found
