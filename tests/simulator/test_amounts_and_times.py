"""The texts of a trips file: exact amounts, and times of a zone."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.simulator.trips import RowRejected, parse_amount, parse_time

CHICAGO = ZoneInfo("America/Chicago")


@pytest.mark.parametrize(
    ("text", "decimals", "minor"),
    [
        ("", 2, 0),
        ("  ", 2, 0),
        ("0", 2, 0),
        ("0.00", 2, 0),
        ("-0.00", 2, 0),
        ("22.8", 2, 2280),
        ("7400.26", 2, 740026),
        (" 13.0 ", 2, 1300),
        ("+5", 2, 500),
        (".5", 2, 50),
        ("5.", 2, 500),
        ("1300.0", 0, 1300),
        ("1.234", 3, 1234),
        ("12.3400", 2, 1234),
        ("0000000000000000000000001.10", 2, 110),
        ("0.1", 2, 10),
        ("1.15", 2, 115),
    ],
)
def test_amounts_are_exact(text: str, decimals: int, minor: int) -> None:
    assert parse_amount(text, decimals) == minor


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-3.00", "negative"),
        ("-.01", "negative"),
        ("12.345", "too many decimals"),
        ("1,234.50", "malformed"),
        ("1e3", "malformed"),
        ("NaN", "malformed"),
        ("$5", "malformed"),
        (".", "malformed"),
        ("--1", "malformed"),
        ("1 000", "malformed"),
        ("٣", "malformed"),
        ("9" * 30, "too large"),
        ("10000000000000.01", "too large"),
    ],
)
def test_other_amounts_are_rejected_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(RowRejected, match=reason):
        parse_amount(text, 2)


@given(minor=st.integers(0, 10**15), decimals=st.sampled_from([0, 2, 3]))
def test_an_amount_written_out_is_read_back(minor: int, decimals: int) -> None:
    assert parse_amount(str(Decimal(minor).scaleb(-decimals).quantize(Decimal(1).scaleb(-decimals))), decimals) == minor


@given(st.text(max_size=30))
def test_any_text_is_an_amount_or_a_reason(text: str) -> None:
    try:
        amount = parse_amount(text, 2)
    except RowRejected:
        return
    assert amount >= 0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2022-03-01 00:15:00", datetime(2022, 3, 1, 6, 15, tzinfo=UTC)),
        ("2022-07-01T00:15:00", datetime(2022, 7, 1, 5, 15, tzinfo=UTC)),
        ("2022-03-01T00:15:00Z", datetime(2022, 3, 1, 0, 15, tzinfo=UTC)),
        ("2022-03-01T00:15:00+03:00", datetime(2022, 2, 28, 21, 15, tzinfo=UTC)),
        # Skipped by the clock: 02:30 is read as 03:30 daylight time.
        ("2022-03-13 02:30:00", datetime(2022, 3, 13, 8, 30, tzinfo=UTC)),
        # Shown twice by the clock: the first, still daylight time.
        ("2022-11-06 01:30:00", datetime(2022, 11, 6, 6, 30, tzinfo=UTC)),
    ],
)
def test_times_are_of_the_zone_unless_they_say_otherwise(text: str, moment: datetime) -> None:
    assert parse_time(text, CHICAGO) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2022-02-30 10:00", "2022-03-01 25:00", "01/03/2022", "0001-01-01"])
def test_other_times_are_rejected(text: str) -> None:
    zone = ZoneInfo("Asia/Tokyo")  # east of Greenwich: the first of year 1 has no UTC
    with pytest.raises(RowRejected, match="time"):
        parse_time(text, zone)
