"""The end of the day: wait for the last payment everywhere, hold pay day, wait for the last payout, read the books."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from deploy.simulator.books import (
    Alerts,
    Balances,
    Books,
    Listing,
    read_alerts,
    read_balances,
    read_history,
    read_payments,
    read_payouts,
    read_profits,
    read_revenue,
    read_samples,
)
from deploy.simulator.expected import Expected
from deploy.simulator.people import Paid, pay_everybody
from deploy.simulator.settle import Arrival, until
from deploy.simulator.tenant import Stage
from shared.clocks import utc_now


@dataclass(slots=True)
class Waited:
    """What was waited for, and what never arrived of it ("" when all did); `say` is told each as it ends."""

    say: Callable[[str], None]
    missing: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, arrival: Arrival[Any]) -> None:
        """Keep and tell the end of one wait."""
        self.missing[what] = arrival.missing
        if arrival.missing:
            self.say(f"{what}: still missing after {arrival.seconds:.0f} s: {arrival.missing}")
        else:
            self.say(f"{what}: all there after {arrival.seconds:.1f} s")


async def settle_payments(stage: Stage, expected: Expected, waited: Waited) -> Balances:
    """Wait until reporting, payouts and alerts show every payment sent; the payees' balances as of then."""
    waited.note(
        "payments and earnings in reporting", await until(lambda: read_profits(stage), _payments_lack(expected))
    )
    balances = await until(lambda: read_balances(stage), _balances_lack(expected))
    waited.note("balances in payouts", balances)
    waited.note("alerts and their mails", await until(lambda: read_alerts(stage), _alerts_lack(expected)))
    return balances.reading


async def pay_and_settle(stage: Stage, before: Balances, waited: Waited) -> Paid:
    """Pay everybody what is available, and wait until reporting shows it."""
    paid = await pay_everybody(stage, before.available)
    payouts, _, _ = await read_payouts(stage)
    waited.note("payouts in reporting", await until(lambda: read_profits(stage), _payouts_lack(payouts)))
    return paid


async def read_books(
    stage: Stage, expected: Expected, before: Balances, waited: Waited, *, sample_ids: list[str]
) -> Books:
    """Read everything that the report and the checks need; `sample_ids` are requests to look at one by one."""
    payments = await read_payments(stage)
    payouts, paid_by_payee, payouts_of = await read_payouts(stage)
    first, last = _days(expected)
    # Pay day is now, and may be tomorrow already where the tenant lives.
    now = utc_now().date()
    whole = {"first": min(first, now), "last": max(last, now + timedelta(days=1))}
    history = await until(lambda: read_history(stage, **whole), _history_lack(payments, payouts))
    waited.note("entries in the history", history)
    return Books(
        payments=payments,
        revenue=await read_revenue(stage, first=first, last=last),
        profits=await read_profits(stage),
        payouts=payouts,
        paid_by_payee=paid_by_payee,
        payouts_of=payouts_of,
        before=before,
        after=await read_balances(stage),
        history=history.reading,
        alerts=await read_alerts(stage),
        samples=await read_samples(stage, sample_ids),
    )


def _days(expected: Expected) -> tuple[date, date]:
    days = sorted(date.fromisoformat(day) for day in expected.by_day)
    today = utc_now().date()
    return (days[0], days[-1]) if days else (today, today)


def _payments_lack(expected: Expected) -> Callable[[dict[str, int]], str]:
    wanted = {
        "count_payments": expected.revenue.count,
        "revenue": expected.revenue.amount,
        "payee_earnings": expected.earned,
        "commission_earned": expected.commission,
    }
    return lambda profits: _lack({name: profits.get(name, 0) for name in wanted}, wanted)


def _balances_lack(expected: Expected) -> Callable[[Balances], str]:
    wanted = {
        "payees": len(expected.payees),
        "to pay": sum(expected.due().values()),
        "owed": sum(expected.owing().values()),
    }

    def lack(read: Balances) -> str:
        to_pay, owed = sum(read.available.values()), sum(read.owed.values())
        return _lack({"payees": read.payees, "to pay": to_pay, "owed": owed}, wanted)

    return lack


def _alerts_lack(expected: Expected) -> Callable[[Alerts], str]:
    count = expected.failed + expected.high_value
    wanted = {"payment_failed": expected.failed, "high_value": expected.high_value, "mailed": count, "mails": count}

    def lack(read: Alerts) -> str:
        kinds = {kind: read.kinds.get(kind, 0) for kind in ("payment_failed", "high_value")}
        # A mail may come twice (at least once is what is promised), so more of them lack nothing.
        return _lack({**kinds, "mailed": read.mailed, "mails": min(read.mails, count)}, wanted)

    return lack


def _payouts_lack(payouts: Listing) -> Callable[[dict[str, int]], str]:
    wanted = {"payouts_disbursed": payouts.line("disbursed").amount, "owed_to_payees": 0}
    return lambda profits: _lack({name: profits.get(name, 0) for name in wanted}, wanted)


def _history_lack(payments: Listing, payouts: Listing) -> Callable[[Listing], str]:
    wanted = {f"payment {status}": line.count for status, line in payments.lines.items()}
    wanted |= {f"payout {status}": line.count for status, line in payouts.lines.items()}
    return lambda history: _lack({name: history.line(name).count for name in wanted}, wanted)


def _lack(read: dict[str, int], wanted: dict[str, int]) -> str:
    return "; ".join(f"{name} {read[name]:,} of {wanted[name]:,}" for name in wanted if read[name] != wanted[name])
