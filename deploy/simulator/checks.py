"""The checks: what the services' books show against what was sent, and against themselves. Pure functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.simulator.books import Books
from deploy.simulator.expected import GROUPINGS, Expected, Line
from deploy.simulator.gateway import Sent
from deploy.simulator.people import Paid

NAMED_DIFFERENCES = 3  # how many differing keys a detail names


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about the run, whether it held, and the figures behind it."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Played:
    """What was done and acknowledged: rows, requests, cash, callbacks, payouts; `missing`: as closing.Waited."""

    read: int
    rejected: Mapping[str, int]
    registered: int
    cash: int
    sent: Sent
    paid: Paid
    missing: Mapping[str, str] = field(default_factory=dict)  # what was waited for -> what lacks ("": nothing)


def check_run(played: Played, expected: Expected, books: Books) -> list[Check]:
    """Every check of a run, in the order of the report."""
    return [
        *(Check(f"arrived: {what}", not lack, lack or "all of it") for what, lack in played.missing.items()),
        *_check_trips(played, expected, books),
        *_check_payments(played, expected, books),
        *_check_revenue(expected, books),
        *_check_earnings(expected, books),
        *_check_payouts(played, expected, books),
        *_check_profits(expected, books.profits),
        *_check_alerts(expected, books),
        *_check_history(books),
    ]


def _check_trips(played: Played, expected: Expected, books: Books) -> Iterable[Check]:
    rejected = sum(played.rejected.values())
    yield _equal("every row is a request or was rejected", played.registered + rejected, played.read)
    yield _equal("requests registered", played.registered, expected.requests)
    unpaid = sorted(name for name, status in books.samples.items() if status != "completed")
    yield Check(
        "requests looked at are completed (nothing due, or paid before they were registered)",
        not unpaid,
        f"{len(books.samples)} looked at" + (f"; not completed: {', '.join(unpaid)}" if unpaid else ""),
    )


def _check_payments(played: Played, expected: Expected, books: Books) -> Iterable[Check]:
    sent, payments = played.sent, books.payments
    yield _equal("payments completed, count", payments.line("completed").count, expected.revenue.count)
    yield _equal("payments completed, sum", payments.line("completed").amount, expected.revenue.amount)
    yield _equal("payments failed, count", payments.line("failed").count, expected.failed)
    yield _equal("payments in any other state", len(payments.lines.keys() - {"completed", "failed"}), 0)
    yield _equal("payments listed twice", payments.repeated_ids, 0)
    yield _equal("callbacks answered", sum(sent.answers.values()), sent.callbacks)
    # A callback retried after a lost answer is a repeat too; without retries the count is exact.
    duplicates = sent.answers["duplicate"]
    span = f"{sent.repeats}" if not sent.resent else f"{sent.repeats} to {sent.repeats + sent.resent}"
    exact = sent.repeats <= duplicates + sent.answers["stored"] and duplicates <= sent.repeats + sent.resent
    yield Check("repeated and late callbacks had no effect", exact, f"{duplicates} refused as duplicates, {span} sent")
    yield _equal("forged callbacks refused with 401", sent.forged_refused, sent.forged)


def _check_revenue(expected: Expected, books: Books) -> Iterable[Check]:
    revenue = books.revenue
    yield _equal("revenue", revenue.total, expected.revenue)
    yield _equal("revenue of these days is that of all time", books.profits["revenue"], revenue.total.amount)
    yield _equal("payments of these days are those of all time", books.profits["count_payments"], revenue.total.count)
    yield _same("revenue by day", revenue.by_day, expected.by_day)
    for grouping in GROUPINGS:
        yield _same(f"revenue by {grouping}", revenue.by.get(grouping, {}), expected.by[grouping])
    sums = {"day": _sum(revenue.by_day.values())} | {name: _sum(lines.values()) for name, lines in revenue.by.items()}
    sums |= {f"{name} (its total)": line for name, line in revenue.totals.items()}
    odd = [f"{name}: {_show(line)}" for name, line in sums.items() if line != revenue.total]
    detail = "; ".join(odd) or f"{len(revenue.by) + 1} groupings, {_show(revenue.total)} each"
    yield Check("every grouping of the revenue has the same sum", not odd and len(revenue.by) == len(GROUPINGS), detail)


def _check_earnings(expected: Expected, books: Books) -> Iterable[Check]:
    profits = books.profits
    yield _equal("payees' earnings", profits["payee_earnings"], expected.earned)
    yield _equal("commission, rounded half up per trip", profits["commission_earned"], expected.commission)
    yield _equal("cash held by payees", profits["cash_held"], expected.cash_held)
    yield _equal("gateway fees", profits["fees"], expected.fees)
    yield _equal("payees with a balance sheet", books.before.payees, len(expected.payees))
    yield _same("balance of each payee before pay day: to get", books.before.available, expected.due())
    yield _same("balance of each payee before pay day: owing", books.before.owed, expected.owing())


def _check_payouts(played: Played, expected: Expected, books: Books) -> Iterable[Check]:
    due = expected.due()
    yield _same("each payee was paid what was due", books.paid_by_payee, due)
    yield _equal("payouts disbursed", books.payouts.line("disbursed"), Line(sum(due.values()), len(due)))
    yield _equal("payouts in any other state", len(books.payouts.lines.keys() - {"disbursed"}), 0)
    twice = sum(count > 1 for count in books.payouts_of.values())
    yield _equal("payees with more than one payout", twice, 0)
    if played.paid.second_refused is not None:
        yield Check(
            "a driver with nothing left is refused", played.paid.second_refused, "asked twice; the second is a 409"
        )
    left = sum(books.after.available.values()) + books.after.locked
    yield _equal("nothing is left to pay, nothing is locked", left, 0)
    yield _same("what payees owe stays owed", books.after.owed, expected.owing())


def _check_profits(expected: Expected, profits: Mapping[str, int]) -> Iterable[Check]:
    p = profits
    yield _equal("payouts in the profits report", p["payouts_disbursed"], sum(expected.due().values()))
    net = p["revenue"] - p["refunds"] - p["payouts_disbursed"] - p["cash_held"] - p["fees"] - p["costs"]
    yield _equal("net profit = revenue - refunds - payouts - cash held - fees - costs", p["net_profit"], net)
    earned = p["revenue"] - p["refunds"] - p["payee_earnings"] - p["fees"] - p["costs"]
    yield _equal("earned profit = revenue - refunds - payees' earnings - fees - costs", p["earned_profit"], earned)
    between = p["owed_by_payees"] - p["owed_to_payees"]
    yield _equal(
        "earned profit - net profit = owed by payees - owed to payees", p["earned_profit"] - p["net_profit"], between
    )
    yield _equal("owed by payees", p["owed_by_payees"], sum(expected.owing().values()))
    yield _equal("owed to payees", p["owed_to_payees"], 0)


def _check_alerts(expected: Expected, books: Books) -> Iterable[Check]:
    alerts = books.alerts
    yield _equal("alerts: failed payments", alerts.kinds.get("payment_failed", 0), expected.failed)
    yield _equal("alerts: high values", alerts.kinds.get("high_value", 0), expected.high_value)
    yield _equal("alerts of no other kind", alerts.count, expected.failed + expected.high_value)
    mailed = alerts.mailed == alerts.count and alerts.mails >= alerts.count
    yield Check(
        "every alert was mailed", mailed, f"{alerts.count} alerts, {alerts.mailed} marked sent, {alerts.mails} mails"
    )


def _check_history(books: Books) -> Iterable[Check]:
    listed = {f"payment {status}": line for status, line in books.payments.lines.items()}
    listed |= {f"payout {status}": line for status, line in books.payouts.lines.items()}
    yield _same("the history has every payment and payout", books.history.lines, listed)
    yield _equal("entries of the history listed twice", books.history.repeated_ids, 0)


def _equal(name: str, read: int | Line, sent: int | Line) -> Check:
    ok = read == sent
    return Check(name, ok, _show(read) if ok else f"read {_show(read)}, must be {_show(sent)}")


def _same(name: str, read: Mapping[str, Any], sent: Mapping[str, Any]) -> Check:
    """Equal key by key; the detail counts the keys, or names the first that differ."""
    wrong = sorted(key for key in read.keys() | sent.keys() if read.get(key) != sent.get(key))
    if not wrong:
        return Check(name, True, f"{len(sent):,} of {len(sent):,} equal")
    shown = [
        f"{key[:40]}: read {_show(read.get(key))}, must be {_show(sent.get(key))}" for key in wrong[:NAMED_DIFFERENCES]
    ]
    more = f"; and {len(wrong) - len(shown):,} more" if len(wrong) > len(shown) else ""
    return Check(name, False, "; ".join(shown) + more)


def _sum(lines: Iterable[Line]) -> Line:
    amount = count = 0
    for line in lines:
        amount, count = amount + line.amount, count + line.count
    return Line(amount, count)


def _show(value: int | Line | None) -> str:
    if isinstance(value, Line):
        return f"{value.amount:,} in {value.count:,}"
    return "nothing" if value is None else f"{value:,}"
