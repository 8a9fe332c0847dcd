"""`takings dlq`: look at dead letters, send them again after a mend, or drop them for a reason."""

# ruff: noqa: PLC0415 - as in deploy/cli.py, commands import what they need when they run

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.errors import StackError, WrongUse
from deploy.operations.commands import JsonOption
from shared.clocks import utc_now

if TYPE_CHECKING:
    from deploy.operations.dead_letters import Letter

REASON_WIDTH = 60

app = typer.Typer(help="Dead letters: records that a consumer could not apply.", no_args_is_help=True)
Topic = Annotated[str | None, typer.Option(help="Only those of this topic, such as payments.")]
Reason = Annotated[str | None, typer.Option(help="Only those whose reason contains this.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids as `takings dlq list` prints them.")]
All = Annotated[bool, typer.Option("--all", help="All that are open.")]


@app.command("list")
def list_letters(*, topic: Topic = None, reason: Reason = None, as_json: JsonOption = False) -> None:
    """List the letters about which nothing was decided, oldest first."""
    from deploy.operations.access import kafka_bootstrap
    from deploy.operations.dead_letters import open_letters

    letters = _filtered(asyncio.run(open_letters(kafka_bootstrap())), topic, reason)
    if as_json:
        typer.echo(json.dumps([asdict(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        typer.echo(f"{letter.id:<24} {letter.at[:19]:<19}  {letter.consumer:<18} {letter.reason[:REASON_WIDTH]}")
    typer.echo(f"{len(letters)} dead letters are open", err=True)


@app.command()
def show(letter_id: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Print one letter as JSON: where it comes from, why it is here, what it holds, what was decided."""
    from deploy.operations.access import kafka_bootstrap
    from deploy.operations.dead_letters import find_letter

    letter, content, decision = asyncio.run(find_letter(kafka_bootstrap(), letter_id))
    said = {name: getattr(decision, name) for name in ("decision", "at", "why")} if decision else None
    shown = asdict(letter) | {"key": _text(content.key), "value": _value(content.value), "decision": said}
    typer.echo(json.dumps(shown, indent=2, ensure_ascii=False, default=str))


@app.command("replay")
def replay_letters(ids: Ids = None, *, everything: All = False, topic: Topic = None, reason: Reason = None) -> None:
    """Send records to their topics again, after what was wrong is mended; what is still wrong comes back as a new letter."""
    from deploy.operations.access import kafka_bootstrap
    from deploy.operations.dead_letters import replay

    bootstrap = kafka_bootstrap()
    chosen = _chosen(bootstrap, ids, everything, topic, reason)
    records, letters = asyncio.run(replay(bootstrap, chosen, now=utc_now()))
    typer.echo(f"{records} records sent again, {letters} dead letters settled")
    if broken := [letter.id for letter in chosen if not letter.is_whole]:
        typer.echo(f"{len(broken)} hold no whole record, and can only be dropped: {' '.join(broken[:10])}", err=True)
        raise typer.Exit(1 if ids else 0)  # who names one has asked for more than what was done


@app.command("drop")
def drop_letters(
    ids: Ids = None,
    *,
    why: Annotated[str, typer.Option(help="The reason, kept with the decision.")],
    everything: All = False,
    topic: Topic = None,
    reason: Reason = None,
) -> None:
    """Settle letters without sending them anywhere."""
    from deploy.operations.access import kafka_bootstrap
    from deploy.operations.dead_letters import drop

    if not why.strip():
        raise WrongUse("--why: say why, whoever looks for the record will ask")
    bootstrap = kafka_bootstrap()
    chosen = _chosen(bootstrap, ids, everything, topic, reason)
    asyncio.run(drop(bootstrap, chosen, why=why, now=utc_now()))
    typer.echo(f"{len(chosen)} dead letters dropped")


def _chosen(
    bootstrap: str, ids: Sequence[str] | None, everything: bool, topic: str | None, reason: str | None
) -> "list[Letter]":
    from deploy.operations.dead_letters import open_letters

    if bool(ids) == bool(everything or topic or reason):
        raise WrongUse("name letters by their ids, or choose with --all, --topic or --reason")
    letters = asyncio.run(open_letters(bootstrap))
    if not ids:
        return _filtered(letters, topic, reason)
    by_id = {letter.id: letter for letter in letters}
    if unknown := [letter_id for letter_id in ids if letter_id not in by_id]:
        raise StackError(f"there is no open dead letter {', '.join(unknown)}")
    return [by_id[letter_id] for letter_id in dict.fromkeys(ids)]


def _filtered(letters: "Sequence[Letter]", topic: str | None, reason: str | None) -> "list[Letter]":
    return [each for each in letters if topic in {None, each.topic} and (reason is None or reason in each.reason)]


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="backslashreplace")


def _value(raw: bytes | None) -> Any:
    try:
        return json.loads(raw or b"")
    except (ValueError, RecursionError):
        return _text(raw)
