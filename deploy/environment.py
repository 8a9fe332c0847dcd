"""Provisioning and migrating from nothing but environment variables, as containers do it."""

import os
from urllib.parse import unquote, urlsplit

from deploy.databases import SERVICES, service_databases
from deploy.errors import StackError
from shared.migrations import upgrade


def required(name: str) -> str:
    """The value of an environment variable; StackError when it is missing or empty."""
    value = os.environ.get(name)
    if not value:
        raise StackError(f"{name} is not set")
    return value


def passwords_of_environment() -> dict[str, str]:
    """The password of each role, from the URLs with which the services will connect.

    StackError when a URL names another role or database than the one that will be created.
    """
    passwords = {}
    for database in service_databases():
        kinds = {
            "OWNER_DATABASE_URL": database.owner,
            "DATABASE_URL": database.app,
            "SYSTEM_DATABASE_URL": database.system,
            "AUDITOR_DATABASE_URL": database.auditor,
        }
        for kind, role in kinds.items():
            name = f"{database.service.upper()}_{kind}"
            url = urlsplit(required(name))
            if unquote(url.username or "") != role or url.path != f"/{database.database}":
                raise StackError(f"{name} must name the role {role} and the database {database.database}")
            if not url.password:
                raise StackError(f"{name} has no password")
            passwords[role] = unquote(url.password)
    return passwords


def migrate_all() -> None:
    """Bring the four databases up to date, each as the owner that its OWNER_DATABASE_URL names.

    The same as `python -m services.<name> migrate` for each, in one process: four would mostly wait for their imports.
    """
    for service in SERVICES:
        upgrade(f"services.{service}", required(f"{service.upper()}_OWNER_DATABASE_URL"))
