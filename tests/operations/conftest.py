"""A world of all four services, and the environment in which an operator's commands find it."""

import pytest

from tests.operations.access import access_environment
from tests.operations.world import SERVICES, World, populate


@pytest.fixture
async def world(run, monkeypatch):
    made = World({service: await run(service) for service in SERVICES})
    for name, value in access_environment(**made.urls).items():
        monkeypatch.setenv(name, value)
    await populate(made)
    return made
