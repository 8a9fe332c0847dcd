"""Reporting on a database of its own, with two tenants in different zones and currencies."""

import pytest

from shared.db import Database
from tests.reporting.calls import Caller

TENANTS = [("acme", "Africa/Nairobi", "KES"), ("other", "America/Chicago", "USD")]
ADD_TENANT = "INSERT INTO tenants VALUES ($1, $1, $2, $3, 1, now())"


@pytest.fixture
async def new_db(database):
    """`await new_db()`: an empty reporting database with the tenants."""
    made = []

    async def create() -> Database:
        db = Database((await database("reporting")).app, "test")
        await add_tenants(db)
        made.append(db)
        return db

    yield create
    for db in made:
        await db.close()


@pytest.fixture
async def db(new_db):
    return await new_db()


@pytest.fixture
async def running(run):
    running = await run("reporting")
    await add_tenants(running.service.db)
    return running


@pytest.fixture
def call(running):
    return Caller(running)


async def add_tenants(db: Database) -> None:
    for tenant_id, zone, currency in TENANTS:
        async with db.transaction(tenant_id) as conn:
            await conn.execute(ADD_TENANT, tenant_id, zone, currency)
