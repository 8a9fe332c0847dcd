"""A service is ready soon after its start: it loads only what requests need, and nobody looks for garbage meanwhile."""

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from deploy.databases import SERVICES
from deploy.service_commands import Surroundings, service_command
from deploy.stack_secrets import read_or_make_secrets
from deploy.state import PROJECT
from deploy.tokens import TokenIssuer
from shared import process
from tests.conftest import connected

NOT_NEEDED = {"alembic", "faststream", "httpx", "opentelemetry.sdk", "psutil", "rich", "sqlalchemy"}
START = """
import gc, json, runpy, sys, uvloop

def was_built():
    from fastapi.openapi.models import OpenAPI
    return OpenAPI.__pydantic_complete__

def started(serving):
    puts_off_s = serving.cr_frame.f_locals["service"].consume_after_s
    serving.close()
    loaded = [name for name, module in sys.modules.items() if module]
    print(json.dumps({"looked": looked, "looks": gc.isenabled(), "loaded": loaded, "compiles": sys.dont_write_bytecode,
                      "puts_off_s": puts_off_s, "description_built": was_built()}))

looked = []
gc.callbacks.append(lambda phase, info: looked.append(phase))
gc.set_threshold(1_000, 10, 10)
uvloop.run = started
sys.argv[0] = "-m"
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def command_of(service, role, tmp_path):
    """How a service is started where nothing answers."""
    around = Surroundings("postgresql://nobody@127.0.0.1:1/none", "127.0.0.1:1", 1, TokenIssuer(tmp_path).public_key,
                          read_or_make_secrets(tmp_path))  # fmt: skip
    return service_command(service, role, port=1, around=around, logs=tmp_path)


def started(service, role, tmp_path):
    """What a service is like at the moment in which it begins to serve."""
    command = command_of(service, role, tmp_path)
    argv = [sys.executable, "-c", START, f"services.{service}", role]
    run = subprocess.run(argv, env=command.env, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("service", SERVICES)
def test_a_start_loads_what_requests_need_and_collects_no_garbage(service, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    start = started(service, "all", tmp_path)
    assert set(start["loaded"]) & NOT_NEEDED == set()
    assert f"services.{service}.worker" in start["loaded"]
    assert start["looked"] == []
    assert start["looks"]
    assert not start["compiles"]
    assert not start["description_built"]


def test_a_process_without_callers_does_not_put_off_its_consumers(tmp_path):
    assert started("reporting", "all", tmp_path)["puts_off_s"] > 0
    assert started("reporting", "worker", tmp_path)["puts_off_s"] == 0


async def test_consumers_that_nothing_puts_off_load_at_once(run, monkeypatch):
    loaded, loop = asyncio.Event(), asyncio.get_running_loop()

    def load():
        loop.call_soon_threadsafe(loaded.set)
        raise OSError

    monkeypatch.setattr(process, "CONSUME_AFTER_S", 3_600)
    monkeypatch.setattr(process, "_load_consumer", load)
    await run("reporting", role="worker")
    await asyncio.wait_for(loaded.wait(), 20)


@asynccontextmanager
async def process_of_payments(env):
    """The service as a process of its own; what it is asked for must come within 20 s."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.payments", "all"),
        env=env,
        cwd=PROJECT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_who_waits_for_a_database_ends_when_asked_to(tmp_path):
    """As the first process of a container, too, which no signal ends by itself."""
    async with process_of_payments(command_of("payments", "all", tmp_path).env) as process:
        assert json.loads(await process.stdout.readline())["event"] == "database not reached"
        process.terminate()
        said, _ = await process.communicate()
        assert process.returncode == 0
    assert json.loads(said.splitlines()[-1])["event"] == "stopped"


async def test_on_a_server_that_may_lose_what_it_acknowledges_nothing_starts(database, tmp_path):
    urls = await database("payments")
    async with connected(urls.superuser) as conn:
        await conn.execute(f"ALTER DATABASE {urls.name} SET synchronous_commit = off")
    env = command_of("payments", "all", tmp_path).env | {"PAYMENTS_DATABASE_URL": urls.app}
    async with process_of_payments(env) as process:
        said, complaint = await process.communicate()
        assert process.returncode == 1
    assert b'"started' not in said
    assert complaint.decode().startswith("cannot start: ")
    assert "synchronous_commit" in complaint.decode()
