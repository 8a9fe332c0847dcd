"""The whole of Takings on one machine: PostgreSQL, Kafka, a mail catcher and the four services, started and stopped."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy import kafka, postgres
from deploy.databases import SERVICES, database_url, provision
from deploy.demo_tenant import DEMO_TENANT, ensure_demo_tenant
from deploy.errors import StackError, leaves
from deploy.ports import remembered_ports
from deploy.processes import Command, end_runs, last_line, run
from deploy.service_commands import (
    Surroundings,
    migrate_command,
    process_name,
    roles_of,
    service_command,
)
from deploy.stack_secrets import read_or_make_secrets
from deploy.state import write_private_json
from deploy.supervisor import Supervisor, end_leftovers
from deploy.tokens import TokenIssuer

HEALTHY_WITHIN_SECONDS = 90.0
SERVICE_GRACE_S = 5.5  # its callers get 2 s for their answers, its consumers 3 s to leave; who hangs longer is killed
DEATHS_AT_START = 3  # so often may a service die before it was ever healthy


@dataclass(frozen=True)
class StackOptions:
    """What may differ between runs."""

    state: Path
    ready: Path | None = None  # where stack.json is written too, once all is healthy
    split: bool = False  # API and worker of each service as separate processes


class Stack:
    """A stack on one state folder, whose lock the caller holds. Use it on the main thread's event loop."""

    def __init__(self, options: StackOptions, *, say: Callable[[str], None]) -> None:
        """Nothing is started yet."""
        self._options = options
        self._say = say
        self._logs = options.state / "logs"
        self._roles = roles_of(split=options.split)
        self._supervisor = Supervisor(
            options.state / "processes.json", say=say, on_restart=self._write_description_again
        )
        self._watch: asyncio.Task[None] | None = None
        self._description: dict[str, Any] | None = None
        self._ports: dict[str, int] = {}
        self._around: Surroundings
        self._stopping = False

    async def start(self) -> dict[str, Any]:
        """Start everything and return the content of stack.json once all is healthy. StackError when it cannot be."""
        state = self._options.state
        self._remove_descriptions()
        await asyncio.to_thread(end_leftovers, state / "processes.json", self._say)
        processes = [process_name(service, role) for service in SERVICES for role in self._roles]
        servers = ("postgres", "kafka", "kafka-controller", "smtp", "mail")
        self._ports = remembered_ports(state / "ports.json", (*servers, *processes))
        issuer = TokenIssuer(state)
        secrets = read_or_make_secrets(state)
        self._watch = asyncio.create_task(self._supervisor.watch())
        self._start_mail()
        async with _plain_errors(), asyncio.TaskGroup() as group:
            kafka_bootstrap = group.create_task(self._start_kafka())
            postgres_url = group.create_task(self._start_postgres())
            expected_kafka = os.environ.get("TAKINGS_KAFKA_BOOTSTRAP") or f"127.0.0.1:{self._ports['kafka']}"
            self._around = Surroundings(
                await postgres_url, expected_kafka, self._ports["smtp"], issuer.public_key, secrets
            )
            await provision(self._around.postgres_url, secrets.passwords)
            migrate = migrate_command(self._around)
            await asyncio.to_thread(run, migrate.argv, what="migrating the databases", env=migrate.env)
            self._say("databases are up to date")
            await kafka_bootstrap
        await self._start_services()
        account = await ensure_demo_tenant(self._url("payments"), issuer, state)
        self._description = self._describe(account)
        self._write_descriptions()
        return self._description

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stop services, mail, Kafka and PostgreSQL, in this order, within 10 s; at once when `hurry` is set."""
        self._stopping = True
        self._remove_descriptions()
        end_runs()
        if self._watch is not None:
            self._watch.cancel()
        services = [process_name(service, role) for service in SERVICES for role in self._roles]
        await self._supervisor.stop(
            [(services, SERVICE_GRACE_S), (["mail"], 0.5), (["kafka"], 2.0), (["postgres"], 1.5)], hurry=hurry
        )
        postgres.remove_socket_folder(self._options.state / "postgres")

    async def _start_postgres(self) -> str:
        given = os.environ.get("TAKINGS_POSTGRES_URL")
        if given:
            self._say("PostgreSQL: the server of TAKINGS_POSTGRES_URL")
            return given
        began = time.monotonic()
        server, command = await asyncio.to_thread(
            postgres.prepare,
            self._options.state / "postgres",
            port=self._ports["postgres"],
            log=self._logs / "postgres.log",
        )
        self._supervisor.start(command)
        await asyncio.to_thread(postgres.wait_until_ready, server, command, died=self._given_up("postgres"))
        self._say(f"PostgreSQL is ready ({time.monotonic() - began:.1f} s)")
        return server.url()

    async def _start_kafka(self) -> str:
        given = os.environ.get("TAKINGS_KAFKA_BOOTSTRAP")
        if given:
            self._say("Kafka: the broker of TAKINGS_KAFKA_BOOTSTRAP")
            return given
        began = time.monotonic()
        state = self._options.state
        broker, command = await asyncio.to_thread(
            kafka.prepare,
            state / "kafka",
            port=self._ports["kafka"],
            controller_port=self._ports["kafka-controller"],
            cache=state / "cache",
            log=self._logs / "kafka.log",
        )
        self._supervisor.start(command)
        await asyncio.to_thread(kafka.wait_until_ready, broker, command, died=self._given_up("kafka"))
        self._say(f"Kafka is ready ({time.monotonic() - began:.1f} s)")
        return broker.bootstrap

    def _start_mail(self) -> None:
        ports = ("--smtp-port", str(self._ports["smtp"]), "--http-port", str(self._ports["mail"]))
        folder = self._options.state / "mail"
        self._supervisor.start(
            Command(
                name="mail",
                argv=(sys.executable, "-m", "deploy.mail", *ports, "--folder", str(folder)),
                log=self._logs / "mail.log",
            )
        )

    async def _start_services(self) -> None:
        began = time.monotonic()
        for service in SERVICES:
            for role in self._roles:
                port = self._ports[process_name(service, role)]
                self._supervisor.start(service_command(service, role, port=port, around=self._around, logs=self._logs))
        async with _plain_errors(), asyncio.TaskGroup() as group:
            group.create_task(self._until_healthy("mail", "/messages"))
            for service in SERVICES:
                for role in self._roles:
                    group.create_task(self._until_healthy(process_name(service, role)))
        self._say(f"the services are ready ({time.monotonic() - began:.1f} s)")

    async def _until_healthy(self, name: str, path: str = "/health/ready") -> None:
        deadline = time.monotonic() + HEALTHY_WITHIN_SECONDS
        log = self._logs / f"{name}.log"
        given_up = self._given_up(name)
        async with httpx.AsyncClient(timeout=2) as client:
            while True:
                with suppress(httpx.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{self._ports[name]}{path}")).is_success:
                        return
                if given_up():
                    raise StackError(f"{name} does not start: {last_line(log)} (log: {log})")
                if time.monotonic() > deadline:
                    raise StackError(f"{name} was not healthy in {HEALTHY_WITHIN_SECONDS:.0f} s (log: {log})")
                await asyncio.sleep(0.1)

    def _given_up(self, name: str) -> Callable[[], bool]:
        return lambda: self._stopping or self._supervisor.deaths(name) >= DEATHS_AT_START

    def _url(self, service: str) -> str:
        return f"http://127.0.0.1:{self._ports[process_name(service, self._roles[0])]}"

    def _describe(self, account: dict[str, str]) -> dict[str, Any]:
        postgres_url = self._around.postgres_url
        return {
            "tenant": DEMO_TENANT,
            "services": {service: {"url": self._url(service), "pids": self._pids(service)} for service in SERVICES},
            "postgres": {
                "url": postgres_url,
                "pid": self._supervisor.pid("postgres"),
                "databases": {service: database_url(postgres_url, service) for service in SERVICES},
            },
            "kafka": {"bootstrap": self._around.kafka_bootstrap, "pid": self._supervisor.pid("kafka")},
            "mail": {"url": f"http://127.0.0.1:{self._ports['mail']}"},
            "gateway_accounts": {"standard": account},
        }

    def _pids(self, service: str) -> list[int | None]:
        return [self._supervisor.pid(process_name(service, role)) for role in self._roles]

    def _write_description_again(self) -> None:
        if self._description is not None:
            self._description.update(self._describe(self._description["gateway_accounts"]["standard"]))
            self._write_descriptions()

    def _write_descriptions(self) -> None:
        for file in self._description_files():
            write_private_json(file, self._description)

    def _remove_descriptions(self) -> None:
        self._description = None
        for file in self._description_files():
            file.unlink(missing_ok=True)

    def _description_files(self) -> list[Path]:
        ready = self._options.ready
        return [self._options.state / "stack.json", *([ready] if ready else [])]


@asynccontextmanager
async def _plain_errors() -> AsyncIterator[None]:
    """Of several things that failed together, the first one the operator can put right is worth one line."""
    try:
        yield
    except* StackError as group:
        raise next(leaves(group)) from None
