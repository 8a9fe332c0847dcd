"""The run on the screen: a progress bar while it goes, the report when it is done."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from deploy.simulator.checks import Check
from shared.money import format_number

TOP = 10  # groups shown of each grouping
LINE_EVERY_PERCENT = 10  # without a terminal


class DayProgress:
    """A bar on a terminal, else a line at each tenth of the way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._percent = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(40), TextColumn("{task.percentage:>3.0f} %"))
            counts = TextColumn("{task.fields[trips]:,} trips")
            # Four frames a second: the bar shares its processors with the services it watches.
            self._bar = Progress(*columns, counts, TimeElapsedColumn(), console=self._console, refresh_per_second=4)
            self._task = self._bar.add_task("Trips being paid", total=100, trips=0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, fraction: float, trips: int) -> None:
        """Show the fraction done (0 to 1) and the trips registered; batches end out of order, the display does not."""
        percent = max(self._percent, int(fraction * 100))
        if self._bar is not None:
            self._bar.update(self._task, completed=percent, trips=trips)
        elif percent // LINE_EVERY_PERCENT > self._percent // LINE_EVERY_PERCENT:
            self._console.print(f"  {percent:3d} %  {trips:,} trips registered and paid", highlight=False)
        self._percent = percent


def print_report(console: Console, report: dict[str, Any], *, title: str, currency: str) -> None:
    """Print the report of report.build_report as tables, the checks last."""
    console.print()
    console.print(
        Panel.fit(f"[bold]{title}[/]\nEverything below was read from the services' APIs.", border_style="cyan")
    )
    trips, payments, alerts = report["trips"], report["payments"], report["alerts"]
    rejected = [(f"rejected: {entry['reason']}", entry["count"]) for entry in trips["rejected"]]
    counts = [
        ("trips read", trips["read"]),
        ("requests registered", trips["requests"]),
        ("nothing due", trips["nothing_due"]),
    ]
    counts += [*rejected, ("payments completed", payments["completed"]), ("payments failed", payments["failed"])]
    counts += [("repeated callbacks refused", payments["duplicates_refused"])]
    counts += [("forged callbacks refused", payments["forged_refused"])]
    counts += [("alerts: failed payments", alerts["payment_failed"]), ("alerts: high values", alerts["high_value"])]
    counts += [("mails to the finance officer", alerts["mails"])]
    _print_pairs(console, "The day", [(name, f"{count:,}") for name, count in counts])
    for grouping in ("day", "method", "fleet"):
        _print_lines(console, grouping, report["revenue"], currency=currency)
    profits, payouts = report["profits"], report["payouts"]
    books = [
        (name.replace("_", " "), format_number(value, currency))
        for name, value in profits.items()
        if name != "count_payments"
    ]
    _print_pairs(console, f"The books ({currency})", books)
    people = [
        ("payees paid", f"{payouts['payees_paid']:,}"),
        ("payouts disbursed", format_number(payouts["disbursed"], currency)),
    ]
    people += [
        ("payees owing", f"{payouts['payees_owing']:,}"),
        ("owed by them", format_number(payouts["owed"], currency)),
    ]
    _print_pairs(console, f"Pay day ({currency})", people)
    print_checks(console, [Check(**check) for check in report["checks"]])
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in report["seconds"].items())
    console.print(Text(f"Time: {seconds}", style="dim"))


def print_checks(console: Console, checks: Iterable[Check]) -> None:
    """Print each check with its tick or cross and figures, and how many held."""
    checks = list(checks)
    table = Table(title="Checks", title_justify="left", box=None, show_header=False, padding=(0, 1))
    for check in checks:
        mark = Text("✓", style="green") if check.ok else Text("✗", style="bold red")
        table.add_row(mark, Text(check.name), Text(check.detail, style="dim" if check.ok else "red"))
    console.print(table)
    failed = sum(not check.ok for check in checks)
    if failed:
        console.print(Text(f"{failed} of {len(checks)} checks FAILED", style="bold red"))
    else:
        console.print(Text(f"All {len(checks)} checks held.", style="bold green"))


def _print_pairs(console: Console, title: str, pairs: list[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2))
    table.add_column(min_width=34)
    table.add_column(justify="right", min_width=16)
    for name, value in pairs:
        table.add_row(Text(name), Text(value))
    console.print(table)
    console.print()


def _print_lines(console: Console, grouping: str, revenue: dict[str, Any], *, currency: str) -> None:
    table = Table(title=f"Revenue by {grouping}", title_justify="left", box=None, padding=(0, 2), show_footer=True)
    table.add_column(grouping, "all", min_width=34, max_width=34, no_wrap=True)
    table.add_column("payments", f"{revenue['count']:,}", justify="right")
    table.add_column(currency, format_number(revenue["total"], currency), justify="right", min_width=16)
    lines = revenue[f"by_{grouping}"]
    if grouping == "day":
        ordered = list(lines.items())
    else:
        ordered = sorted(lines.items(), key=lambda item: (-item[1]["amount"], item[0]))
    for key, line in ordered[:TOP]:
        table.add_row(Text(key), f"{line['count']:,}", format_number(line["amount"], currency))
    if len(ordered) > TOP:
        table.add_row(Text(f"… and {len(ordered) - TOP:,} more", style="dim"), "", "")
    console.print(table)
    console.print()
