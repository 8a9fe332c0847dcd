"""The mapping: what it must say, and how it says what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest

from deploy.simulator.mapping import MappingError, parse_mapping, read_mapping

MAPPINGS = Path(__file__).resolve().parents[2] / "deploy" / "mappings"


def document(**changes: Any) -> dict[str, Any]:
    return {
        "currency": "USD",
        "time_zone": "America/Chicago",
        "columns": {"occurred_at": "at", "amount": "total"},
        **changes,
    }


@pytest.mark.parametrize("name", ["chicago", "nyc_yellow", "template"])
def test_shipped_mappings_can_be_used(name: str) -> None:
    mapping = read_mapping(MAPPINGS / f"{name}.toml")
    assert mapping.decimals == 2
    assert {"occurred_at", "amount"} <= mapping.columns.keys()


def test_only_time_and_amount_are_required() -> None:
    mapping = parse_mapping(document())
    assert mapping.columns == {"occurred_at": ("at",), "amount": ("total",)}
    assert mapping.zone.key == "America/Chicago"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"currency": "XQZ"}, "XQZ"),
        ({"currency": 12}, "currency"),
        ({"time_zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"time_zone": "../etc/passwd"}, "passwd"),
        ({"columns": {"occurred_at": "at"}}, "amount"),
        ({"columns": {"amount": "total"}}, "occurred_at"),
        ({"columns": {"occurred_at": "at", "amount": "total", "driver": "d"}}, "driver"),
        ({"columns": {"occurred_at": "at", "amount": []}}, "amount"),
        ({"columns": "all"}, "columns"),
        ({"methods": {"Cash": "coins"}}, "coins"),
        ({"formats": {"amount": "%d"}}, "amount"),
        ({"curency": "USD"}, "curency"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(MappingError, match=named):
        parse_mapping(document(**changes))


def test_missing_keys_are_named() -> None:
    for key in ("currency", "time_zone"):
        incomplete = document()
        del incomplete[key]
        with pytest.raises(MappingError, match=key):
            parse_mapping(incomplete)


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"absent\.toml"):
        read_mapping(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("currency = ")
    with pytest.raises(MappingError, match=r"broken\.toml"):
        read_mapping(broken)
