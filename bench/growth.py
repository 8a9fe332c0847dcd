"""Whether work costs more once many payments are there: rounds on empty and on full tables, by turns."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

from bench import backlog
from bench.fill import FILL_ALERTS, FILL_PAYMENTS, FILL_PAYOUTS, FILL_REPORTING, fill
from bench.ingest import CLIENTS, PAYMENTS, WARM_UP, send_round
from bench.options import Options
from bench.place import Place
from bench.processes import Round, middle
from bench.result import Result, ratio_at_least

KEPT = 0.85
ROUNDS = 5  # at least: one differs from the next by a tenth
EVENTS = 240_000  # a round: the fastest takes some seconds
EMPTY, FULL = "{}", "{}_full"  # databases, by the names of their services
Measured = TypeVar("Measured")


def ingest(place: Place, options: Options) -> list[Result]:
    """Row `growth-ingest`; only the service that is measured runs."""
    with place.service("payments") as payments:
        place.create_tenant(payments)
        account = place.open_account(payments)
    _full(place, "payments", FILL_PAYMENTS, options)

    def sent(round_number: int, databases: str) -> Round:
        with place.service("payments", database=databases.format("payments")) as payments:
            send_round(place, payments, account, f"w{round_number}", WARM_UP, connections=CLIENTS)
            outcome, cpu = send_round(place, payments, account, f"r{round_number}", PAYMENTS, connections=CLIENTS)
            return Round(outcome.per_s, cpu.per_item_us(PAYMENTS))

    return [_row("growth-ingest", _by_turns(sent, options), options)]


def earnings(place: Place, options: Options) -> list[Result]:
    """Rows `growth-payouts` and `growth-reporting`, which reads what payouts has published."""
    return _consume(place, options, {"payouts": FILL_PAYOUTS, "reporting": FILL_REPORTING})


def alerts(place: Place, options: Options) -> list[Result]:
    """Row `growth-alerts`."""
    return _consume(place, options, {"alerts": FILL_ALERTS})


def _consume(place: Place, options: Options, fills: dict[str, dict[str, str]]) -> list[Result]:
    backlog.prepare(place)
    for name, statements in fills.items():
        _full(place, name, statements, options)

    def drained(_round: int, databases: str) -> dict[str, Round]:
        return backlog.drain(place, fills, events=EVENTS, databases=databases)

    rounds = _by_turns(drained, options)
    return [_row(f"growth-{name}", [(empty[name], full[name]) for empty, full in rounds], options) for name in fills]


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


def _row(name: str, rounds: Sequence[tuple[Round, Round]], options: Options) -> Result:
    """`rounds`: on empty and on full tables."""
    empty, full = zip(*rounds, strict=True)
    return ratio_at_least(
        name, [after.per_s / before.per_s for before, after in rounds], KEPT, payments=options.payments,
        empty_per_s=round(median(each.per_s for each in empty)), full_per_s=round(median(each.per_s for each in full)),
        empty_cpu_us=middle([each.cpu_us for each in empty]), full_cpu_us=middle([each.cpu_us for each in full]),
    )  # fmt: skip
