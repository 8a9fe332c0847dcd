"""Reporting on a database of its own, with two tenants in different zones and currencies."""

import pytest

from shared.db import Database
from tests.conftest import add_tenants
from tests.reporting.calls import Caller


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
