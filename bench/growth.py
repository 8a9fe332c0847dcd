"""Whether work costs more once many payments are there: the same rounds on empty tables and on full ones."""

from statistics import median

from bench import backlog
from bench.fill import FILL_ALERTS, FILL_PAYMENTS, FILL_PAYOUTS, FILL_REPORTING, fill
from bench.ingest import CLIENTS, PAYMENTS, WARM_UP, send_round
from bench.options import Options
from bench.place import Place
from bench.result import Result, ratio_at_least

KEPT = 0.85
FILLS = {"payouts": FILL_PAYOUTS, "reporting": FILL_REPORTING, "alerts": FILL_ALERTS}


def ingest(place: Place, options: Options) -> list[Result]:
    """Row `growth-ingest`."""
    rates: dict[str, float] = {}
    with place.service("payments") as payments:
        place.create_tenant(payments)
        account = place.open_account(payments)
        send_round(place, payments, account, "warm", WARM_UP, connections=CLIENTS)
        for state in ("empty", "full"):
            if state == "full":
                fill(place, "payments", FILL_PAYMENTS, payments=options.payments)
            rates[state] = median(
                send_round(place, payments, account, f"{state}{n}", PAYMENTS, connections=CLIENTS)[0].per_s
                for n in range(options.rounds)
            )
    return [_row("growth-ingest", rates, options.payments)]


def consume(place: Place, options: Options) -> list[Result]:
    """Rows `growth-payouts`, `growth-reporting` and `growth-alerts`."""
    backlog.prepare(place)
    empty = backlog.measure(place, options.rounds)
    for name, statements in FILLS.items():
        fill(place, name, statements, payments=options.payments)
    full = backlog.measure(place, options.rounds)
    return [
        _row(f"growth-{name}", {"empty": median(empty[name].rates), "full": median(full[name].rates)}, options.payments)
        for name in FILLS
    ]


def _row(name: str, rates: dict[str, float], payments: int) -> Result:
    shown = {f"{state}_per_s": round(rate) for state, rate in rates.items()}
    return ratio_at_least(name, [rates["full"] / rates["empty"]], KEPT, payments=payments, **shown)
