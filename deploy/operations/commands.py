"""The operator's commands on live data: send events again. Each is safe while the services run."""

# ruff: noqa: PLC0415 - like deploy/cli.py: a command imports what it needs when it runs

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from deploy.errors import StackError


def add_operations(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(republish)


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

    start = Position.parse(after) if after else None
    asyncio.run(republish(service, since=_instant(since), after=start, say=typer.echo))


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise StackError(f"{text!r} is no instant: give one like 2026-11-21T08:00:00+03:00") from None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
