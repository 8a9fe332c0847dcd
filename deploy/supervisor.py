"""Keeps the processes of the stack running: a dead one is started again, and all are stopped in order."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.processes import Command, created_at, end_leftover, kill_group, rotate_log, spawn
from deploy.state import read_json, write_private_json

POLL_SECONDS = 0.02
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 0.2  # a fraction of a service's own start, however often it dies
AFTER_ERROR_SECONDS = 1.0
STEADY_SECONDS = 10.0  # a process that lived this long starts its back-off anew


@dataclass
class _Child:
    command: Command
    process: subprocess.Popen[bytes]
    started: float
    deaths: int = 0
    start_again_at: float | None = None


class Supervisor:
    """Processes by name. Everything here runs on the main thread, to which the children's lives are bound."""

    def __init__(self, record: Path, *, say: Callable[[str], None], on_restart: Callable[[], None]) -> None:
        """Keep pids and start times in the file `record`; report to `say`; call `on_restart` after a new pid."""
        self._record = record
        self._say = say
        self._on_restart = on_restart
        self._children: dict[str, _Child] = {}

    def start(self, command: Command) -> None:
        """Start a process and keep it running from now on."""
        rotate_log(command.log)
        self._children[command.name] = _Child(command, spawn(command), time.monotonic())
        self._write_record()

    def pid(self, name: str) -> int | None:
        """The present pid of a process; None when it was never started."""
        child = self._children.get(name)
        return child.process.pid if child else None

    def died(self, name: str) -> bool:
        """Whether the process has died and is not running again yet."""
        return self._children[name].process.poll() is not None

    def deaths(self, name: str) -> int:
        """How often the process has died in a row."""
        return self._children[name].deaths

    async def watch(self) -> None:
        """Start dead processes again, until cancelled."""
        while True:
            for child in self._children.values():
                self._look_at(child, time.monotonic())
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, stages: Sequence[tuple[Sequence[str], float]], *, hurry: asyncio.Event) -> None:
        """Stop stage after stage, each (names, seconds of grace); `hurry` cuts the grace short.

        Cancel `watch` before. Whoever outstays the grace gets the command's last signal, then SIGKILL.
        """
        for names, grace_seconds in stages:
            children = [self._children[name] for name in names if name in self._children]
            for asked, seconds in ((_stop_signal, grace_seconds), (_last_signal, 0.5), (_kill, 2.0)):
                for child in _alive(children):
                    child.process.send_signal(asked(child.command))
                deadline = time.monotonic() + seconds
                while _alive(children) and time.monotonic() < deadline:
                    if hurry.is_set() and asked is not _kill:
                        break
                    await asyncio.sleep(0.02)
            for child in children:
                kill_group(child.process.pid)
        self._record.unlink(missing_ok=True)

    def _look_at(self, child: _Child, now: float) -> None:
        status = child.process.poll()
        if status is None:
            return
        name = child.command.name
        if child.start_again_at is None:
            child.deaths = 1 if now - child.started > STEADY_SECONDS else child.deaths + 1
            delay = min(FIRST_DELAY_SECONDS * 2 ** (child.deaths - 1), LONGEST_DELAY_SECONDS)
            child.start_again_at = now + delay
            kill_group(child.process.pid)  # once, and now: later its number may be another one's
            self._say(f"{name} died ({_cause(status)}), starting it again in {delay:.2f} s; log: {child.command.log}")
        elif now >= child.start_again_at:
            self._start_again(child, now)

    def _start_again(self, child: _Child, now: float) -> None:
        name = child.command.name
        try:
            rotate_log(child.command.log)
            child.process, child.started, child.start_again_at = spawn(child.command), now, None
            self._say(f"{name} started again as pid {child.process.pid}")
            self._write_record()
            self._on_restart()
        except OSError as error:  # a full disk, say: whoever dies next must be started again all the same
            self._say(f"{name} is looked after as well as it can be: {error}")
            if child.start_again_at is not None:
                child.start_again_at = now + AFTER_ERROR_SECONDS

    def _write_record(self) -> None:
        rows = [
            {
                "name": name,
                "pid": child.process.pid,
                "created_at": created_at(child.process.pid),
                "stop_signal": int(child.command.stop_signal),
            }
            for name, child in self._children.items()
        ]
        write_private_json(self._record, rows)


def end_leftovers(record: Path, say: Callable[[str], None]) -> None:
    """End the processes that a half-killed earlier run left behind. Call it with the state folder's lock held."""
    for row in reversed(read_json(record) or []):
        if end_leftover(row["pid"], created_at=row["created_at"], ask=signal.Signals(row["stop_signal"])):
            say(f"ended {row['name']} (pid {row['pid']}), left behind by an earlier run")
    record.unlink(missing_ok=True)


def _alive(children: Sequence[_Child]) -> list[_Child]:
    return [child for child in children if child.process.poll() is None]


def _stop_signal(command: Command) -> signal.Signals:
    return command.stop_signal


def _last_signal(command: Command) -> signal.Signals:
    return command.last_signal


def _kill(_command: Command) -> signal.Signals:
    return signal.SIGKILL


def _cause(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
