"""The mapping: which column of a trips file means what, in which currency, time zone and words."""

import tomllib
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from shared.money import UnknownCurrency, exponent

COLUMNS = ("trip_id", "occurred_at", "amount", "method", "fleet", "vehicle", "payee", "route")
REQUIRED = ("occurred_at", "amount")
METHODS = frozenset({"cash", "card", "mobile", "prepaid", "other", "failed"})
FORMATS = frozenset({"occurred_at"})


class MappingError(ValueError):
    """The mapping cannot be used, or does not fit the file; the message names the key or the column."""


@dataclass(frozen=True)
class Mapping:
    """`columns`: field of a trip -> the file's columns; `methods`: its word -> ours; `decimals`: the ISO exponent."""

    currency: str
    decimals: int
    zone: ZoneInfo
    columns: dict[str, tuple[str, ...]]
    methods: dict[str, str] = field(default_factory=dict)
    time_format: str | None = None

    @property
    def time_separator(self) -> str:
        """What joins the parts of a time: date and clock columns are read as "date clock" unless the format has →."""
        return "→" if self.time_format and "→" in self.time_format else " "


def read_mapping(path: Path) -> Mapping:
    """The mapping in a TOML file. Raises MappingError naming the file and what is wrong with it."""
    try:
        return parse_mapping(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError as error:
        raise MappingError(f"{path}: there is no such mapping file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, MappingError) as error:
        raise MappingError(f"{path}: {error}") from error


def parse_mapping(document: Map[str, Any]) -> Mapping:
    """The mapping in a parsed TOML document. Raises MappingError naming the key that is missing, unknown or wrong."""
    _known("the mapping", document, {"currency", "time_zone", "columns", "methods", "formats"})
    currency = _text(document, "currency")
    columns = _columns(_table(document, "columns"))
    formats = _table(document, "formats")
    _known("[formats]", formats, FORMATS)
    try:
        decimals = exponent(currency)
    except UnknownCurrency as error:
        raise MappingError(f'currency = "{currency}" is not an ISO 4217 currency') from error
    return Mapping(
        currency=currency,
        decimals=decimals,
        zone=_zone(_text(document, "time_zone")),
        columns=columns,
        methods=_methods(_table(document, "methods")),
        time_format=_text(formats, "occurred_at") if "occurred_at" in formats else None,
    )


def _columns(table: Map[str, Any]) -> dict[str, tuple[str, ...]]:
    _known("[columns]", table, COLUMNS)
    columns: dict[str, tuple[str, ...]] = {}
    for name, value in table.items():
        names = value if isinstance(value, list) else [value]
        if not names or not all(isinstance(part, str) and part for part in names):
            raise MappingError(f"[columns] {name} must be the name of a column, or a list of names")
        columns[name] = tuple(names)
    for name in REQUIRED:
        if name not in columns:
            raise MappingError(f"[columns] {name} is missing")
    return columns


def _methods(table: Map[str, Any]) -> dict[str, str]:
    for word, method in table.items():
        if method not in METHODS:
            raise MappingError(f'[methods] "{word}" = {method!r}: it must be one of {", ".join(sorted(METHODS))}')
    return {word.strip(): method for word, method in table.items()}


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # not found: a KeyError; the name of a folder: an OSError
        raise MappingError(f'time_zone = "{name}" is not a known IANA time zone') from error


def _table(document: Map[str, Any], key: str) -> Map[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise MappingError(f"{key} must be a table: [{key}]")
    return table


def _text(table: Map[str, Any], key: str) -> str:
    if key not in table:
        raise MappingError(f"{key} is missing")
    value = table[key]
    if not isinstance(value, str) or not value:
        raise MappingError(f"{key} must be a text")
    return value


def _known(where: str, table: Map[str, Any], names: Any) -> None:
    for key in table:
        if key not in names:
            raise MappingError(f"{where} has no key {key!r}; known are {', '.join(sorted(names))}")
