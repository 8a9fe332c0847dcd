"""A service is ready soon after its start: it loads only what requests need, and nobody looks for garbage meanwhile."""

import json
import subprocess
import sys

import pytest

from deploy.databases import SERVICES
from deploy.service_commands import Surroundings, service_command
from deploy.stack_secrets import read_or_make_secrets
from deploy.state import PROJECT
from deploy.tokens import TokenIssuer

NOT_NEEDED = {"alembic", "faststream", "httpx", "opentelemetry.sdk", "psutil", "rich", "sqlalchemy"}
START = """
import gc, json, runpy, sys, uvloop

def started(serving):
    serving.close()
    loaded = [name for name, module in sys.modules.items() if module]
    print(json.dumps({"looked": looked, "looks": gc.isenabled(), "loaded": loaded, "compiles": sys.dont_write_bytecode}))

looked = []
gc.callbacks.append(lambda phase, info: looked.append(phase))
gc.set_threshold(1_000, 10, 10)
uvloop.run = started
sys.argv[0] = "-m"
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("service", SERVICES)
def test_a_start_loads_what_requests_need_and_collects_no_garbage(service, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    around = Surroundings("postgresql://nobody@127.0.0.1:1/none", "127.0.0.1:1", 1, TokenIssuer(tmp_path).public_key,
                          read_or_make_secrets(tmp_path))  # fmt: skip
    command = service_command(service, "all", port=1, around=around, logs=tmp_path)
    argv = [sys.executable, "-c", START, f"services.{service}", "all"]
    run = subprocess.run(argv, env=command.env, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    start = json.loads(run.stdout)
    assert set(start["loaded"]) & NOT_NEEDED == set()
    assert f"services.{service}.worker" in start["loaded"]
    assert start["looked"] == []
    assert start["looks"]
    assert not start["compiles"]
