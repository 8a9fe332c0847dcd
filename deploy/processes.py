"""Child processes of the local stack: started so that they cannot outlive it, ended politely and then by force."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.errors import StackError
from deploy.state import PROJECT

LOG_LIMIT_BYTES = 20 * 1024 * 1024

_runs: set[subprocess.Popen[str]] = set()


@dataclass(frozen=True)
class Account:
    """The ordinary user as whom a server runs when we are root.

    `reads_past_folders` keeps the one capability that lets it reach its files through parent folders closed to it.
    """

    uid: int
    gid: int
    reads_past_folders: bool = False


@dataclass(frozen=True)
class Command:
    """One program of the stack: what to run, where its output goes and how it likes to be asked to stop."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    last_signal: signal.Signals = signal.SIGKILL
    account: Account | None = None


def spawn(command: Command) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own, output appended to its log.

    Linux ends it with its stop signal when the thread that called this ends, however that happens: call it from
    the main thread.
    """
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("ab") as log:
        return subprocess.Popen(
            [*guarded(command.account, dies_with_parent=command.stop_signal), *command.argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=None if command.env is None else dict(command.env),
            cwd=PROJECT,
            start_new_session=True,
        )


def run(argv: Sequence[str], *, what: str, account: Account | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return its output; StackError with its last line when it fails."""
    try:
        process = subprocess.Popen(
            [*guarded(account), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=PROJECT,
            text=True,
        )
    except OSError as error:
        raise StackError(f"{what}: {error}") from None
    _runs.add(process)
    try:
        output, _ = process.communicate()
    finally:
        _runs.discard(process)
    if process.returncode != 0:
        lines = [line for line in output.splitlines() if line.strip()] or ["no output"]
        raise StackError(f"{what} failed with status {process.returncode}: {lines[-1].strip()}")
    return output


def end_runs() -> None:
    """End what `run` is waiting for in other threads, so that they come to their end."""
    for process in tuple(_runs):
        process.terminate()


def stop(process: subprocess.Popen[bytes], command: Command, *, grace_seconds: float) -> None:
    """Ask the process to stop, insist when the grace is over, and kill its whole group half a second later."""
    if process.poll() is None:
        process.send_signal(command.stop_signal)
        if not _ended(process, grace_seconds):
            process.send_signal(command.last_signal)
            _ended(process, 0.5)
    kill_group(process.pid)
    process.wait(timeout=5)


def end_leftover(pid: int, *, created_at: float, ask: signal.Signals, grace_seconds: float = 5) -> bool:
    """End a process of an earlier run, known by pid and start time; False when it is gone already."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - created_at) > 0.05:
            return False
        process.send_signal(ask)
        try:
            process.wait(grace_seconds)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(grace_seconds)
    except psutil.NoSuchProcess:
        return False
    return True


def created_at(pid: int) -> float:
    """When the process started, seconds since the epoch; together with the pid it names a process for good."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def rotate_log(log: Path) -> None:
    """Move a log that has grown past the limit aside; one old generation is kept."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(log.suffix + ".1"))


def last_line(log: Path) -> str:
    """The last line of a log that says something, for an error message."""
    if not log.exists():
        return "no output"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def guarded(account: Account | None, *, dies_with_parent: signal.Signals | None = None) -> list[str]:
    """The setpriv prefix that binds a child to its parent and drops root; empty where there is nothing to do."""
    tool = shutil.which("setpriv")
    if tool is None:
        if account is not None:
            raise StackError("setpriv (package util-linux) is needed to run PostgreSQL as an ordinary user")
        return []
    options = []
    if dies_with_parent is not None:
        options += ["--pdeathsig", dies_with_parent.name.removeprefix("SIG")]
    if account is not None:
        options += ["--reuid", str(account.uid), "--regid", str(account.gid), "--clear-groups"]
        if account.reads_past_folders:
            options += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
            options += ["--securebits", "+no_setuid_fixup"]  # else access(2), with which initdb looks, ignores it
    return [tool, *options, "--"] if options else []


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def kill_group(pid: int) -> None:
    """Kill what is left of the session that the process started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
