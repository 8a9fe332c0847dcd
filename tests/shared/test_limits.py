"""No call waits for ever, and what a vanished client has locked is let go by the server itself."""

import asyncio
import time
from urllib.parse import urlsplit

import asyncpg
import pytest

from shared.db import CALL_LIMIT_S, LIMITS, Database
from tests.conftest import connected, until
from tests.payments.conftest import create_tenant


async def test_a_call_that_meets_a_held_lock_ends_in_time_and_leaves_nothing_behind(run):
    running = await run("payments")
    await create_tenant(running)
    db = running.service.db
    async with connected(running.urls.app, "t1") as other, other.transaction():
        await other.execute("SELECT FROM tenants FOR UPDATE")
        started = time.monotonic()
        with pytest.raises((TimeoutError, asyncpg.QueryCanceledError)):
            await db.run(lambda conn: conn.execute("UPDATE tenants SET name = name"), "t1")
        assert time.monotonic() - started < CALL_LIMIT_S + 1.5
    async with db.transaction("t1") as conn:
        assert await conn.fetchval("SELECT count(*) FROM tenants") == 1


async def test_a_line_that_goes_dead_costs_one_limit_not_two(run):
    running = await run("payments")
    target, stalled = urlsplit(running.urls.app), asyncio.Event()

    async def pump(reader, writer):
        try:
            while data := await reader.read(65536):
                if stalled.is_set():
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    pumps = set()

    async def through(reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection(target.hostname, target.port)
        pumps.update(asyncio.create_task(pump(*ends)) for ends in ((reader, inner_writer), (inner_reader, writer)))

    server = await asyncio.start_server(through, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    db = Database(running.urls.app.replace(f"@{target.hostname}:{target.port}/", f"@127.0.0.1:{port}/"), "stalled")
    async with db.transaction("t1") as conn:
        assert await conn.fetchval("SELECT 1") == 1
    started = time.monotonic()
    with pytest.raises(TimeoutError):  # noqa: PT012 - the line dies inside
        async with db.transaction("t1") as conn:
            stalled.set()  # in the middle of the transaction, which then has something to roll back
            await conn.fetchval("SELECT 1")
    assert time.monotonic() - started < CALL_LIMIT_S + 1.5
    await db.close()
    server.close()
    for task in pumps:
        task.cancel()
    await asyncio.gather(*pumps, return_exceptions=True)
    await server.wait_closed()


async def test_the_server_ends_a_transaction_whose_client_says_nothing_more(run):
    running = await run("payments")
    await create_tenant(running)
    conn = await asyncpg.connect(running.urls.app, server_settings=LIMITS)
    await conn.execute("SET idle_in_transaction_session_timeout = 200")  # the services' own limit, sooner
    await conn.execute("BEGIN")
    await conn.execute("SELECT set_config('app.tenant', 't1', true)")
    await conn.execute("SELECT FROM tenants FOR UPDATE")
    async with running.service.db.transaction("t1") as other:
        limit = await other.fetchval("SHOW idle_in_transaction_session_timeout")
        await asyncio.wait_for(other.execute("UPDATE tenants SET name = 'free again'"), 4)
    assert limit == "5s"

    async def is_closed():
        return conn.is_closed()

    await until(is_closed)
