"""The reader and the expectations on the real trips, against sums that other engines computed (CHECKS.json)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from deploy.simulator.expected import NOBODY, Expected, Line, high_value_from
from deploy.simulator.mapping import read_mapping
from deploy.simulator.trips import TripsFile

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TAKINGS_SHARED", PROJECT.parent / "shared")) / "data"


def read(folder: str, mapping: str) -> tuple[TripsFile, Expected, dict[str, Any]]:
    path = DATA / folder / "trips.csv.gz"
    if not path.exists():
        pytest.skip(f"the real trips of {folder} are not here; TAKINGS_SHARED names the folder that has data/")
    source = TripsFile(path, read_mapping(PROJECT / "deploy" / "mappings" / f"{mapping}.toml"))
    expected = Expected(high_value_from("USD", 2))
    expected.add_all(source)
    return source, expected, json.loads((DATA / folder / "CHECKS.json").read_text())


def test_chicago() -> None:
    source, expected, checks = read("1_chicago_taxi_2022", "chicago")
    assert (source.read, source.rejected) == (34_092, {})
    assert (expected.requests, expected.nothing_due, expected.failed) == (34_092, 43, 32)
    assert expected.revenue == Line(829_405_50, 34_017)
    assert (len(expected.payees), expected.earned, expected.commission) == (1_941, 746_381_24, 83_003_56)
    assert expected.by["vehicle"][NOBODY] == expected.by["payee"][NOBODY] == Line(20_70, 2)
    assert expected.cash_held == 217_811_87
    due, owing = expected.due(), expected.owing()
    assert (len(due), sum(due.values())) == (1_883, 530_548_09)
    assert (len(owing), sum(owing.values())) == (58, 1_978_72)
    assert expected.revenue.amount - sum(due.values()) - expected.cash_held == 81_045_54  # net profit
    assert expected.revenue.amount - expected.earned == 83_024_26  # earned profit
    assert expected.high_value == 4
    base = {row["company"]: row for row in checks["derived_commission_10_percent"]["rows"]}
    assert base.pop("(all)")["base_gross_cents"] == expected.revenue.amount
    assert expected.by["fleet"] == {
        name: Line(row["base_gross_cents"], row["rows"]) for name, row in base.items() if row["rows"]
    }
    methods = {"Cash": "cash", "Credit Card": "card", "Mobile": "mobile", "Prcard": "prepaid", "Unknown": "other"}
    gross = {methods.get(row["payment_type"]): row["gross_cents"] for row in checks["by_payment_type"]}
    assert {name: line.amount for name, line in expected.by["method"].items()} == {
        name: amount for name, amount in gross.items() if name
    }
    uncollected: dict[str, int] = {}
    for row in checks["by_day_payment_type"]:
        if row["payment_type"] not in methods:
            uncollected[row["day"]] = uncollected.get(row["day"], 0) + row["gross_cents"]
    assert {day: line.amount + uncollected[day] for day, line in expected.by_day.items()} == {
        row["day"]: row["gross_cents"] for row in checks["by_day"]
    }


def test_new_york() -> None:
    source, expected, checks = read("3_nyc_yellow_2019_2020", "nyc_yellow")
    quality = checks["quality"]
    assert source.read == 240_000
    assert source.rejected == {"negative amount": quality["rows_gross_negative"]}
    assert expected.nothing_due == quality["rows_gross_zero"]
    assert expected.by_day["2008-12-31"].count == quality["rows_outside_period"]
    assert expected.revenue.count + expected.failed + expected.nothing_due + 753 == source.read
    assert expected.revenue.amount < quality["gross_positive_cents"]
    assert expected.payees == {}
    assert expected.by["fleet"].keys() == {"1", "2", "4", "default"}
