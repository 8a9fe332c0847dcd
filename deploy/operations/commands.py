"""The operator's commands on live data: prove it, rebuild it, measure lag, send events again. Safe while services run."""

# ruff: noqa: PLC0415 - like deploy/cli.py: a command imports what it needs when it runs

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.errors import StackError

if TYPE_CHECKING:
    from deploy.operations.rebuild.rebuilt import Rebuilt


class ReadModel(StrEnum):
    """What can be made anew from the events."""

    REPORTING = "reporting"
    ALERTS = "alerts"


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]


def add_operations(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(republish)
    app.command()(lag)
    app.command()(check)
    app.command()(rebuild)


def republish(
    service: Annotated[str, typer.Argument(help="payments (its events and the tenants') or payouts.")],
    since: Annotated[
        str | None, typer.Option(help="Only events written at this instant or later: RFC 3339, 2026-11-21T08:00+03:00.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Go on after this place (TENANT:NUMBER), as a run that failed has said.")
    ] = None,
) -> None:
    """Send a service's event log to its topics again. Readers skip what they know, so it is safe at any time."""
    from deploy.operations.republish_events import Position, republish

    start = Position.parse(after) if after is not None else None
    asyncio.run(republish(service, since=_instant(since), after=start, say=typer.echo))


def lag(*, json: JsonOption = False) -> None:
    """Say how far everything is behind: outboxes, consumers, callbacks, mails.

    The exit status is 1 when something has waited for more than a minute or for an unknown time, or the broker does not
    answer; else 0.
    """
    import msgspec

    from deploy.operations.measure_lag import Lag, database_clock, lines_of, measure_lag

    async def measure() -> Lag:
        return await measure_lag(now=await database_clock())

    measured = asyncio.run(measure())
    if json:
        typer.echo(msgspec.json.encode({**msgspec.structs.asdict(measured), "late": measured.late}).decode())
    else:
        typer.echo("\n".join(lines_of(measured)))
    raise typer.Exit(1 if measured.late else 0)


def check(*, json: JsonOption = False) -> None:
    """Prove on live data what must always hold, each database in one snapshot, and name the rows at fault.

    The exit status is 0 when all holds, 1 when something does not.
    """
    import msgspec

    from deploy.operations.check.run_checks import lines_of, run_checks

    outcomes = asyncio.run(run_checks())
    if json:
        held = all(outcome.is_held for outcome in outcomes)
        typer.echo(msgspec.json.encode({"held": held, "checks": outcomes}).decode())
    else:
        typer.echo("\n".join(lines_of(outcomes)))
    raise typer.Exit(0 if all(outcome.is_held for outcome in outcomes) else 1)


def rebuild(
    read_model: Annotated[ReadModel, typer.Argument(help="reporting, or alerts (what was raised; no mail is sent).")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only compare; status 1 when the live one is wrong.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Swap also when the new one lacks rows of the live one.")
    ] = False,
) -> None:
    """Build a read model anew from the event logs beside the live one, compare, and swap them without a gap.

    Safe while the services run, and when it is killed: the next run begins anew. New tables that lack rows of the live ones
    are not put in place: it names the rows, and the exit status is 1.
    """
    rebuilt = asyncio.run(_rebuild_of(read_model)(dry_run=dry_run, force=force, say=typer.echo))
    for line in rebuilt.lines():
        typer.echo(line)
    raise typer.Exit(0 if rebuilt.is_swapped or not rebuilt.differences.total else 1)


def _rebuild_of(read_model: ReadModel) -> "Callable[..., Coroutine[Any, Any, Rebuilt]]":
    if read_model is ReadModel.REPORTING:
        from deploy.operations.rebuild.reporting import rebuild_reporting

        return rebuild_reporting
    from deploy.operations.rebuild.alerts import rebuild_alerts

    return rebuild_alerts


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    from shared.fields import plausible

    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:  # else: whose time it would be is not for us to guess
            return plausible(instant)
    except ValueError:
        pass
    raise StackError(f"{text!r} is no instant between 2000 and 2100: give one like 2026-11-21T08:00:00+03:00")
