"""Provisioning: four databases that only their own four roles can enter, however often it is done."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from deploy.databases import SERVICES, database_url, provision, role_names, service_databases, url_as
from deploy.environment import passwords_of_environment
from deploy.errors import StackError
from deploy.postgres import PostgresServer, running_postgres

PASSWORDS = {role: f'it\'s "{role}" \\ %s;--' for role in role_names()}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[PostgresServer]:
    with running_postgres(tmp_path_factory.mktemp("postgres") / "server", durable=False) as running:
        asyncio.run(provision(running.url(), PASSWORDS))
        yield running


async def _query(url: str, sql: str, *arguments: object) -> list[tuple]:
    conn = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await conn.fetch(sql, *arguments)]
    finally:
        await conn.close()


def _url(server: PostgresServer, database: str, role: str) -> str:
    return url_as(server.url(), database, role, PASSWORDS[role])


async def test_again_and_two_at_once_changes_nothing(server: PostgresServer) -> None:
    await asyncio.gather(*(provision(server.url(), PASSWORDS) for _ in range(3)))
    names = await _query(server.url(), "SELECT datname FROM pg_database WHERE datname = ANY($1)", list(SERVICES))
    assert {name for (name,) in names} == set(SERVICES)


async def test_no_role_has_power_beyond_its_database(server: PostgresServer) -> None:
    powers = "SELECT rolname FROM pg_roles WHERE (rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole OR rolreplication)"
    mighty = {name for (name,) in await _query(server.url(), powers)}
    assert mighty.isdisjoint(role_names())


async def test_only_the_four_roles_of_a_database_can_enter_it(server: PostgresServer) -> None:
    for database in service_databases():
        for other in service_databases():
            for role in other.roles:
                if other == database:
                    assert await _query(_url(server, database.database, role), "SELECT 1") == [(1,)]
                else:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await _query(_url(server, database.database, role), "SELECT 1")


async def test_the_owner_makes_tables_and_the_others_cannot(server: PostgresServer) -> None:
    database = service_databases()[0]
    await _query(_url(server, database.database, database.owner), "CREATE TABLE owned (id int)")
    for role in (database.app, database.system, database.auditor):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _query(_url(server, database.database, role), "CREATE TABLE mine (id int)")


async def test_a_new_password_replaces_the_old(server: PostgresServer) -> None:
    changed = PASSWORDS | {"alerts_app": "new"}
    await provision(server.url(), changed)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await _query(_url(server, "alerts", "alerts_app"), "SELECT 1")
    await provision(server.url(), PASSWORDS)
    assert await _query(_url(server, "alerts", "alerts_app"), "SELECT 1") == [(1,)]


async def test_databases_may_have_other_names(server: PostgresServer) -> None:
    await provision(server.url(), PASSWORDS, names={"payments": "test_payments"})
    assert await _query(_url(server, "test_payments", "payments_app"), "SELECT 1") == [(1,)]
    assert await _query(database_url(server.url(), "test_payments"), "SELECT current_database()") == [
        ("test_payments",)
    ]


async def test_an_unreachable_server_is_one_clear_line() -> None:
    with pytest.raises(StackError, match="cannot reach PostgreSQL"):
        await provision("postgresql://postgres:x@127.0.0.1:1/postgres", PASSWORDS)


def test_passwords_come_from_the_services_own_urls(monkeypatch) -> None:
    for database in service_databases():
        kinds = ("OWNER_DATABASE_URL", "DATABASE_URL", "SYSTEM_DATABASE_URL", "AUDITOR_DATABASE_URL")
        for kind, role in zip(kinds, database.roles, strict=True):
            url = url_as("postgresql://db:5432/x", database.database, role, PASSWORDS[role])
            monkeypatch.setenv(f"{database.service.upper()}_{kind}", url)
    assert passwords_of_environment() == PASSWORDS
    monkeypatch.setenv("PAYOUTS_DATABASE_URL", "postgresql://payouts_owner:x@db/payouts")
    with pytest.raises(StackError, match="PAYOUTS_DATABASE_URL must name the role payouts_app"):
        passwords_of_environment()
