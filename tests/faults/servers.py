"""PostgreSQL, Kafka and the four services as processes of their own, each of which a test may kill, freeze and start again."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

from deploy import kafka, postgres
from deploy.databases import SERVICES, provision
from deploy.ports import free_port
from deploy.processes import Command, kill_group, run, spawn
from deploy.service_commands import Role, Surroundings, migrate_command, service_command
from deploy.stack_secrets import read_or_make_secrets
from deploy.state import PROJECT, write_private_json
from deploy.supervisor import Supervisor
from deploy.tokens import TokenIssuer
from tests.conftest import until

Ready = Callable[[], Awaitable[bool]]
READY = b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@dataclass
class Server:
    """A process that runs when a test says so: PostgreSQL, Kafka, one more worker."""

    command: Command
    ready: Ready
    process: subprocess.Popen[bytes] | None = None

    async def start(self, *, within_s: float = 90) -> None:
        """Start it and wait until it serves."""
        self.process = spawn(self.command)
        await until(self.ready, within_s=within_s)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal and wait until the process is gone."""
        process = self.process
        assert process is not None
        process.send_signal(number)
        await until(_has_ended(process), within_s=30)
        kill_group(process.pid)

    def freeze(self) -> None:
        """Let it stand still; its connections stay."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self.process is not None and self.process.poll() is None


async def is_ready_at(port: int) -> bool:
    """Whether the service that listens there says that it is ready."""
    # Asked fifty times a second about who is starting: a client that makes much of it would take away what the start needs.
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(READY)
                return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _has_ended(process: subprocess.Popen[bytes]) -> Ready:
    async def ended() -> bool:
        return process.poll() is not None

    return ended


@dataclass
class Servers:
    """A whole stack. The services are kept running by the product's own supervisor."""

    folder: Path
    postgres: Server
    postgres_server: postgres.PostgresServer
    kafka: Server
    broker: kafka.KafkaBroker
    second_door: "SecondDoor"
    issuer: TokenIssuer
    around: Surroundings
    supervisor: Supervisor
    ports: dict[str, int] = field(default_factory=lambda: {service: free_port() for service in SERVICES})

    def url(self, service: str) -> str:
        """Where a service answers."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def database_url(self, service: str) -> str:
        """The superuser's URL of a service's database."""
        return self.postgres_server.url(service)

    def bearer(self, *roles: str, tenant: str | None, **claims: str) -> dict[str, str]:
        """The headers of a caller."""
        return {"authorization": f"Bearer {self.issuer.mint(list(roles), tenant_id=tenant, **claims)}"}

    def start_service(self, service: str, *, postgres_port: int | None = None, bootstrap: str | None = None) -> None:
        """Start a service anew, reaching its servers through other ports where they are given."""
        around = self.around
        if postgres_port is not None:
            around = replace(around, postgres_url=around.postgres_url.replace(
                f":{self.postgres_server.port}/", f":{postgres_port}/"))  # fmt: skip
        if bootstrap is not None:
            around = replace(around, kafka_bootstrap=bootstrap)
        if self.supervisor.pid(service) is not None:
            self.kill_service(service)
            self.supervisor._children[service].process.wait()  # else its port is still taken
        self.supervisor.start(self._command(service, "all", self.ports[service], around))

    def another_worker(self, service: str) -> Server:
        """One more worker process of a service, for a test to start and to end."""
        port = free_port()
        return Server(self._command(service, "worker", port, self.around), lambda: is_ready_at(port))

    def kill_service(self, service: str) -> None:
        """Kill -9; the supervisor starts it again."""
        pid = self.supervisor.pid(service)
        if pid is not None and not self.supervisor.died(service):
            os.kill(pid, signal.SIGKILL)

    async def is_ready(self, service: str) -> bool:
        """Whether the service says so itself."""
        return await is_ready_at(self.ports[service])

    async def until_ready(self, *services: str, within_s: float = 60) -> None:
        """Wait until all of these services are ready."""
        for service in services or SERVICES:
            await until(lambda service=service: self.is_ready(service), within_s=within_s)

    async def takings(self, *arguments: str) -> str:
        """What an operator's command on this stack prints."""
        stack = {"postgres": {"url": self.around.postgres_url}, "kafka": {"bootstrap": self.broker.bootstrap}}
        write_private_json(self.folder / "stack.json", stack)
        argv = [sys.executable, "-m", "deploy.cli", *arguments]
        env = {**os.environ, "TAKINGS_STATE": str(self.folder)}
        return await asyncio.to_thread(run, argv, what=f"takings {arguments[0]}", env=env)

    async def lose_all_events(self) -> None:
        """End the broker, remove all that it has, and start it empty."""
        await self.kafka.end()
        shutil.rmtree(self.folder / "kafka")
        _, self.kafka.command = await asyncio.to_thread(
            _prepare_kafka, self.folder / "kafka", self.kafka.command.log, self.second_door, port=_port(self.broker)
        )
        await self.kafka.start()

    def _command(self, service: str, role: Role, port: int, around: Surroundings) -> Command:
        return service_command(service, role, port=port, around=around, logs=self.folder / "logs")


@dataclass(frozen=True)
class SecondDoor:
    """A second listener of the broker, which sends its clients to `advertised`: a line that a test holds."""

    port: int
    advertised: int


@asynccontextmanager
async def running_servers(folder: Path) -> AsyncIterator[Servers]:
    """A stack under `folder`, with the data in its `postgres` and `kafka`; everything ends with the block."""
    issuer, secrets = TokenIssuer(folder), read_or_make_secrets(folder)
    postgres_server, postgres_command = await asyncio.to_thread(
        postgres.prepare, folder / "postgres", port=free_port(), log=folder / "logs" / "postgres.log"
    )
    door = SecondDoor(free_port(), free_port())
    broker, kafka_command = await asyncio.to_thread(
        _prepare_kafka, folder / "kafka", folder / "logs" / "kafka.log", door, port=free_port()
    )
    around = Surroundings(postgres_server.url(), broker.bootstrap, 1, issuer.public_key, secrets)
    supervisor = Supervisor(folder / "processes.json", say=lambda _: None, on_restart=lambda: None)
    made = Servers(
        folder, Server(postgres_command, _answers(postgres_server.url())), postgres_server,
        Server(kafka_command, lambda: kafka.serves(broker.bootstrap)), broker, door, issuer, around, supervisor,
    )  # fmt: skip
    watch = asyncio.create_task(supervisor.watch())
    try:
        await asyncio.gather(made.postgres.start(), made.kafka.start())
        await provision(postgres_server.url(), secrets.passwords)
        migrate = migrate_command(around)
        await asyncio.to_thread(run, migrate.argv, what="migrating", env=migrate.env)
        for service in SERVICES:
            made.start_service(service)
        await made.until_ready()
        yield made
    finally:
        watch.cancel()
        hurry = asyncio.Event()
        await supervisor.stop([(SERVICES, 4.0)], hurry=hurry)
        for server in (made.kafka, made.postgres):
            if server.runs:
                server.thaw()
                await server.end(signal.SIGKILL if server is made.kafka else signal.SIGQUIT)
        postgres.remove_socket_folder(folder / "postgres")


def _port(broker: kafka.KafkaBroker) -> int:
    return int(broker.bootstrap.rpartition(":")[2])


def _prepare_kafka(folder: Path, log: Path, door: SecondDoor, *, port: int) -> tuple[kafka.KafkaBroker, Command]:
    broker, command = kafka.prepare(
        folder, port=port, controller_port=free_port(frozenset([port])), cache=PROJECT / ".takings" / "cache", log=log
    )
    settings = Path(command.argv[-1])
    more = {
        "listeners": f",SECOND://127.0.0.1:{door.port}",
        "advertised.listeners": f",SECOND://127.0.0.1:{door.advertised}",
        "listener.security.protocol.map": ",SECOND:PLAINTEXT",
    }
    lines = [line + more.get(line.partition("=")[0], "") for line in settings.read_text().splitlines()]
    settings.write_text("\n".join(lines) + "\n")
    return broker, command


def _answers(url: str) -> Ready:
    def answers() -> bool:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    return lambda: asyncio.to_thread(answers)
