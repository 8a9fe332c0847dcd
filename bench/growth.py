"""Whether work costs more once many payments are there: rounds on empty and on full tables, by turns."""

from collections.abc import Sequence
from statistics import median

from bench import backlog
from bench.fill import FILL_ALERTS, FILL_PAYMENTS, FILL_PAYOUTS, FILL_REPORTING, fill
from bench.ingest import CLIENTS, PAYMENTS, WARM_UP, send_round
from bench.options import Options
from bench.place import Place
from bench.result import Result, ratio_at_least

KEPT = 0.85
FULL = "{}_full"
FILLS = {"payouts": FILL_PAYOUTS, "reporting": FILL_REPORTING, "alerts": FILL_ALERTS}


def ingest(place: Place, options: Options) -> list[Result]:
    """Row `growth-ingest`."""
    with place.service("payments") as payments:
        place.create_tenant(payments)
        account = place.open_account(payments)
    database = _full(place, "payments", FILL_PAYMENTS, options)
    rates: list[tuple[float, float]] = []
    with place.service("payments") as empty, place.service("payments", database=database) as full:
        for state in (empty, full):
            send_round(place, state, account, "warm", WARM_UP, connections=CLIENTS)
        for number in range(options.rounds):
            on_empty, on_full = (
                send_round(place, state, account, f"r{number}", PAYMENTS, connections=CLIENTS)[0].per_s
                for state in (empty, full)
            )
            rates.append((on_empty, on_full))
    return [_row("growth-ingest", rates, options)]


def consume(place: Place, options: Options) -> list[Result]:
    """Rows `growth-payouts`, `growth-reporting` and `growth-alerts`."""
    backlog.prepare(place)
    for name, statements in FILLS.items():
        _full(place, name, statements, options)
    rounds = [(backlog.drain(place), backlog.drain(place, databases=FULL)) for _ in range(options.rounds)]
    return [
        _row(f"growth-{name}", [(empty[name].per_s, full[name].per_s) for empty, full in rounds], options)
        for name in FILLS
    ]


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
