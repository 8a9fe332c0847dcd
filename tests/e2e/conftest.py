"""The whole local stack, started by the operator's own command in a state folder of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.databases import SERVICES
from deploy.state import PROJECT
from deploy.tokens import TokenIssuer

START_LIMIT_S = 150
STOP_LIMIT_S = 10


@dataclass(frozen=True)
class LocalStack:
    """A running stack: its folder, the file it writes when ready, its supervisor's process."""

    state: Path
    ready: Path
    pid: int

    @property
    def description(self) -> dict[str, Any]:
        return json.loads(self.ready.read_text())

    def url(self, service: str) -> str:
        return self.description["services"][service]["url"]

    def takings(self, *arguments: str) -> str:
        """What the operator's command prints."""
        command = [sys.executable, "-m", "deploy.cli", *arguments]
        done = subprocess.run(
            command, env=environment(self.state), cwd=PROJECT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def issuer(self) -> TokenIssuer:
        return TokenIssuer(self.state)


def environment(state: Path) -> dict[str, str]:
    return {**os.environ, "TAKINGS_STATE": str(state)}


@pytest.fixture(scope="package")  # not for longer: it would take its share of the other tests' processors
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    state = tmp_path_factory.mktemp("stack")
    cache = PROJECT / ".takings" / "cache"  # the jars that other tests have fetched already
    cache.mkdir(parents=True, exist_ok=True)
    (state / "cache").symlink_to(cache)
    ready, log = state / "stack.ready.json", state / "up.log"
    with log.open("w") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", "up", "--ready", str(ready)],
            env=environment(state), cwd=PROJECT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + START_LIMIT_S
    while not ready.exists():
        assert supervisor.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    family = psutil.Process(supervisor.pid).children(recursive=True)
    yield LocalStack(state, ready, supervisor.pid)
    supervisor.send_signal(signal.SIGINT)
    supervisor.wait(STOP_LIMIT_S)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    for service in SERVICES:
        lines = (state / "logs" / f"{service}.log").read_text().splitlines()
        for line in lines:
            assert line.startswith("{"), f"{service} logged a line that is no JSON: {line}"
        assert json.loads(lines[-1])["event"] == "stopped", lines[-1]
