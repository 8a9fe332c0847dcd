"""The supervisor: a dead process is back within two seconds, a stop leaves none, and neither does a kill."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deploy.errors import StackError
from deploy.processes import Command, created_at, end_leftover, rotate_log, run, spawn, stop
from deploy.state import read_json, write_private_json
from deploy.supervisor import Supervisor, end_leftovers

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
PARENT = """
import sys, time
from pathlib import Path
from deploy.processes import Command, spawn
print(spawn(Command("child", (sys.executable, "-c", "import time; time.sleep(600)"), Path(sys.argv[1]))).pid, flush=True)
time.sleep(600)
"""


def _command(folder: Path, script: str = SLEEP, name: str = "child") -> Command:
    return Command(name, (sys.executable, "-c", script), folder / f"{name}.log")


async def _until(holds: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "not in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_killed_process_is_back_within_two_seconds_each_time(tmp_path: Path) -> None:
    said, changed = [], []
    supervisor = Supervisor(tmp_path / "processes.json", say=said.append, on_restart=lambda: changed.append(1))
    supervisor.start(_command(tmp_path))
    watch = asyncio.create_task(supervisor.watch())
    try:
        for round_ in range(5):
            pid = supervisor.pid("child")
            os.kill(pid, signal.SIGKILL)
            await _until(lambda pid=pid: supervisor.pid("child") != pid, 2)
            assert len(changed) == round_ + 1
        assert read_json(tmp_path / "processes.json")[0]["pid"] == supervisor.pid("child")
        assert sum("child died (SIGKILL)" in line for line in said) == 5
    finally:
        watch.cancel()
        await supervisor.stop([(["child"], 2)], hurry=asyncio.Event())
    assert _gone(supervisor.pid("child"))


async def test_whoever_dies_is_started_again_though_nothing_can_be_written(tmp_path: Path, monkeypatch) -> None:
    said = []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    supervisor = Supervisor(tmp_path / "processes.json", say=said.append, on_restart=full)
    supervisor.start(_command(tmp_path))
    watch = asyncio.create_task(supervisor.watch())
    try:
        monkeypatch.setattr("deploy.supervisor.spawn", full)
        pid = supervisor.pid("child")
        os.kill(pid, signal.SIGKILL)
        await _until(lambda: any("No space left" in line for line in said), 2)
        monkeypatch.undo()
        for _ in range(2):
            await _until(lambda pid=pid: supervisor.pid("child") != pid, 3)
            pid = supervisor.pid("child")
            os.kill(pid, signal.SIGKILL)
    finally:
        watch.cancel()
        await supervisor.stop([(["child"], 2)], hurry=asyncio.Event())


async def test_a_stop_goes_stage_by_stage_and_kills_who_does_not_listen(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "processes.json", say=print, on_restart=lambda: None)
    commands = [_command(tmp_path, STUBBORN, "first"), _command(tmp_path, SLEEP, "second")]
    for command in commands:
        supervisor.start(command)
        await _until(lambda log=command.log: "up" in log.read_text(), 10)
    began = time.monotonic()
    stopping = asyncio.create_task(supervisor.stop([(["first"], 0.4), (["second"], 5)], hurry=asyncio.Event()))
    await asyncio.sleep(0.2)
    assert not supervisor.died("second")
    await stopping
    assert time.monotonic() - began < 3
    assert _gone(supervisor.pid("first"))
    assert _gone(supervisor.pid("second"))


async def test_a_second_signal_cuts_the_grace_short(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "processes.json", say=print, on_restart=lambda: None)
    command = _command(tmp_path, STUBBORN)
    supervisor.start(command)
    await _until(lambda: "up" in command.log.read_text(), 10)
    hurry = asyncio.Event()
    hurry.set()
    began = time.monotonic()
    await supervisor.stop([(["child"], 30)], hurry=hurry)
    assert time.monotonic() - began < 2
    assert _gone(supervisor.pid("child"))


async def test_leftovers_of_a_half_killed_run_are_ended_and_strangers_left_alone(tmp_path: Path) -> None:
    said: list[str] = []
    left, stranger = spawn(_command(tmp_path)), spawn(_command(tmp_path, name="stranger"))
    row = {"name": "child", "stop_signal": int(signal.SIGTERM)}
    rows = [
        row | {"pid": left.pid, "created_at": created_at(left.pid)},
        row | {"pid": stranger.pid, "created_at": created_at(stranger.pid) - 100},  # its pid was given out again
        row | {"pid": 2**22 + 1, "created_at": 1.0},
    ]
    write_private_json(tmp_path / "processes.json", rows)
    end_leftovers(tmp_path / "processes.json", said.append)
    left.wait(5)
    assert _gone(left.pid)
    assert stranger.poll() is None
    assert len(said) == 1
    stop(stranger, _command(tmp_path, name="stranger"), grace_seconds=2)


def test_a_kill_of_the_supervisor_leaves_no_child_behind(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        try:
            # Before it is the program that it is to be, it is not bound to its parent yet.
            asyncio.run(_until(lambda: psutil.Process(child).cmdline()[:1] == [sys.executable], 5))
            parent.kill()
            asyncio.run(_until(lambda: _gone(child), 5))
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def test_an_unknown_leftover_is_nobody() -> None:
    assert not end_leftover(2**22 + 1, created_at=1.0, ask=signal.SIGTERM)


def test_a_failing_program_is_one_line() -> None:
    with pytest.raises(StackError, match="the thing failed with status 3: because"):
        run([sys.executable, "-c", "print('because'); raise SystemExit(3)"], what="the thing")
    with pytest.raises(StackError, match=r"the thing: .*no-such-program"):
        run(["no-such-program"], what="the thing")


def test_a_log_that_grew_is_put_aside(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("deploy.processes.LOG_LIMIT_BYTES", 3)
    log = tmp_path / "a.log"
    log.write_text("abc")
    rotate_log(log)
    assert log.read_text() == "abc"
    log.write_text("abcd")
    rotate_log(log)
    assert not log.exists()
    assert (tmp_path / "a.log.1").read_text() == "abcd"
