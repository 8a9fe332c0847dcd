"""Where a benchmark runs: its own durable PostgreSQL, its own Kafka, and the service processes it asks for."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import httpx
import psutil

from bench.processes import resident_mb
from deploy.databases import database_url, provision, service_databases
from deploy.demo_tenant import create_tenant
from deploy.kafka import running_kafka
from deploy.ports import free_port
from deploy.postgres import PostgresServer, running_postgres
from deploy.processes import run, spawn, stop
from deploy.service_commands import Surroundings, migrate_command, service_command
from deploy.stack_secrets import read_or_make_secrets
from deploy.tokens import TokenIssuer

TENANT = "bench"
READY_WITHIN_S = 30.0


@dataclass(frozen=True)
class Running:
    """A service process."""

    pid: int
    url: str


@dataclass(frozen=True)
class Place:
    """The servers of one benchmark."""

    folder: Path
    postgres: PostgresServer
    postgres_pid: int
    kafka_bootstrap: str
    kafka_pid: int
    issuer: TokenIssuer
    around: Surroundings = field(repr=False)
    resident_mb: dict[str, float]  # of each service, at its largest

    def superuser_url(self, database: str) -> str:
        """The URL of one database as the superuser, whom no row-level security slows down."""
        return database_url(self.postgres.url(), database)

    def headers(self, *roles: str, tenant: str = TENANT) -> dict[str, str]:
        """The headers of a caller."""
        return {"authorization": f"Bearer {self.issuer.mint(list(roles), tenant_id=tenant)}"}

    @contextmanager
    def service(self, name: str, role: str = "all", *, database: str | None = None) -> Iterator[Running]:
        """A service process on the database of its name or on another one, ready to answer."""
        port = free_port()
        command = service_command(name, role, port=port, around=self.around, logs=self.folder / "logs")  # type: ignore[arg-type]
        env = command.env or {}
        urls = {key: database_url(env[key], database or name) for key in env if key.endswith("DATABASE_URL")}
        process = spawn(replace(command, env={**env, **urls}))
        url = f"http://127.0.0.1:{port}"
        try:
            _until_ready(url, process, command.log)
            yield Running(process.pid, url)
            self.keep_resident(name, process.pid)
        finally:
            stop(process, command, grace_seconds=5)

    def keep_resident(self, service: str, pid: int) -> None:
        """Remember how much memory a service's process has now, if it is more than was seen before."""
        self.resident_mb[service] = max(self.resident_mb.get(service, 0.0), resident_mb(pid))

    def execute(self, database: str, *statements: str) -> None:
        """Run SQL as the superuser."""

        async def work() -> None:
            conn = await asyncpg.connect(self.superuser_url(database))
            try:
                for statement in statements:
                    await conn.execute(statement, timeout=3600)
            finally:
                await conn.close()

        asyncio.run(work())

    def value(self, database: str, query: str) -> object:
        """The first value of a query as the superuser."""

        async def work() -> object:
            conn = await asyncpg.connect(self.superuser_url(database))
            try:
                return await conn.fetchval(query, timeout=3600)
            finally:
                await conn.close()

        return asyncio.run(work())

    def copy_database(self, name: str, copy: str) -> None:
        """A database with the same content and the same roles, while nobody is connected to the first one."""
        (service,) = (each for each in service_databases() if each.service == name)
        opened = [f"GRANT CONNECT ON DATABASE {copy} TO {role}" for role in service.roles]
        self.execute("postgres", f"CREATE DATABASE {copy} TEMPLATE {name} STRATEGY file_copy", *opened)

    def create_tenant(self, payments: Running, tenant_id: str = TENANT, *, currency: str = "KES") -> None:
        """A tenant, through the API."""

        async def work() -> None:
            async with httpx.AsyncClient(base_url=f"{payments.url}/api/v1", timeout=15) as client:
                await create_tenant(
                    client,
                    self.issuer,
                    tenant_id=tenant_id,
                    name="Bench",
                    time_zone="Africa/Nairobi",
                    currency=currency,
                )

        asyncio.run(work())

    def open_account(self, payments: Running, tenant_id: str = TENANT) -> tuple[str, str]:
        """The id and the secret of a new gateway account."""
        answer = httpx.post(
            f"{payments.url}/api/v1/gateway-accounts",
            json={"gateway": "standard", "name": "Bench"},
            headers=self.headers("admin", tenant=tenant_id),
            timeout=15,
        )
        made = answer.raise_for_status().json()
        return made["id"], made["secret"]


@contextmanager
def place(folder: Path, resident_mb: dict[str, float]) -> Iterator[Place]:
    """Fresh servers under `folder`, migrated and empty; gone at the end, with their data left in the folder.

    `resident_mb` is told how large the services became.
    """
    (folder / "logs").mkdir(parents=True)
    with running_postgres(folder / "postgres") as server, running_kafka(folder / "kafka") as broker:
        issuer = TokenIssuer(folder)
        secrets = read_or_make_secrets(folder)
        around = Surroundings(server.url(), broker.bootstrap, 1, issuer.public_key, secrets)
        asyncio.run(provision(server.url(), secrets.passwords))
        migrate = migrate_command(around)
        run(migrate.argv, what="migrating the databases", env=migrate.env)
        postgres_pid = int((folder / "postgres/data/postmaster.pid").read_text().splitlines()[0])
        kafka_pid = _child(str(folder / "kafka"))
        yield Place(folder, server, postgres_pid, broker.bootstrap, kafka_pid, issuer, around, resident_mb)


def _child(named: str) -> int:
    """The pid of the child whose command line names a path."""
    for process in psutil.Process().children():
        if any(named in word for word in process.cmdline()):
            return process.pid
    raise RuntimeError(f"no child runs on {named}")


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            if httpx.get(f"{url}/health/ready", timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"a service does not start: {log}")
        time.sleep(0.05)
