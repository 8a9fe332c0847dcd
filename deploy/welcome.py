"""What a stack says on the terminal: a line per step, and where everything is once it is up."""

import os
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

console = Console(highlight=False)


def say(line: str) -> None:
    """One line about what happens; a terminal that has gone away is no reason to stop."""
    try:
        console.print(f"[dim]takings:[/dim] {escape(line)}", soft_wrap=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - kept open for the rest of the run


def welcome(stack: dict[str, Any]) -> None:
    """Say where everything is and what to try."""
    console.print("\n[bold green]Takings is up.[/bold green] Ctrl-C stops it.\n")
    for name, service in stack["services"].items():
        console.print(
            f"  {name:<10} {service['url']}  [dim](API description: {service['url']}/openapi.json)[/dim]",
            soft_wrap=True,
        )
    console.print(f"  {'mail':<10} {stack['mail']['url']}")
    console.print(f"  {'kafka':<10} {stack['kafka']['bootstrap']}")
    place = stack["postgres"]["url"].rpartition("@")[2].partition("/")[0]
    console.print(f"  {'postgres':<10} {place}")
    console.print("\nA token for the tenant demo:  .venv/bin/takings token --role finance", soft_wrap=True)
    console.print("For another one, say that of a day played here:  --tenant ID\n", soft_wrap=True)
