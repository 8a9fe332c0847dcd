"""Servers in containers, used by the tests where a Docker engine answers and has, or can get, the images."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

from deploy.kafka import serves
from deploy.ports import free_port

# The context managers below end their containers; a reaper would be one more image to have.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

POSTGRES_IMAGE = "postgres:18"
KAFKA_IMAGE = "apache/kafka:4.3.0"


@lru_cache(maxsize=1)
def containers_answer() -> bool:
    """Whether containers can be used; TAKINGS_TEST_CONTAINERS=0 says not to."""
    if os.environ.get("TAKINGS_TEST_CONTAINERS") == "0" or shutil.which("docker") is None:
        return False
    return all(
        subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False, timeout=20).returncode
        == 0
        for image in (POSTGRES_IMAGE, KAFKA_IMAGE)
    )


@contextmanager
def postgres_container() -> Iterator[str]:
    """A PostgreSQL server in a container; yields the superuser's URL."""
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(POSTGRES_IMAGE, driver=None) as container:
        yield container.get_connection_url(driver=None).replace("postgresql+psycopg2", "postgresql")


@contextmanager
def kafka_container() -> Iterator[str]:
    """A KRaft broker in a container that advertises the published port; yields host:port."""
    from testcontainers.core.container import DockerContainer

    port = free_port()
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "CLUSTER_ID": "4L6g3nShT-eMCtK--X86sw",
    }
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(port, port)
    for name, value in settings.items():
        container = container.with_env(name, value)
    with container:
        bootstrap = f"127.0.0.1:{port}"
        with ThreadPoolExecutor(1) as pool:  # works under a running event loop too
            pool.submit(asyncio.run, _serving(bootstrap)).result()
        yield bootstrap


async def _serving(bootstrap: str) -> None:
    async with asyncio.timeout(60):
        while not await serves(bootstrap):
            await asyncio.sleep(0.2)
