"""The launcher of PostgreSQL: what it promises about durability, users, folders and half-killed earlier runs."""

import os
import signal
import stat
from pathlib import Path

import psycopg
import pytest

from deploy.postgres import running_postgres


def _show(url: str, *names: str) -> list[str]:
    with psycopg.connect(url) as conn:
        return [conn.execute("SELECT current_setting(%s)", [name]).fetchone()[0] for name in names]


def test_is_durable_unless_a_test_asks_otherwise(tmp_path: Path) -> None:
    protections = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
    with running_postgres(tmp_path / "server") as server:
        assert _show(server.url(), *protections) == ["on"] * 4
        assert _show(server.url(), "server_encoding", "password_encryption") == ["UTF8", "scram-sha-256"]
    with running_postgres(tmp_path / "server", durable=False) as server:
        assert _show(server.url(), *protections) == ["off", "off", "off", "on"]


def test_wants_a_password_on_tcp_and_socket(tmp_path: Path) -> None:
    with running_postgres(tmp_path / "server", durable=False) as server:
        assert stat.S_IMODE((tmp_path / "server" / "superuser-password").stat().st_mode) == 0o600
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url(password="wrong"))
        by_socket = {"host": str(server.socket_folder), "port": server.port, "user": "postgres", "dbname": "postgres"}
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(**by_socket, password="wrong")
        psycopg.connect(**by_socket, password=server.superuser_password).close()


def test_random_passwords_are_hashed_once(tmp_path: Path) -> None:
    with running_postgres(tmp_path / "server", durable=False) as server, psycopg.connect(server.url()) as conn:
        if conn.info.server_version < 160_000:
            pytest.skip("before PostgreSQL 16 the iterations were fixed")
        conn.execute("CREATE ROLE somebody PASSWORD 'random'")
        hashes = [row[0] for row in conn.execute("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")]
        assert len(hashes) == 2
        assert all(each.startswith("SCRAM-SHA-256$1:") for each in hashes), hashes


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that the server's user cannot pass")
def test_runs_as_an_ordinary_user_below_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with running_postgres(closed / "server", durable=False) as server:
        postmaster = int((closed / "server" / "data" / "postmaster.pid").read_text().splitlines()[0])
        assert Path(f"/proc/{postmaster}").stat().st_uid != 0
        psycopg.connect(server.url()).close()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert closed.stat().st_uid == 0


def test_a_long_path_gets_a_short_socket_folder_that_goes_away(tmp_path: Path) -> None:
    with running_postgres(tmp_path / ("long" * 30) / "server", durable=False) as server:
        assert len(str(server.socket_folder)) < 100
        assert (server.socket_folder / f".s.PGSQL.{server.port}").exists()
    assert not server.socket_folder.exists()


def test_starts_again_after_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    with running_postgres(folder) as server:
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("CREATE TABLE kept AS SELECT 1 AS one")
        os.kill(int((folder / "data" / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    assert (folder / "data" / "postmaster.pid").exists()
    with running_postgres(folder) as server, psycopg.connect(server.url()) as conn:
        assert conn.execute("SELECT one FROM kept").fetchone() == (1,)


def test_a_stale_pid_file_that_names_another_process_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    with running_postgres(folder, durable=False):
        content = (folder / "data" / "postmaster.pid").read_text()
    (folder / "data" / "postmaster.pid").write_text("\n".join([str(os.getpid()), *content.splitlines()[1:]]))
    with running_postgres(folder, durable=False) as server:
        psycopg.connect(server.url()).close()


def test_an_initdb_that_was_killed_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "server" / "data.new" / "base").mkdir(parents=True)
    with running_postgres(tmp_path / "server", durable=False) as server:
        psycopg.connect(server.url()).close()
