"""Books that agree with what was sent, for tests to spoil one figure at a time."""

from collections import Counter
from dataclasses import replace
from typing import Any

from deploy.simulator.books import Alerts, Balances, Books, Listing, Revenue
from deploy.simulator.checks import Played
from deploy.simulator.expected import Expected, Line, high_value_from
from deploy.simulator.gateway import Sent
from deploy.simulator.generator import GeneratedTrips
from deploy.simulator.people import Paid


def expected_of(count: int = 300) -> Expected:
    expected = Expected(high_value_from("KES", 2))
    expected.add_all(GeneratedTrips(seed=11, count=count))
    return expected


def played_of(expected: Expected, **changes: Any) -> Played:
    sent = Sent(callbacks=210, repeats=10, forged=3, forged_refused=3)
    sent.answers = Counter(recorded=200, duplicate=10)
    paid = Paid(payouts=len(expected.due()), by_drivers=5, second_refused=True)
    played = Played(
        expected.requests + 2, {"negative amount": 2}, expected.requests, 60, sent, paid, {"payments in reporting": ""}
    )
    return replace(played, **changes)


def profits_of(expected: Expected) -> dict[str, int]:
    due, owing = sum(expected.due().values()), sum(expected.owing().values())
    revenue = expected.revenue.amount
    return {
        "revenue": revenue,
        "refunds": 0,
        "payouts_disbursed": due,
        "cash_held": expected.cash_held,
        "fees": expected.fees,
        "costs": 0,
        "net_profit": revenue - due - expected.cash_held - expected.fees,
        "payee_earnings": expected.earned,
        "commission_earned": expected.commission,
        "earned_profit": revenue - expected.earned - expected.fees,
        "owed_by_payees": owing,
        "owed_to_payees": 0,
        "count_payments": expected.revenue.count,
    }


def books_of(expected: Expected) -> Books:
    due, owing = expected.due(), expected.owing()
    payments = {"completed": expected.revenue, "failed": Line(5000, expected.failed)}
    payouts = {"disbursed": Line(sum(due.values()), len(due))}
    history = {f"payment {status}": line for status, line in payments.items()}
    history |= {f"payout {status}": line for status, line in payouts.items()}
    alerts = expected.failed + expected.high_value
    return Books(
        payments=Listing(payments),
        revenue=Revenue(
            expected.revenue,
            dict(expected.by_day),
            {name: dict(lines) for name, lines in expected.by.items()},
            dict.fromkeys(expected.by, expected.revenue),
        ),
        profits=profits_of(expected),
        payouts=Listing(payouts),
        paid_by_payee=dict(due),
        payouts_of=dict.fromkeys(due, 1),
        before=Balances(len(expected.payees), dict(due), dict(owing)),
        after=Balances(len(expected.payees), {}, dict(owing)),
        history=Listing(history),
        alerts=Alerts({"payment_failed": expected.failed, "high_value": expected.high_value}, alerts, alerts),
        samples={"nbo-11-000003": "completed"},
    )
