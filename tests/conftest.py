"""Real servers for the whole session, a fresh database for each test, and services built as their processes build them."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from cryptography.fernet import Fernet

from deploy.databases import SERVICES, provision, role_names, url_as
from deploy.kafka import running_kafka
from deploy.postgres import running_postgres
from deploy.tokens import TokenIssuer
from shared import telemetry
from shared.auth import DEVELOPMENT_ISSUER
from shared.db import Database
from shared.log import configure
from shared.migrations import upgrade
from shared.process import Service, stop
from shared.tasks import keep_running
from tests.containers import containers_answer, kafka_container, postgres_container

configure("tests")
SHARED_FILES = Path(os.environ.get("TAKINGS_SHARED", Path(__file__).parents[2] / "shared"))


@dataclass(frozen=True)
class ServiceUrls:
    """One test's database of one service."""

    name: str
    app: str
    system: str
    owner: str
    auditor: str
    superuser: str


@dataclass(frozen=True)
class Templates:
    """The migrated databases that tests copy."""

    server_url: str
    passwords: dict[str, str]
    migrated: set[str]

    def migrate(self, service: str) -> None:
        """Bring a service's template to its newest version, the first time that it is asked for."""
        if service not in self.migrated:
            upgrade(f"services.{service}", self.urls(service, f"template_{service}").owner)
            self.migrated.add(service)

    def urls(self, service: str, database: str) -> ServiceUrls:
        app, system, owner, auditor = (
            url_as(self.server_url, database, f"{service}_{role}", self.passwords[f"{service}_{role}"])
            for role in ("app", "system", "owner", "auditor")
        )
        superuser = self.server_url.rpartition("/")[0] + "/" + database
        return ServiceUrls(database, app, system, owner, auditor, superuser)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The superuser's URL of a real server: a container where an engine answers, else the local binaries."""
    if containers_answer():
        with postgres_container() as url:
            yield url
    else:
        with running_postgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
            yield server.url()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a real broker."""
    if containers_answer():
        with kafka_container() as bootstrap:
            yield bootstrap
    else:
        with running_kafka(tmp_path_factory.mktemp("kafka")) as broker:
            yield broker.bootstrap


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> TokenIssuer:
    return TokenIssuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="session")
async def templates(postgres_url: str) -> Templates:
    made = Templates(postgres_url, {role: secrets.token_hex(8) for role in role_names()}, set())
    names = {service: f"template_{service}" for service in SERVICES}
    await provision(postgres_url, made.passwords, names=names)
    return made


@pytest.fixture
async def database(templates: Templates) -> AsyncIterator[Callable[[str], Awaitable[ServiceUrls]]]:
    """`await database("payments")`: a fresh, migrated database of that service, dropped after the test.

    Or a copy of the database `template`, to which nobody is connected.
    """
    admin = await asyncpg.connect(templates.server_url)
    made = []

    async def create(service: str, *, template: str | None = None) -> ServiceUrls:
        templates.migrate(service)
        name = f"{service}_{secrets.token_hex(6)}"
        await admin.execute(
            f"CREATE DATABASE {name} OWNER {service}_owner TEMPLATE {template or f'template_{service}'}"
        )
        made.append(name)
        return templates.urls(service, name)

    yield create
    for name in made:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@dataclass(frozen=True)
class Running:
    """A service inside this process: its parts, its database, and a client that calls it over HTTP."""

    service: Service
    urls: ServiceUrls
    http: httpx.AsyncClient
    issuer: TokenIssuer

    def as_(self, *roles: str, tenant: str | None = "t1", **claims: Any) -> dict[str, str]:
        """The headers of a caller."""
        return {"authorization": f"Bearer {self.issuer.mint(list(roles), tenant_id=tenant, **claims)}"}


def environment(service: str, urls: ServiceUrls, issuer: TokenIssuer, kafka: str = "127.0.0.1:1") -> dict[str, str]:
    """What a service reads at its start, without prefix, in lower case."""
    values = {
        "environment": "local",
        "database_url": urls.app,
        "system_database_url": urls.system,
        "kafka_bootstrap": kafka,
        "http_port": "1",
        "auth_issuer": DEVELOPMENT_ISSUER,
        "auth_public_key": issuer.public_key,
        "unsafe_durability_for_tests": "true",
        "tenant_wait_s": "1",
    }
    if service == "payments":
        values["secrets_keys"] = Fernet.generate_key().decode()
    if service == "alerts":
        values |= {"smtp_host": "127.0.0.1", "smtp_port": "1"}
    return values


@pytest.fixture
async def run(database: Any, issuer: TokenIssuer) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """`await run("payments", role="api")`: the service on a fresh database, its background tasks running."""
    async with AsyncExitStack() as stack:

        async def start(
            name: str, *, role: str = "api", kafka: str = "127.0.0.1:1", template: str | None = None, **overrides: str
        ) -> Running:
            urls = await database(name, template=template)
            return await stack.enter_async_context(
                running_service(name, urls, issuer, role=role, kafka=kafka, overrides=overrides)
            )

        yield start


@asynccontextmanager
async def running_service(
    name: str, urls: ServiceUrls, issuer: TokenIssuer, *, role: str, kafka: str, overrides: dict[str, str]
) -> AsyncIterator[Running]:
    """A service inside this process, on the database of `urls`, until the block ends."""
    for metric in (telemetry.OUTBOX_AGE, telemetry.UNHANDLED_AGE):  # of the service before in this process
        metric.set(0)
    module = import_module(f"services.{name}.__main__")
    settings = module.Settings(**{**environment(name, urls, issuer, kafka), **overrides})
    service = module.build(settings, role)
    background = [asyncio.create_task(keep_running(task, call)) for task, call in service.tasks.items()]
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://takings") as http:
        yield Running(service, urls, http, issuer)
    await stop(service, background)
    await end(*background)  # a process that is stopped ends without those who take longer


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel them until they are gone.

    Once may not do: before Python 3.12 a `wait_for` whose answer comes at that very moment, as there are many in the Kafka
    client, keeps the cancellation to itself.
    """
    left = {task for task in tasks if not task.done()}
    for task in left:
        if not task.cancelling():  # who is already at its end is left to it for a while
            task.cancel()
    while left:
        _, left = await asyncio.wait(left, timeout=5)
        for task in left:
            task.cancel()


TENANTS = {"acme": ("Africa/Nairobi", "KES"), "other": ("America/Chicago", "USD")}
ADD_TENANT = "INSERT INTO tenants VALUES ($1, $1, $2, $3, 1, now())"


async def add_tenants(db: Database) -> None:
    """Two tenants in different zones and currencies, in a service's copy of them."""
    for tenant_id, (zone, currency) in TENANTS.items():
        async with db.transaction(tenant_id) as conn:
            await conn.execute(ADD_TENANT, tenant_id, zone, currency)


async def until(condition: Callable[[], Awaitable[Any]], *, within_s: float = 15.0) -> Any:
    """The first true answer of `condition`, asked again and again until the deadline."""
    async with asyncio.timeout(within_s):
        while not (answer := await condition()):
            await asyncio.sleep(0.02)
    return answer


@asynccontextmanager
async def connected(url: str, *tenants: str) -> AsyncIterator[Any]:
    """A connection whose whole session sees `tenants`."""
    conn = await asyncpg.connect(url)
    try:
        await conn.execute("SELECT set_config('app.tenant', $1, false)", ",".join(tenants))
        yield conn
    finally:
        await conn.close()
