"""A local Apache Kafka broker: one KRaft node on loopback ports, for the stack and the tests."""

import asyncio
import base64
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from deploy.errors import StackError
from deploy.kafka_software import BROKER_FOLDER, find_jars, find_java
from deploy.ports import free_port
from deploy.processes import Command, last_line, run, spawn, stop
from deploy.state import state_folder

READY_WITHIN_SECONDS = 90.0
JVM_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True)
class KafkaBroker:
    """Where a broker listens; `bootstrap` is host:port."""

    bootstrap: str


@contextmanager
def running_kafka(folder: Path, *, cache: Path | None = None) -> Iterator[KafkaBroker]:
    """A broker on free loopback ports with its data under `folder` (kept afterwards), stopped at the end.

    The jars are kept in `cache` (default: the state folder's), so that only the first run needs a network.
    Raises StackError when it does not start. Call it from a thread that outlives the broker.
    """
    port = free_port()
    broker, command = prepare(
        folder,
        port=port,
        controller_port=free_port(frozenset([port])),
        cache=cache or state_folder() / "cache",
        log=folder / "broker.log",
    )
    process = spawn(command)
    try:
        with ThreadPoolExecutor(1) as pool:  # works under a running event loop too
            pool.submit(wait_until_ready, broker, command, died=lambda: process.poll() is not None).result()
        yield broker
    finally:
        stop(process, command, grace_seconds=5)


def prepare(folder: Path, *, port: int, controller_port: int, cache: Path, log: Path) -> tuple[KafkaBroker, Command]:
    """Fetch what is missing, format the data folder if need be, and say how to start the broker."""
    java, jars = find_java(), find_jars(cache)
    folder.mkdir(parents=True, exist_ok=True)
    logging = f"-Dlog4j2.configurationFile={BROKER_FOLDER / 'log4j2.properties'}"
    program = (str(java), *JVM_OPTIONS, logging, "-cp", f"{jars.resolve()}/*")
    data = folder / "data"
    if not data.exists():
        _format(program, folder, port=port, controller_port=controller_port)
    settings = _write_settings(folder, data=data, port=port, controller_port=controller_port)
    command = Command(name="kafka", argv=(*program, "kafka.Kafka", str(settings)), log=log)
    return KafkaBroker(f"127.0.0.1:{port}"), command


def wait_until_ready(broker: KafkaBroker, command: Command, *, died: Callable[[], bool]) -> None:
    """Return when the broker serves metadata to a client; StackError when it has died or the time is over."""
    host, port = broker.bootstrap.rsplit(":", 1)
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while not (_listens(host, int(port)) and asyncio.run(serves(broker.bootstrap))):
        if died():
            raise StackError(f"Kafka did not start: {last_line(command.log)} (log: {command.log})")
        if time.monotonic() > deadline:
            raise StackError(f"Kafka was not ready in {READY_WITHIN_SECONDS:.0f} s (log: {command.log})")
        time.sleep(0.05)


def _format(program: tuple[str, ...], folder: Path, *, port: int, controller_port: int) -> None:
    """Format a folder that gets its name only when complete, so that a killed run leaves nothing half done."""
    fresh = folder / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    settings = _write_settings(folder, data=fresh, port=port, controller_port=controller_port)
    cluster_id = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    if cluster_id.startswith("-"):
        cluster_id = "A" + cluster_id[1:]  # else read as an option
    arguments = ("format", "--standalone", "-t", cluster_id, "-c", str(settings), "--ignore-formatted")
    run([*program, "kafka.tools.StorageTool", *arguments], what="formatting Kafka's data folder")
    fresh.replace(folder / "data")


def _write_settings(folder: Path, *, data: Path, port: int, controller_port: int) -> Path:
    template = Template((BROKER_FOLDER / "server.properties").read_text())
    settings = folder / "server.properties"
    settings.write_text(template.substitute(data=data.resolve(), port=port, controller_port=controller_port))
    return settings.resolve()


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


async def serves(bootstrap: str) -> bool:
    """Whether the broker answers with its metadata."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=2000)
    try:
        await client.bootstrap()
    except (KafkaError, OSError):
        return False
    else:
        return bool(client.cluster.brokers())
    finally:
        await client.close()
