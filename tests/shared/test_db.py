"""The walls of each service's database, read off its catalogue: tenants apart, roles small, history unchangeable."""

# ruff: noqa: S608 - the names in these statements come from the catalogue

import asyncio
import importlib
import os
import pkgutil
import re
import secrets
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

import shared
from shared import auth
from shared.db import Database, UnsafeServer, bind_tenants, is_transient
from tests.conftest import connected, until
from tests.payments.conftest import create_tenant

ROOT = Path(__file__).parents[2]
SERVICES = sorted(folder.parent.name for folder in (ROOT / "services").glob("*/migrations"))
TABLES = """
SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity
FROM pg_class AS c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
ORDER BY c.relname
"""
FIRST_KEY_COLUMNS = """
SELECT c.relname, k.conname, k.contype, a.attname
FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
     JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
WHERE c.relnamespace = 'public'::regnamespace AND k.contype IN ('p', 'u', 'f') AND c.relname <> 'alembic_version'
UNION ALL
SELECT c.relname, i.indexrelid::regclass::text, 'i', a.attname
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indisunique AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'
"""
HAVE_TO_BE_FILLED = """
SELECT a.attname, format_type(a.atttypid, NULL) AS type
FROM pg_attribute AS a
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef
      AND a.attidentity = '' AND a.attgenerated = ''
"""
CHECKS = """
SELECT conrelid::regclass::text AS name, conname FROM pg_constraint
WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace
"""
VALUES = {
    "text": "'t'", "character": "'t'", "uuid": "gen_random_uuid()", "bytea": "'x'::bytea", "date": "'2026-03-01'",
    "timestamp with time zone": "now()", "json": "'{}'", "jsonb": "'{}'", "boolean": "false", "text[]": "'{}'",
    "bigint": "1", "integer": "1", "smallint": "1", "numeric": "1",
}  # fmt: skip
# What relay and sweeps may see of all tenants, and nothing else.
ACROSS_TENANTS = {
    "payments": {"outbox", "idempotency_keys", "callbacks"},
    "payouts": {"outbox", "idempotency_keys"},
    "reporting": set(),
    "alerts": {"alert_rules", "mail_queues"},
}
HISTORY = {"outbox", "audit", "entries", "journals", "inbox"}


@pytest.fixture(params=SERVICES)
async def service(request, database):
    return request.param, await database(request.param)


@asynccontextmanager
async def connection(url):
    conn = await asyncpg.connect(url)
    try:
        yield conn
    finally:
        await conn.close()


async def tables(urls):
    async with connection(urls.superuser) as conn:
        return await conn.fetch(TABLES)


async def fill(urls, *tenants):
    """A row of each tenant in every table; only what keeps rows consistent with each other is taken away for it."""
    async with connection(urls.superuser) as conn:
        await conn.execute("SET session_replication_role = replica")  # no triggers
        for check in await conn.fetch(CHECKS):
            await conn.execute(f'ALTER TABLE {check["name"]} DROP CONSTRAINT "{check["conname"]}"')
        for table in await conn.fetch(TABLES):
            columns = await conn.fetch(HAVE_TO_BE_FILLED, table["oid"])
            names = ", ".join(column["attname"] for column in columns)
            for tenant in tenants:
                values = ", ".join(
                    f"'{tenant}'" if column["attname"] == "tenant_id" else VALUES[column["type"]] for column in columns
                )
                await conn.execute(f"INSERT INTO {table['relname']} ({names}) VALUES ({values})")
            assert await conn.fetchval(f"SELECT count(*) FROM {table['relname']}") == len(tenants)


async def visible(conn, table):
    try:
        return await conn.fetchval(f"SELECT count(*) FROM {table}")
    except asyncpg.InsufficientPrivilegeError:
        return None


async def test_every_table_is_a_tenants_and_walled(service):
    _name, urls = service
    found = await tables(urls)
    assert len(found) >= 5
    for table in found:
        assert (table["relrowsecurity"], table["relforcerowsecurity"]) == (True, True), table["relname"]
    async with connection(urls.superuser) as conn:
        keys = await conn.fetch(FIRST_KEY_COLUMNS)
    assert {key["relname"] for key in keys if key["contype"] in {b"p", "p"}} == {table["relname"] for table in found}
    assert [tuple(key) for key in keys if key["attname"] != "tenant_id"] == []


async def test_a_session_sees_and_writes_its_own_tenants_only(service):
    _name, urls = service
    await fill(urls, "t1", "t2")
    for table in [row["relname"] for row in await tables(urls)]:
        for role in (urls.app, urls.owner):  # FORCE: not even the owner
            async with connected(role) as conn:  # no tenant
                assert await visible(conn, table) in {0, None}, table
            async with connection(role) as conn:  # the setting was never made
                assert await visible(conn, table) in {0, None}, table
            async with connected(role, "nobody") as conn:
                assert await visible(conn, table) in {0, None}, table
            async with connected(role, "t1") as conn:
                assert await visible(conn, table) == 1, f"{table}: the row is there and its tenant can see it"
            async with connected(role, "t1", "t2") as conn:
                assert await visible(conn, table) == 2, table


async def test_no_row_can_be_written_for_another_tenant(service):
    _name, urls = service
    await fill(urls, "t1")
    async with connected(urls.owner, "t2") as conn:  # the owner has every right but that
        for table in await tables(urls):
            columns = await conn.fetch(HAVE_TO_BE_FILLED, table["oid"])
            values = ", ".join("'t1'" if c["attname"] == "tenant_id" else VALUES[c["type"]] for c in columns)
            names = ", ".join(c["attname"] for c in columns)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await conn.execute(f"INSERT INTO {table['relname']} ({names}) VALUES ({values})")
            assert await conn.execute(f"UPDATE {table['relname']} SET tenant_id = 't2'") == "UPDATE 0"


async def test_the_system_role_sees_across_tenants_only_what_its_sweeps_need(service):
    name, urls = service
    await fill(urls, "t1", "t2")
    seen = set()
    async with connection(urls.system) as conn:
        for table in await tables(urls):
            columns = [
                column["attname"]
                for column in await conn.fetch(
                    "SELECT attname FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 "
                    "AND has_column_privilege(attrelid, attnum, 'SELECT')", table["oid"]
                )
            ]  # fmt: skip
            if columns and await conn.fetch(f"SELECT {columns[0]} FROM {table['relname']}"):
                seen.add(table["relname"])
            personal = {
                "body",
                "client_name",
                "client_phone",
                "payer_name",
                "payer_phone",
                "encrypted",
                "recipients",
                "answer",
            }
            assert not personal & set(columns), table["relname"]
    assert seen == ACROSS_TENANTS.get(name, seen)
    assert seen.isdisjoint({"tenants", "payments", "requests", "audit", "gateway_secrets", "entries", "wallets"})


async def test_the_auditor_reads_every_table_but_no_secret_and_no_person_and_writes_nothing(service):
    _name, urls = service
    await fill(urls, "t1", "t2")
    hidden = {"body", "client_name", "client_phone", "payer_name", "payer_phone", "encrypted", "content_hash", "request_hash",
              "recipients", "recipient"}  # fmt: skip
    async with connection(urls.auditor) as conn:
        for table in await tables(urls):
            rights = {
                row["attname"]: row["readable"]
                for row in await conn.fetch(
                    "SELECT attname, has_column_privilege(attrelid, attnum, 'SELECT') AS readable FROM pg_attribute "
                    "WHERE attrelid = $1 AND attnum > 0", table["oid"]
                )
            }  # fmt: skip
            own = hidden | ({"error"} if table["relname"] == "deliveries" else set())  # a mail server's may name people
            assert {column for column, readable in rights.items() if not readable} == own & set(rights)
            assert await conn.fetchval(f"SELECT count(tenant_id) FROM {table['relname']}") >= 2
            for statement in ("UPDATE {} SET tenant_id = 't1'", "DELETE FROM {}", "TRUNCATE {}"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await conn.execute(statement.format(table["relname"]))


async def test_the_roles_are_small(service):
    name, urls = service
    async with connection(urls.superuser) as conn:
        roles = {
            row["rolname"]: row
            for row in await conn.fetch("SELECT * FROM pg_roles WHERE rolname LIKE $1", f"{name}\\_%")
        }
        owned = await conn.fetch(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
    assert [row[0] for row in owned] == [f"{name}_owner"]
    assert set(roles) == {f"{name}_{role}" for role in ("owner", "app", "system", "auditor")}
    for row in roles.values():
        assert not [right for right in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb") if row[right]]
    for url in (urls.app, urls.system, urls.auditor):
        async with connection(url) as conn:
            for other in {*roles, "postgres"} - {await conn.fetchval("SELECT current_user")}:
                with pytest.raises(asyncpg.PostgresError):
                    await conn.execute(f"SET ROLE {other}")
            for forbidden in ("CREATE TABLE mine (x int)", "CREATE SCHEMA mine", "DROP TABLE outbox",
                              "ALTER TABLE outbox DISABLE ROW LEVEL SECURITY", "DROP POLICY tenant ON tenants",
                              "TRUNCATE tenants", "SET session_replication_role = replica"):  # fmt: skip
                with pytest.raises(asyncpg.PostgresError):
                    await conn.execute(forbidden)


async def test_history_cannot_be_changed_by_the_application(service):
    _name, urls = service
    await fill(urls, "t1")
    history = HISTORY & {row["relname"] for row in await tables(urls)}
    for url in (urls.app, urls.system):
        async with connected(url, "t1") as conn:
            for table in history:
                for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET tenant_id = 't1'", f"TRUNCATE {table}"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await conn.execute(statement)
    if "outbox" in history:
        async with connected(urls.app, "t1") as conn:
            for column in ("event", "published_at", "key"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await conn.execute(f"UPDATE outbox SET {column} = {column}")
        async with connection(urls.system) as conn:
            assert await conn.execute("UPDATE outbox SET published_at = now()") == "UPDATE 1"
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute("UPDATE outbox SET event = '{}'")


async def test_no_other_services_role_can_connect(service, templates):
    name, _urls = service
    other = SERVICES[SERVICES.index(name) - 1]
    url = templates.urls(other, f"template_{name}").app
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(url)


def sql_constants(package):
    """Module-level SQL of a package: (where, statement)."""
    names = [package.__name__]
    names += [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    for name in names:
        if ".migrations" in name or name.endswith(".__main__"):
            continue
        module = importlib.import_module(name)
        for constant, value in vars(module).items():
            statement = value.strip() if isinstance(value, str) else ""
            if re.fullmatch(r"[A-Z][A-Z0-9_]*", constant) and statement.startswith(
                ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
            ):
                yield f"{name}.{constant}", statement


async def fits(conn, statement):
    """The error that planning the statement meets as this role, or None. A plan needs the rights that running it does."""
    try:
        await conn.prepare(statement)
        if conn.get_server_version().major >= 16:
            await conn.execute(f"EXPLAIN (GENERIC_PLAN) {statement}")
    except asyncpg.PostgresError as error:
        return error
    return None


async def test_every_statement_fits_the_schema_and_the_rights_of_its_role(service):
    name, urls = service
    statements = dict(sql_constants(importlib.import_module(f"services.{name}")))
    assert len(statements) >= 5
    async with connection(urls.app) as app, connection(urls.system) as system:
        errors = {
            where: str(error)
            for where, statement in statements.items()
            if (error := await fits(app, statement)) and await fits(system, statement)
        }
    assert errors == {}


async def test_every_shared_statement_fits_wherever_its_tables_are(database):
    statements = dict(sql_constants(shared))
    assert len(statements) >= 12
    wrong, fitting = {}, set()
    for name in SERVICES:
        urls = await database(name)
        async with connection(urls.app) as app, connection(urls.system) as system:
            for where, statement in statements.items():
                errors = [await fits(conn, statement) for conn in (app, system)]
                if None in errors:
                    fitting.add(where)
                elif not any(isinstance(error, asyncpg.UndefinedTableError) for error in errors):
                    wrong[f"{where} in {name}"] = str(errors[0])
    assert wrong == {}
    assert statements.keys() - fitting == set()


async def test_migrations_run_twice_and_two_at_once_without_harm(templates):
    name = f"payments_{secrets.token_hex(6)}"
    async with connection(templates.server_url) as admin:
        await admin.execute(f"CREATE DATABASE {name} OWNER payments_owner TEMPLATE template0")
        urls = templates.urls("payments", name)
        env = {**os.environ, "PAYMENTS_OWNER_DATABASE_URL": urls.owner}
        command = [sys.executable, "-m", "services.payments", "migrate"]
        both = [await asyncio.create_subprocess_exec(*command, env=env, stderr=subprocess.PIPE) for _ in range(2)]
        for process in both:
            _, err = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 0, err.decode()
        first = await _shape(urls)
        from shared.migrations import upgrade

        await asyncio.to_thread(upgrade, "services.payments", urls.owner)
        assert await _shape(urls) == first
        templates.migrate("payments")
        assert first == await _shape(templates.urls("payments", "template_payments"))
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def _shape(urls):
    async with connection(urls.superuser) as conn:
        columns = await conn.fetch(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY 1, 2"
        )
        policies = await conn.fetch("SELECT tablename, policyname, roles, qual FROM pg_policies ORDER BY 1, 2")
        version = await conn.fetch("SELECT version_num FROM alembic_version")
    return columns, policies, version


async def test_an_unsafe_server_is_refused_by_name(database):
    urls = await database("payments")
    async with connection(urls.superuser) as conn:
        await conn.execute(f"ALTER DATABASE {urls.name} SET synchronous_commit = off")
        expected = {
            name
            for name in ("fsync", "full_page_writes", "data_checksums")
            if await conn.fetchval(f"SHOW {name}") != "on"
        } | {"synchronous_commit"}
    db = Database(urls.app, "test")
    with pytest.raises(UnsafeServer) as refused:
        await db.refuse_unsafe_server()
    await db.close()
    for name in ("fsync", "full_page_writes", "data_checksums", "synchronous_commit"):
        assert (name in str(refused.value)) == (name in expected)


@pytest.mark.parametrize("value", ["local", "remote_write", "off"])
async def test_anything_less_than_a_flushed_commit_is_unsafe(database, value):
    urls = await database("payments")
    async with connection(urls.superuser) as conn:
        await conn.execute(f"ALTER DATABASE {urls.name} SET synchronous_commit = {value}")
    db = Database(urls.app, "test")
    with pytest.raises(UnsafeServer, match="synchronous_commit"):
        await db.refuse_unsafe_server()
    await db.close()


async def test_tenants_are_bound_to_the_transaction_not_to_the_session(database):
    urls = await database("payments")
    db = Database(urls.app, "test", size=1)
    async with db.transaction("t1", "t2") as conn:
        assert await conn.fetchval("SELECT current_setting('app.tenant')") == "t1,t2"
        pid = await conn.fetchval("SELECT pg_backend_pid()")
    async with db.transaction() as conn:
        assert await conn.fetchval("SELECT pg_backend_pid()") == pid
        assert await conn.fetchval("SELECT current_setting('app.tenant', true)") in {"", None}
        await bind_tenants(conn, ["t3"])
        assert await conn.fetchval("SELECT current_setting('app.tenant')") == "t3"
    await db.close()


async def test_a_limit_on_waiting_for_locks_is_the_transactions_own(database):
    db = Database((await database("payments")).app, "test", size=1)
    limits = []
    for limit_ms in (None, 300, None):
        async with db.transaction("t1", lock_limit_ms=limit_ms) as conn:
            limits.append(await conn.fetchval("SHOW lock_timeout"))
    assert limits == ["0", "300ms", "0"]
    await db.close()


@pytest.mark.parametrize(
    "name", ["o'neill", "a\\", "a'); DROP TABLE tenants; --", "\n$$", "\u00e9\u20ac\U0001f680", ""]
)
async def test_a_tenants_name_is_bound_as_it_is(database, name):
    db = Database((await database("payments")).app, "test")
    async with db.transaction(name, lock_limit_ms=300) as conn:
        assert await conn.fetchval("SELECT current_setting('app.tenant')") == name
        await bind_tenants(conn, [name, "t1"])
        assert await conn.fetchval("SELECT current_setting('app.tenant')") == ",".join(sorted([name, "t1"]))
    await db.close()


async def test_a_name_that_cannot_be_bound_leaves_nothing_open(database):
    db = Database((await database("payments")).app, "test", size=1)
    loop, seen = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: seen.append(context))
    try:
        with pytest.raises(asyncpg.CharacterNotInRepertoireError):
            async with db.transaction("a\0b"):
                pass
        assert await _backend(db)
    finally:
        loop.set_exception_handler(None)
        await db.close()
    assert seen == []  # the pool had nothing to undo


async def test_an_error_that_was_passed_over_is_no_commit(database):
    db = Database((await database("payments")).app, "test", size=1)
    with pytest.raises(asyncpg.InFailedSQLTransactionError, match="nothing is committed"):  # noqa: PT012
        async with db.transaction("t1") as conn:
            with suppress(asyncpg.DivisionByZeroError):
                await conn.execute("SELECT 1 / 0")
    async with db.transaction("t1") as conn:
        assert await conn.fetchval("SELECT 1") == 1
    await db.close()


async def test_who_loses_the_connection_learns_of_that_first(database):
    db = Database((await database("payments")).app, "test", size=1)
    with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
        await _backend(db, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert await _backend(db)
    await db.close()


async def test_who_waits_too_long_for_a_connection_is_put_off_and_spoils_none(database, monkeypatch):
    monkeypatch.setattr("shared.db.CONNECTION_LIMIT_S", 0.1)
    db = Database((await database("payments")).app, "test", size=1)
    async with db.transaction() as conn:
        pid = await conn.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(TimeoutError):
            await _backend(db)
        await conn.execute("SELECT pg_sleep(0.2)")  # the limit is on the way to a connection only
    assert await _backend(db) == pid
    await db.close()


async def test_connections_made_after_a_stall_are_not_given_up_for_calls_from_before(database):
    db = Database((await database("payments")).app, "test", size=3)
    stalled = [asyncio.create_task(_backend(db, "SELECT pg_sleep(60)")) for _ in range(2)]
    await until(lambda: _all_sleep(db, count=len(stalled)))
    before = await _backend(db)
    await _cancel(stalled[0])
    after = await _backend(db)
    assert after != before  # the stall is known from now on
    await _cancel(stalled[1])
    assert await _backend(db) == after
    await db.close()


async def _backend(db, first="SELECT 1"):
    async with db.transaction() as conn:
        await conn.execute(first)
        return await conn.fetchval("SELECT pg_backend_pid()")


async def _all_sleep(db, *, count):
    async with db.transaction() as conn:
        return await conn.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == count


async def _cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_lost_race_is_run_again_and_a_real_error_is_not(database):
    from shared.db import ConcurrentWrite

    db = Database((await database("payments")).app, "test")
    tries = []

    async def loses(conn, *, times, error):
        tries.append(1)
        if len(tries) <= times:
            raise error
        return await conn.fetchval("SELECT 7")

    assert await db.run(lambda conn: loses(conn, times=3, error=ConcurrentWrite("raced"))) == 7
    assert len(tries) == 4
    tries.clear()
    with pytest.raises(ConcurrentWrite):
        await db.run(lambda conn: loses(conn, times=99, error=ConcurrentWrite("raced")))
    assert len(tries) == 5
    tries.clear()
    with pytest.raises(ValueError, match="real"):
        await db.run(lambda conn: loses(conn, times=99, error=ValueError("real")))
    assert len(tries) == 1
    await db.close()


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (asyncpg.ConnectionDoesNotExistError("x"), True),
        (asyncpg.CannotConnectNowError("x"), True),
        (asyncpg.AdminShutdownError("x"), True),
        (asyncpg.DiskFullError("x"), True),
        (asyncpg.TooManyConnectionsError("x"), True),
        (asyncpg.DeadlockDetectedError("x"), True),
        (asyncpg.LockNotAvailableError("x"), True),
        (asyncpg.ReadOnlySQLTransactionError("x"), True),
        (asyncpg.InvalidPasswordError("x"), True),
        (asyncpg.InvalidCatalogNameError("x"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (asyncpg.DataError("x"), False),
        (asyncpg.CheckViolationError("x"), False),
        (asyncpg.UniqueViolationError("x"), False),
        (asyncpg.CharacterNotInRepertoireError("x"), False),
        (asyncpg.UndefinedTableError("x"), True),
        (asyncpg.RaiseError("x"), False),
        (ValueError(), False),
        (KeyError("x"), False),
        (auth.Unauthorized("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_which_errors_pass_by_themselves(error, passes):
    assert is_transient(error) is passes


async def test_http_never_shows_another_tenants_rows(run):
    running = await run("payments")
    await create_tenant(running, "t1")
    await create_tenant(running, "t2")
    answer = await running.http.get("/api/v1/tenants/t2", headers=running.as_("admin", tenant="t1"))
    assert answer.status_code == 403
