"""A world of all four services, and the environment in which an operator's commands find it."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest
from cryptography.fernet import Fernet

from deploy.tokens import TokenIssuer
from tests.conftest import Templates, running_service
from tests.operations.access import access_environment
from tests.operations.world import SERVICES, Populated, World, populate


@pytest.fixture(scope="session")
async def populated(templates: Templates, issuer: TokenIssuer) -> AsyncIterator[Populated]:
    """The databases of a world, which tests copy: to make it takes seconds."""
    suffix, keys = secrets.token_hex(4), {"secrets_keys": Fernet.generate_key().decode()}
    made = Populated({service: f"world_{suffix}_{service}" for service in SERVICES}, keys, {})
    admin = await asyncpg.connect(templates.server_url)
    async with AsyncExitStack() as stack:
        running = {}
        for service, name in made.databases.items():
            templates.migrate(service)
            await admin.execute(f"CREATE DATABASE {name} OWNER {service}_owner TEMPLATE template_{service}")
            running[service] = await stack.enter_async_context(
                running_service(
                    service, templates.urls(service, name), issuer, role="api", kafka="127.0.0.1:1", overrides=keys
                )
            )
        world = World(running)
        await populate(world)
        made.accounts.update(world.accounts)
    yield made
    for name in made.databases.values():
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def world(run, monkeypatch, populated):
    made = World(
        {service: await run(service, template=name, **populated.keys) for service, name in populated.databases.items()},
        dict(populated.accounts),
    )
    for name, value in access_environment(**made.urls).items():
        monkeypatch.setenv(name, value)
    return made
