"""How the four services are run: their commands and their environments, in the stack as in a container."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.databases import SERVICES, ServiceDatabase, service_database, service_databases, url_as
from deploy.processes import Command
from deploy.stack_secrets import StackSecrets
from deploy.tokens import AUDIENCE, ISSUER

MAIL_FROM = "alerts@takings.local"
COMPILES_ANEW = "PYTHONDONTWRITEBYTECODE"  # each start would compile the services, and a killed one be back later
Role = Literal["all", "api", "worker"]


@dataclass(frozen=True)
class Surroundings:
    """What the services need to know of the servers around them."""

    postgres_url: str  # the superuser's; only host and port go to the services
    kafka_bootstrap: str
    smtp_port: int
    public_key: str
    secrets: StackSecrets = field(repr=False)


def roles_of(*, split: bool) -> tuple[Role, ...]:
    """The processes of each service: one, or an API and a worker apart."""
    return ("api", "worker") if split else ("all",)


def process_name(service: str, role: Role) -> str:
    """`payments`, or `payments-api` and `payments-worker`."""
    return service if role == "all" else f"{service}-{role}"


def service_command(service: str, role: Role, *, port: int, around: Surroundings, logs: Path) -> Command:
    """The command of one process of a service."""
    name = process_name(service, role)
    prefix = service.upper()
    environment = _environment(service, around) | {f"{prefix}_HTTP_PORT": str(port)}
    return Command(
        name=name, argv=(sys.executable, "-m", f"services.{service}", role), log=logs / f"{name}.log", env=environment
    )


def migrate_command(around: Surroundings) -> Command:
    """The command that brings the four databases up to date; alone in knowing the owners' passwords."""
    owners = {
        f"{database.service.upper()}_OWNER_DATABASE_URL": _url(database, database.owner, around)
        for database in service_databases()
    }
    argv = (sys.executable, "-m", "deploy.cli", "migrate")
    return Command(name="migrate", argv=argv, log=Path(os.devnull), env={**os.environ, **owners})


def _environment(service: str, around: Surroundings) -> dict[str, str]:
    database = service_database(service)
    settings = {
        "ENVIRONMENT": "local",
        "DATABASE_URL": _url(database, database.app, around),
        "SYSTEM_DATABASE_URL": _url(database, database.system, around),
        "KAFKA_BOOTSTRAP": around.kafka_bootstrap,
        "HTTP_HOST": "127.0.0.1",
        "AUTH_ISSUER": ISSUER,
        "AUTH_AUDIENCE": AUDIENCE,
        "AUTH_PUBLIC_KEY": around.public_key,
        "AUTH_KEY_ID": ISSUER,
    }
    if service == "payments":
        settings["SECRETS_KEYS"] = around.secrets.payments_key
    if service == "alerts":
        settings |= {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(around.smtp_port), "MAIL_FROM": MAIL_FROM}
    # Settings the operator exported (PAYMENTS_LOG_LEVEL, PAYMENTS_OTLP_ENDPOINT …) reach their own service only.
    kept_back = (*(f"{name.upper()}_" for name in SERVICES if name != service), "TAKINGS_", COMPILES_ANEW)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(kept_back)}
    return inherited | {f"{service.upper()}_{name}": value for name, value in settings.items()}


def _url(database: ServiceDatabase, user: str, around: Surroundings) -> str:
    return url_as(around.postgres_url, database.database, user, around.secrets.passwords[user])
