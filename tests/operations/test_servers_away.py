"""A database or a broker that is away is one line that says which, whatever the command; never a traceback."""

import asyncio
import json
import sys

import asyncpg
import pytest
from typer.testing import CliRunner

from deploy.cli import app
from deploy.databases import SERVICES
from deploy.errors import StackError
from deploy.operations.access import connected
from tests.conftest import until
from tests.operations.access import access_environment

COMMANDS = {
    "check": ("check",),
    "lag": ("lag",),
    "republish": ("republish", "payments"),
    "rebuild reporting": ("rebuild", "reporting"),
    "rebuild alerts": ("rebuild", "alerts"),
}
NOBODY = "127.0.0.1:1"
CHECK_WAITS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'takings check' AND wait_event_type = 'Lock'
"""
END_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'takings %' AND pid <> pg_backend_pid()
"""


def said_by(*arguments):
    """Status and last line of standard error; a command that raised something else fails the test."""
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # the log of the broker's client
    return done.exit_code, lines[-1] if lines else ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_that_is_stopped(command, monkeypatch):
    for service in SERVICES:
        for kind in ("OWNER_", "", "SYSTEM_", "AUDITOR_"):
            monkeypatch.setenv(f"{service.upper()}_{kind}DATABASE_URL", f"postgresql://u:p@{NOBODY}/{service}")
    monkeypatch.setenv("TAKINGS_KAFKA_BOOTSTRAP", NOBODY)
    status, line = said_by(*COMMANDS[command])
    assert status == 1
    assert line.startswith("takings: cannot reach the database of ")
    assert "Connect call failed" in line


async def takings(*arguments):
    """Status and all that a command in a process of its own has said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.cli", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert b"Traceback" not in errors, errors.decode()
    return process.returncode, (output + errors).decode()


async def test_a_broker_that_is_dead(world):
    """The databases answer; `check` and `rebuild` ask no broker. (`republish` has a test of its own.)"""
    assert (await takings("check"))[0] == 0
    assert (await takings("rebuild", "reporting", "--dry-run"))[0] == 0
    status, said = await takings("dlq", "list")
    assert (status, "takings: Kafka does not answer at 127.0.0.1:1" in said) == (1, True)
    status, said = await takings("lag", "--json")
    late = json.loads(next(line for line in said.splitlines() if line.startswith('{"outbox"')))["late"]
    # The world that is copied may be old enough for its waiting mails to be late, too; nothing else may be.
    assert (status, [what for what in late if not what.startswith("mails: ")]) == (1, ["the broker does not answer"])


async def test_a_database_that_goes_away_meanwhile(world):
    """One snapshot is held open by a lock that another session has, and then its server ends it."""
    blocker, watcher = [await asyncpg.connect(world.urls["payments"].superuser) for _ in range(2)]
    await blocker.execute("BEGIN; LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
    running = asyncio.create_task(takings("check"))
    await until(lambda: watcher.fetchval(CHECK_WAITS))
    await watcher.execute(END_ALL)
    status, said = await running
    assert status == 1
    assert said.startswith("takings: lost the database of payments: ")
    await blocker.close()
    await watcher.close()


async def test_a_statement_that_takes_too_long(database, monkeypatch):
    for name, value in access_environment(payments=await database("payments")).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StackError, match="a database did not answer in time"):
        async with connected("payments", "auditor", command="lag", limit_s=0.2) as conn:
            await conn.execute("SELECT pg_sleep(30)")
