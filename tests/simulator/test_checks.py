"""The checks hold on books that agree with what was sent, and each of them can fail."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from deploy.simulator.books import Books
from deploy.simulator.checks import Played, check_run
from deploy.simulator.expected import Expected, Line
from deploy.simulator.gateway import Sent
from tests.simulator.ledger import books_of, expected_of, played_of


def failed(played: Played, expected: Expected, books: Books) -> set[str]:
    return {check.name for check in check_run(played, expected, books) if not check.ok}


def profits(**changes: int) -> Callable[[Books], Books]:
    """Each figure moved by so much."""
    return lambda books: replace(
        books, profits={name: value + changes.get(name, 0) for name, value in books.profits.items()}
    )


def part(name: str, **changes: Any) -> Callable[[Books], Books]:
    """One part of the books with some of its fields replaced; a callable is applied to the field."""

    def spoil(books: Books) -> Books:
        old = getattr(books, name)
        new = {key: value(getattr(old, key)) if callable(value) else value for key, value in changes.items()}
        return replace(books, **{name: replace(old, **new)})

    return spoil


def moved(lines: dict[str, Any]) -> dict[str, Any]:
    """One unit taken from the first key and given to the last: the sum stays."""
    first, last = min(lines), max(lines)
    one = (
        (lambda line, by: Line(line.amount + by, line.count))
        if isinstance(lines[first], Line)
        else (lambda n, by: n + by)
    )
    return lines | {first: one(lines[first], -1), last: one(lines[last], 1)}


def one_more(line: Line) -> Line:
    return Line(line.amount, line.count + 1)


def test_all_checks_hold_on_equal_books() -> None:
    expected = expected_of()
    checks = check_run(played_of(expected), expected, books_of(expected))
    assert [check for check in checks if not check.ok] == []
    assert len({check.name for check in checks}) == len(checks) > 40
    assert all(check.detail for check in checks)


SPOILED: list[tuple[str, Callable[[Books], Books]]] = [
    (
        "payments completed, count",
        part("payments", lines=lambda lines: lines | {"completed": one_more(lines["completed"])}),
    ),
    (
        "payments completed, sum",
        part("payments", lines=lambda lines: lines | {"completed": Line(1, lines["completed"].count)}),
    ),
    ("payments failed, count", part("payments", lines=lambda lines: {"completed": lines["completed"]})),
    ("payments in any other state", part("payments", lines=lambda lines: lines | {"pending": Line(1, 1)})),
    ("payments listed twice", part("payments", repeated_ids=1)),
    ("revenue", part("revenue", total=one_more)),
    ("revenue of these days is that of all time", profits(revenue=1)),
    ("payments of these days are those of all time", profits(count_payments=1)),
    ("revenue by day", part("revenue", by_day=lambda days: {"2026-03-03": days["2026-03-02"]})),
    ("revenue by fleet", part("revenue", by=lambda by: by | {"fleet": moved(by["fleet"])})),
    ("revenue by payee", part("revenue", by=lambda by: by | {"payee": moved(by["payee"])})),
    (
        "every grouping of the revenue has the same sum",
        part("revenue", by=lambda by: by | {"method": {"cash": Line(1, 1)}}),
    ),
    (
        "every grouping of the revenue has the same sum",
        part("revenue", totals=lambda totals: totals | {"fleet": Line(1, 1)}),
    ),
    ("payees' earnings", profits(payee_earnings=-1)),
    ("commission, rounded half up per trip", profits(commission_earned=1)),
    ("cash held by payees", profits(cash_held=1)),
    ("gateway fees", profits(fees=1)),
    ("balance of each payee before pay day: to get", part("before", available=moved)),
    ("balance of each payee before pay day: owing", part("before", owed={})),
    ("each payee was paid what was due", lambda books: replace(books, paid_by_payee=moved(books.paid_by_payee))),
    ("payouts disbursed", part("payouts", lines=lambda lines: {"disbursed": one_more(lines["disbursed"])})),
    ("payouts in any other state", part("payouts", lines=lambda lines: lines | {"approved": Line(1, 1)})),
    ("payees with more than one payout", lambda books: replace(books, payouts_of={"driver-0001": 2})),
    ("nothing is left to pay, nothing is locked", part("after", locked=1)),
    ("nothing is left to pay, nothing is locked", part("after", available={"driver-0001": 1})),
    ("what payees owe stays owed", part("after", owed={})),
    ("payouts in the profits report", profits(payouts_disbursed=1)),
    ("net profit = revenue - refunds - payouts - cash held - fees - costs", profits(net_profit=1)),
    ("earned profit = revenue - refunds - payees' earnings - fees - costs", profits(earned_profit=1)),
    ("earned profit - net profit = owed by payees - owed to payees", profits(owed_by_payees=1)),
    ("owed by payees", profits(owed_by_payees=1)),
    ("owed to payees", profits(owed_to_payees=1)),
    ("alerts: failed payments", part("alerts", kinds=lambda kinds: kinds | {"payment_failed": 0})),
    ("alerts: high values", part("alerts", kinds=lambda kinds: kinds | {"high_value": 99})),
    ("alerts of no other kind", part("alerts", kinds=lambda kinds: kinds | {"payout_failed": 1})),
    ("every alert was mailed", part("alerts", mails=0)),
    ("every alert was mailed", part("alerts", mailed=0)),
    ("the history has every payment and payout", part("history", lines=lambda lines: dict(list(lines.items())[:1]))),
    ("entries of the history listed twice", part("history", repeated_ids=2)),
    (
        "requests looked at are completed (nothing due, or paid before they were registered)",
        lambda books: replace(books, samples={"T1": "pending_payment"}),
    ),
]


@pytest.mark.parametrize(("name", "spoil"), SPOILED, ids=[f"{n}: {name[:40]}" for n, (name, _) in enumerate(SPOILED)])
def test_a_wrong_figure_in_the_books_fails_its_check(name: str, spoil: Callable[[Books], Books]) -> None:
    expected = expected_of()
    books = books_of(expected)
    assert name in failed(played_of(expected), expected, spoil(books))


def test_what_was_played_is_checked_too() -> None:
    expected = expected_of()
    books = books_of(expected)
    paid = played_of(expected).paid
    answers = Counter(recorded=201, duplicate=9)  # one repeat was taken for money
    believed = Sent(callbacks=210, repeats=10, forged=3, forged_refused=3, answers=answers)
    spoiled: dict[str, Played] = {
        "every row is a request or was rejected": played_of(expected, read=1),
        "requests registered": played_of(expected, registered=expected.requests - 1),
        "repeated and late callbacks had no effect": played_of(expected, sent=believed),
        "callbacks answered": played_of(expected, sent=replace(believed, callbacks=211)),
        "forged callbacks refused with 401": played_of(expected, sent=replace(believed, forged_refused=2)),
        "a driver with nothing left is refused": played_of(expected, paid=replace(paid, second_refused=False)),
        "arrived: payments": played_of(expected, missing={"payments": "revenue 1 of 2"}),
    }
    for name, played in spoiled.items():
        assert name in failed(played, expected, books)


def test_a_trip_that_was_not_sent_is_noticed_nearly_everywhere() -> None:
    expected = expected_of()
    books = books_of(expected)
    short = expected_of(299)
    assert {"revenue", "revenue by day", "revenue by fleet", "payees' earnings"} <= failed(
        played_of(expected), short, books
    )


def test_a_failed_check_names_the_keys_that_differ() -> None:
    expected = expected_of()
    books = books_of(expected)
    fleets = moved(books.revenue.by["fleet"])
    spoiled = replace(books, revenue=replace(books.revenue, by=books.revenue.by | {"fleet": fleets}))
    (detail,) = [c.detail for c in check_run(played_of(expected), expected, spoiled) if c.name == "revenue by fleet"]
    assert min(fleets) in detail
    assert "must be" in detail


def test_a_retried_callback_widens_the_count_of_duplicates_by_just_that() -> None:
    expected = expected_of()
    name = "repeated and late callbacks had no effect"
    for duplicates, holds in ((10, True), (12, True), (13, False), (9, False)):
        sent = Sent(callbacks=210, repeats=10, resent=2, forged=3, forged_refused=3)
        sent.answers = Counter(recorded=210 - duplicates, duplicate=duplicates)
        assert (name not in failed(played_of(expected, sent=sent), expected, books_of(expected))) is holds
