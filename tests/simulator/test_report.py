"""The report: the JSON document has the promised shape, and people can read the printed one."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from deploy.simulator.checks import Check, check_run
from deploy.simulator.report import build_report, write_report
from deploy.simulator.screen import DayProgress, print_report
from shared.money import format_number
from tests.simulator.ledger import books_of, expected_of, played_of

SECONDS = {"setup": 0.5, "ingest": 3.25, "settle": 1.0, "payouts": 0.75, "total": 5.5}
SHAPE = {
    "trips": {"read", "requests", "nothing_due", "rejected"},
    "payments": {"completed", "failed", "duplicates_refused", "forged_refused"},
    "revenue": {"total", "count", "by_day", "by_method", "by_fleet", "by_vehicle", "by_payee"},
    "payouts": {"requested", "disbursed", "payees_paid", "payees_owing", "owed"},
    "alerts": {"payment_failed", "high_value", "mails"},
    "seconds": {"setup", "ingest", "settle", "payouts", "total"},
}


def test_the_document_has_the_promised_shape(tmp_path: Path) -> None:
    expected = expected_of()
    books = books_of(expected)
    played = played_of(expected)
    path = tmp_path / "out.json"
    write_report(path, build_report(played, expected, books, check_run(played, expected, books), SECONDS))
    report = json.loads(path.read_text())
    assert report.keys() == {*SHAPE, "profits", "checks"}
    assert {name: set(report[name]) for name in SHAPE} == SHAPE
    assert report["trips"]["rejected"] == [{"reason": "negative amount", "count": 2}]
    assert report["revenue"]["by_day"] == {
        "2026-03-02": {"amount": expected.revenue.amount, "count": expected.revenue.count}
    }
    assert report["profits"] == books.profits
    assert {frozenset(check) for check in report["checks"]} == {frozenset({"name", "ok", "detail"})}
    assert report["payouts"]["disbursed"] == report["payouts"]["requested"] == sum(expected.due().values())
    assert report["seconds"] == SECONDS


@pytest.mark.parametrize("width", [60, 140])
@pytest.mark.parametrize("ok", [True, False])
def test_the_printed_report_says_where_it_comes_from_and_whether_it_held(width: int, ok: bool) -> None:
    expected = expected_of()
    played = played_of(expected)
    checks = [Check("revenue [by] day", ok, "1 of 1")]
    report = build_report(played, expected, books_of(expected), checks, SECONDS)
    console = Console(file=io.StringIO(), width=width)
    print_report(console, report, title="demo-1: 300 trips", currency="KES")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Everything below was read from the services' APIs." in text
    assert "revenue [by] day" in text
    assert ("All 1 checks held." in text) is ok
    assert ("1 of 1 checks FAILED" in text) is not ok
    assert format_number(expected.revenue.amount, "KES") in text


def test_progress_without_a_terminal_is_a_line_per_tenth() -> None:
    console = Console(file=io.StringIO(), width=80)
    with DayProgress(console) as progress:
        for done in (1, 5, 10, 9, 19, 20, 21, 100):
            progress.show(done / 100, done * 10)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[0] for line in lines] == ["10", "20", "100"]
