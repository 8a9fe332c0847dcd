"""A local PostgreSQL server for the stack and the tests, from the binaries of a wheel or of the system."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from deploy.errors import StackError
from deploy.ports import free_port
from deploy.postgres_folder import SUPERUSER, find_binaries, initialise, plain_environment, server_account
from deploy.processes import Account, Command, end_leftover, last_line, spawn, stop

SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "logging_collector": "off",
    "log_destination": "stderr",
}
READY_WITHIN_SECONDS = 60.0
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")
SOCKET_FOLDER_LIMIT = 88  # of the 107 bytes of a socket's path, less ".s.PGSQL.32000" and some air


@dataclass(frozen=True)
class PostgresServer:
    """Where a PostgreSQL server listens and its superuser's password."""

    host: str
    port: int
    socket_folder: Path
    superuser_password: str

    def url(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A postgresql:// URL; the superuser's when no user is named."""
        secret = self.superuser_password if password is None else password
        user, secret, database = (quote(part, safe="") for part in (user, secret, database))
        return f"postgresql://{user}:{secret}@{self.host}:{self.port}/{database}"


@contextmanager
def running_postgres(folder: Path, *, durable: bool = True, port: int | None = None) -> Iterator[PostgresServer]:
    """A server on a free loopback port with its data under `folder` (kept afterwards), stopped at the end.

    `durable=False` turns off what protects committed data from a crash, for tests that need speed.
    Raises StackError when it does not start. Call it from a thread that outlives the server.
    """
    server, command = prepare(folder, port=port or free_port(), durable=durable, log=folder / "server.log")
    process = spawn(command)
    try:
        wait_until_ready(server, command, died=lambda: process.poll() is not None)
        yield server
    finally:
        stop(process, command, grace_seconds=5)
        remove_socket_folder(folder)


def prepare(folder: Path, *, port: int, log: Path, durable: bool = True) -> tuple[PostgresServer, Command]:
    """Create the data folder if need be, end what an earlier run left in it, and say how to start the server."""
    binaries = find_binaries()
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    account = server_account(data)
    if not data.exists():
        initialise(binaries, folder, account)
    _clear_stale_pid(data)
    socket_folder = _socket_folder(folder, account)
    settings = SETTINGS | dict.fromkeys(DURABILITY, "on" if durable else "off")
    settings |= {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(socket_folder)}
    command = Command(
        name="postgres",
        argv=(
            str(binaries / "postgres"),
            "-D",
            str(data.resolve()),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ),
        log=log,
        env=plain_environment(),
        stop_signal=signal.SIGINT,  # "fast": ends the sessions, writes a checkpoint
        last_signal=signal.SIGQUIT,  # "immediate": the next start recovers from the log
        account=account,
    )
    password = (folder / "superuser-password").read_text().strip()
    return PostgresServer("127.0.0.1", port, socket_folder, password), command


def wait_until_ready(server: PostgresServer, command: Command, *, died: Callable[[], bool]) -> None:
    """Return when the server answers a query; StackError when it has died or the time is over."""
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while True:
        try:
            psycopg.connect(server.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            if died():
                raise StackError(f"PostgreSQL did not start: {last_line(command.log)} (log: {command.log})") from None
            if time.monotonic() > deadline:
                raise StackError(
                    f"PostgreSQL was not ready in {READY_WITHIN_SECONDS:.0f} s (log: {command.log})"
                ) from None
            time.sleep(0.05)
        else:
            return


def remove_socket_folder(folder: Path) -> None:
    """Remove the temporary socket folder that a server with a long data path was given."""
    note = folder / "socket-folder"
    if note.exists():
        shutil.rmtree(note.read_text().strip(), ignore_errors=True)
        note.unlink()


def _clear_stale_pid(data: Path) -> None:
    """End the server that an earlier run left on this data, and drop a pid file whose number is someone else's now.

    A pid file that names no process is left alone: PostgreSQL itself checks it against surviving sessions.
    """
    file = data / "postmaster.pid"
    try:
        process = psutil.Process(int(file.read_text().splitlines()[0]))
        ours = process.name() == "postgres" and str(data.resolve()) in process.cmdline()
        if ours:
            end_leftover(process.pid, created_at=process.create_time(), ask=signal.SIGINT)
        else:
            file.unlink(missing_ok=True)
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        return


def _socket_folder(folder: Path, account: Account | None) -> Path:
    """The data folder where the path is short enough for a socket, else a temporary folder that stop removes."""
    remove_socket_folder(folder)
    data = (folder / "data").resolve()
    if len(os.fsencode(data)) <= SOCKET_FOLDER_LIMIT:
        return data
    short = Path(tempfile.mkdtemp(prefix="takings-"))
    if account is not None:
        os.chown(short, account.uid, account.gid)
    (folder / "socket-folder").write_text(str(short))
    return short
