"""The operator's command `takings`: runs the local stack and the demo, makes tenants and tokens, looks after live data.

Commands import what they need when they run, so that `takings token` is quick, and a container that lacks the local
stack's packages can provision.
"""

# ruff: noqa: E402, PLC0415

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports ends the command without a traceback

import asyncio
import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deploy.errors import StackError
from deploy.operations import dlq_commands
from deploy.operations.commands import add_operations
from deploy.state import state_folder

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # commands say themselves what they could not do


class OneLineErrors(TyperGroup):
    """Shows what the operator can put right as one line, not as a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except StackError as error:
            typer.echo(f"takings: {error}", err=True)
            raise typer.Exit(error.exit_status) from None


class Roles(StrEnum):
    """How the services' processes are cut."""

    ALL = "all"
    SPLIT = "split"


app = typer.Typer(
    cls=OneLineErrors,
    help="Takings: run the stack, play a day of trips, make tenants and tokens, look after live data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tenant_app = typer.Typer(help="Tenants of the running stack.", no_args_is_help=True)
app.add_typer(tenant_app, name="tenant")
add_operations(app)
app.add_typer(dlq_commands.app, name="dlq")

RolesOption = Annotated[
    Roles, typer.Option(help="all: one process per service; split: its API and its worker as separate processes.")
]
ReadyOption = Annotated[Path | None, typer.Option(help="Write stack.json to this file too, once all is healthy.")]


@app.command()
def up(ready: ReadyOption = None, roles: RolesOption = Roles.ALL) -> None:
    """Start PostgreSQL, Kafka, the mail catcher and the four services; Ctrl-C stops them all."""
    from deploy.session import run_session, until_interrupted
    from deploy.welcome import say, welcome

    async def work(stack: dict[str, Any]) -> int:
        welcome(stack)
        return await until_interrupted()

    raise typer.Exit(run_session(_options(ready, roles), work, say=say))


@app.command()
def demo(
    *,
    trips: Annotated[Path | None, typer.Option(help="A CSV of real trips (.gz too) instead of generated ones.")] = None,
    mapping: Annotated[
        Path | None, typer.Option("--map", help="The TOML mapping of the trips file; see deploy/mappings/.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many trips to generate.")] = 2000,
    seed: Annotated[int | None, typer.Option(help="The seed of generated trips; the same seed, the same day.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report to this JSON file.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when done; exit 0 only if every check held.")] = False,
    ready: ReadyOption = None,
    roles: RolesOption = Roles.ALL,
) -> None:
    """Start the stack and play a day of trips through it: paid, shared, paid out, reported and proven."""
    from deploy.session import run_session, until_interrupted
    from deploy.simulator.run import DemoOptions, check_options, run_demo
    from deploy.tokens import TokenIssuer
    from deploy.welcome import say, welcome

    options = DemoOptions(trips=trips, mapping=mapping, count=count, seed=seed, report=report)
    check_options(options)

    async def work(stack: dict[str, Any]) -> int:
        status = await run_demo(stack, TokenIssuer(state_folder()).mint, options)
        if once:
            return status
        welcome(stack)
        return await until_interrupted(status)

    raise typer.Exit(run_session(_options(ready, roles), work, say=say))


@tenant_app.command("create")
def tenant_create(
    name: Annotated[str, typer.Argument(help="What the tenant is called.")],
    time_zone: Annotated[str, typer.Option(help="IANA name, such as Africa/Nairobi; days are cut in it.")],
    currency: Annotated[str, typer.Option(help="ISO 4217 code of its usual currency, such as KES.")],
    tenant_id: Annotated[str | None, typer.Option("--id", help="Its id (default: made from the name).")] = None,
) -> None:
    """Create a tenant through the running stack's API and print its id."""
    from deploy.running_stack import create_tenant_on, running_stack, tenant_id_from

    chosen = tenant_id or tenant_id_from(name)
    asyncio.run(create_tenant_on(running_stack(), chosen, name=name, time_zone=time_zone, currency=currency))
    typer.echo(chosen)


@app.command()
def token(
    *,
    role: Annotated[
        list[str], typer.Option(help="operator, admin, finance, manager, driver, client or system; may be repeated.")
    ],
    tenant: Annotated[str, typer.Option(help="The tenant it is for (an operator's has none).")] = "demo",
    driver_id: Annotated[str | None, typer.Option(help="The driver, for the role driver.")] = None,
    client_id: Annotated[str | None, typer.Option(help="The client, for the role client.")] = None,
    fleet_id: Annotated[list[str] | None, typer.Option(help="A manager's fleet; may be repeated.")] = None,
    expires_in: Annotated[int, typer.Option(min=1, help="Seconds that it is valid.")] = 12 * 3600,
) -> None:
    """Print a development token for the local stack, and nothing else."""
    from deploy.tokens import TokenIssuer

    state = state_folder()
    if not TokenIssuer.has_key(state):
        raise StackError(f"no stack has run in {state} yet, so nothing would accept a token: run `make up` first")
    minted = TokenIssuer(state).mint(
        role,
        tenant_id=None if role == ["operator"] else tenant,
        driver_id=driver_id,
        client_id=client_id,
        fleet_ids=fleet_id,
        lifetime_seconds=expires_in,
    )
    typer.echo(minted)


@app.command()
def provision() -> None:
    """Create the databases and roles that the services' own *_DATABASE_URL settings name, as TAKINGS_POSTGRES_URL."""
    from deploy.databases import provision as create
    from deploy.environment import passwords_of_environment, required

    asyncio.run(create(required("TAKINGS_POSTGRES_URL"), passwords_of_environment()))


@app.command()
def migrate() -> None:
    """Bring the four databases up to date, as the owners that *_OWNER_DATABASE_URL name."""
    from deploy.environment import migrate_all

    migrate_all()


@app.command("compose-env")
def compose_env(
    file: Annotated[Path, typer.Option(help="The file; what it has already stays.")] = Path(".env"),
) -> None:
    """Write the secrets that docker-compose.yml needs; run again, it adds only what is missing."""
    from deploy.compose_env import write_compose_env

    added = write_compose_env(file)
    typer.echo(f"{file}: {len(added)} settings added" if added else f"{file}: nothing was missing", err=True)


def _options(ready: Path | None, roles: Roles) -> Any:
    from deploy.stack import StackOptions

    return StackOptions(state_folder(), ready=ready and ready.resolve(), split=roles is Roles.SPLIT)


if __name__ == "__main__":
    app()
