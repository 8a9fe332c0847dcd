"""One stack per state folder: the lock that the kernel drops when its holder dies, however that happens."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from deploy.errors import StackError

STARTING_PATIENCE_SECONDS = 1.0  # an earlier run whose `make` was killed needs a moment to notice
STOPPING_PATIENCE_SECONDS = 15.0


class StackLock:
    """The lock of a state folder, held."""

    def __init__(self, file: TextIOWrapper) -> None:
        """Say in the file whose it is."""
        self._file = file
        self._write(stopping=False)

    def say_stopping(self) -> None:
        """Tell a run that waits for the folder that it is worth waiting."""
        self._write(stopping=True)

    def _write(self, *, stopping: bool) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"pid": os.getpid(), "stopping": stopping}))
        self._file.flush()


@contextmanager
def stack_lock(state: Path) -> Iterator[StackLock]:
    """Hold the lock of the state folder; StackError when another stack runs there (one that stops is waited for)."""
    state.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (state / "lock").open("a+") as file:
        while not _taken(file):
            file.seek(0)
            holder = _read(file.read())
            patience = STOPPING_PATIENCE_SECONDS if holder.get("stopping") else STARTING_PATIENCE_SECONDS
            if time.monotonic() - began > patience:
                raise StackError(
                    f"a stack runs already on {state} (pid {holder.get('pid', 'unknown')}): "
                    "stop it, or set TAKINGS_STATE to another folder"
                )
            time.sleep(0.1)
        yield StackLock(file)


def _taken(file: TextIOWrapper) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(text: str) -> dict[str, object]:
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
