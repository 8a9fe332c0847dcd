"""Whether work costs more once many payments are there: rounds on empty and on full tables, by turns."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

from bench import backlog
from bench.backlog import Drained
from bench.fill import FILL_ALERTS, FILL_PAYMENTS, FILL_PAYOUTS, FILL_REPORTING, fill
from bench.ingest import CLIENTS, PAYMENTS, WARM_UP, send_round
from bench.options import Options
from bench.place import Place
from bench.result import Result, ratio_at_least

KEPT = 0.85
ROUNDS = 5  # at least: one differs from the next by a tenth
EVENTS = 120_000  # a round
EMPTY, FULL = "{}", "{}_full"  # databases, by the names of their services
FILLS = {"payouts": FILL_PAYOUTS, "reporting": FILL_REPORTING, "alerts": FILL_ALERTS}
Measured = TypeVar("Measured")


def ingest(place: Place, options: Options) -> list[Result]:
    """Row `growth-ingest`; only the service that is measured runs."""
    with place.service("payments") as payments:
        place.create_tenant(payments)
        account = place.open_account(payments)
    _full(place, "payments", FILL_PAYMENTS, options)

    def rate(round_number: int, databases: str) -> float:
        with place.service("payments", database=databases.format("payments")) as payments:
            send_round(place, payments, account, f"w{round_number}", WARM_UP, connections=CLIENTS)
            return send_round(place, payments, account, f"r{round_number}", PAYMENTS, connections=CLIENTS)[0].per_s

    return [_row("growth-ingest", _by_turns(rate, options), options)]


def consume(place: Place, options: Options) -> list[Result]:
    """Rows `growth-payouts`, `growth-reporting` and `growth-alerts`."""
    backlog.prepare(place)
    for name, statements in FILLS.items():
        _full(place, name, statements, options)

    def drained(_round: int, databases: str) -> dict[str, Drained]:
        return backlog.drain(place, events=EVENTS, databases=databases)

    rounds = _by_turns(drained, options)
    return [
        _row(f"growth-{name}", [(empty[name].per_s, full[name].per_s) for empty, full in rounds], options)
        for name in FILLS
    ]


def _by_turns(measure: Callable[[int, str], Measured], options: Options) -> list[tuple[Measured, Measured]]:
    """What is measured on empty and on full tables in each round; neither is always the first."""
    rounds = []
    for number in range(max(options.rounds, ROUNDS)):
        measured = {databases: measure(number, databases) for databases in (EMPTY, FULL)[:: 1 - 2 * (number % 2)]}
        rounds.append((measured[EMPTY], measured[FULL]))
    return rounds


def _full(place: Place, name: str, statements: dict[str, str], options: Options) -> str:
    database = FULL.format(name)
    place.copy_database(name, database)
    fill(place, database, statements, payments=options.payments)
    return database


def _row(name: str, rates: Sequence[tuple[float, float]], options: Options) -> Result:
    """`rates`: on empty and on full tables, of each round."""
    return ratio_at_least(
        name, [full / empty for empty, full in rates], KEPT, payments=options.payments,
        empty_per_s=round(median(empty for empty, _ in rates)), full_per_s=round(median(full for _, full in rates)),
    )  # fmt: skip
