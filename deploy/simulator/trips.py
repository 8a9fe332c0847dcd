"""Trips: what the simulator plays, and a streamed reader of CSV files of them, plain or gzipped, through a mapping."""

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO, cast
from zoneinfo import ZoneInfo

from deploy.simulator.mapping import Mapping, MappingError
from shared.money import LIMIT

AMOUNT = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

TEXT_LIMIT = 200  # characters of an id or a name, as the API takes them
CSV_FIELD_LIMIT = 1 << 20


class TripsFileError(ValueError):
    """The file itself cannot be read on: not CSV, not UTF-8, cut short. The message names the file and the line."""


class RowRejected(ValueError):
    """One row is no trip; the message is the reason, the same for all of its kind so that they can be counted."""


@dataclass(frozen=True, slots=True)
class Passenger:
    """A synthetic person."""

    name: str
    phone: str


@dataclass(frozen=True, slots=True)
class Trip:
    """One trip: `amount` and `fee` in minor units, `occurred_at` in UTC, `day` as the tenant's calendar has it."""

    trip_id: str
    occurred_at: datetime
    day: date
    amount: int
    method: str
    failed: bool
    fleet_id: str
    client_id: str
    vehicle_id: str | None = None
    route_id: str | None = None
    payee_id: str | None = None
    passenger: Passenger | None = None
    fee: int = 0


class Trips(Protocol):
    """Where trips come from: iterated once, while counting what was read and what was rejected, and why."""

    currency: str
    time_zone: str
    read: int
    rejected: Counter[str]

    def __iter__(self) -> Iterator[Trip]: ...

    def fraction(self) -> float:
        """How much of the whole has been read, 0 to 1."""


def parse_amount(text: str, decimals: int) -> int:
    """Exact decimal text -> minor units; blank is 0; zeros past the exponent are exact, too. Raises RowRejected."""
    text = text.strip()
    if not text:
        return 0
    match = AMOUNT.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise RowRejected("malformed amount")
    sign, whole, part = match[1], match[2], match[3] or ""
    if part[decimals:].strip("0"):
        raise RowRejected("amount with too many decimals")
    if len(whole.lstrip("0")) > len(str(LIMIT)):
        raise RowRejected("amount too large")
    minor = int((whole or "0") + part[:decimals].ljust(decimals, "0"))
    if minor > LIMIT:
        raise RowRejected("amount too large")
    if minor and sign == "-":
        raise RowRejected("negative amount")
    return minor


def parse_time(text: str, zone: ZoneInfo, time_format: str | None = None) -> datetime:
    """A time in the file -> UTC. Raises RowRejected.

    A time without offset is local in `zone`. One that the clock skipped is read with the offset before the change
    (02:30 becomes 03:30); one that the clock showed twice is the first of the two.
    """
    try:
        moment = datetime.strptime(text, time_format) if time_format else datetime.fromisoformat(text)  # noqa: DTZ007 zone below
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone, fold=0)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RowRejected("malformed time") from error


class TripsFile:
    """The trips of one file, read as asked for. Raises MappingError for a mapped column that is not in its header."""

    def __init__(self, path: Path, mapping: Mapping) -> None:
        self.path = path
        self.mapping = mapping
        self.currency = mapping.currency
        self.time_zone = mapping.zone.key
        self.read = 0
        self.rejected: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._times: tuple[str, datetime, date] | None = None
        self._raw: BinaryIO | None = None
        self._position = 0.0

    def __iter__(self) -> Iterator[Trip]:
        size = max(self.path.stat().st_size, 1) if self.path.exists() else 1
        csv.field_size_limit(CSV_FIELD_LIMIT)
        line = 0
        try:
            with self.path.open("rb") as raw, _text_of(raw) as text:
                rows = csv.reader(text, strict=True)
                header = next(rows, None)
                if header is None:
                    raise TripsFileError(f"{self.path}: the file is empty; its first line must name the columns")
                line = rows.line_num
                places = _places(self.path, header, self.mapping)
                for row in rows:
                    line = rows.line_num
                    if not row:
                        continue
                    self.read += 1
                    self._position = raw.tell() / size
                    try:
                        yield self._trip(row, len(header), places)
                    except RowRejected as reason:
                        self.rejected[str(reason)] += 1
        except FileNotFoundError as error:
            raise TripsFileError(f"{self.path}: there is no such trips file") from error
        except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise TripsFileError(f"{self.path}: unreadable after line {line}: {error}") from error
        self._position = 1.0

    def fraction(self) -> float:
        """How much of the file (of its compressed bytes) has been read, 0 to 1."""
        return self._position

    def _trip(self, row: list[str], width: int, places: dict[str, tuple[int, ...]]) -> Trip:
        if len(row) != width:
            raise RowRejected("wrong number of columns")
        mapping = self.mapping
        amount = parse_amount(_joined(row, places["amount"], ""), mapping.decimals)
        occurred_at, day = self._time(_joined(row, places["occurred_at"], mapping.time_separator))
        word = _joined(row, places["method"], "→")
        method = mapping.methods.get(word, "other")
        trip_id = self._trip_id(row, places["trip_id"])
        return Trip(
            trip_id=trip_id,
            occurred_at=occurred_at,
            day=day,
            amount=amount,
            method="other" if method == "failed" else method,
            failed=method == "failed",
            fleet_id=_name(row, places["fleet"], "fleet") or "default",
            client_id="c-" + hashlib.blake2b(trip_id.encode(), digest_size=8).hexdigest(),
            vehicle_id=_name(row, places["vehicle"], "vehicle"),
            route_id=_name(row, places["route"], "route"),
            payee_id=_name(row, places["payee"], "payee"),
        )

    def _trip_id(self, row: list[str], places: tuple[int, ...]) -> str:
        named = _name(row, places, "trip_id")
        if named is None:
            return hashlib.sha256("\x1f".join([*row, str(self.read)]).encode()).hexdigest()[:40]
        if named in self._seen:
            raise RowRejected("trip_id seen before")
        self._seen.add(named)
        return named

    def _time(self, text: str) -> tuple[datetime, date]:
        # Neighbouring rows often carry the same time, and a zone's arithmetic is the dearest step of a row.
        if self._times is None or self._times[0] != text:
            moment = parse_time(text, self.mapping.zone, self.mapping.time_format)
            self._times = (text, moment, moment.astimezone(self.mapping.zone).date())
        return self._times[1], self._times[2]


def _text_of(raw: BinaryIO) -> TextIO:
    gzipped = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    plain = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if gzipped else raw
    return io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")


def _places(path: Path, header: list[str], mapping: Mapping) -> dict[str, tuple[int, ...]]:
    names = [name.strip() for name in header]
    places: dict[str, tuple[int, ...]] = dict.fromkeys(("trip_id", "method", "fleet", "vehicle", "payee", "route"), ())
    for field, columns in mapping.columns.items():
        for column in columns:
            if names.count(column) != 1:
                fault = "has no column" if column not in names else "has more than one column"
                raise MappingError(f'{path}: {fault} "{column}" (mapped to {field}); it has: {", ".join(names)}')
        places[field] = tuple(names.index(column) for column in columns)
    return places


def _joined(row: list[str], places: tuple[int, ...], separator: str) -> str:
    if len(places) == 1:
        return row[places[0]].strip()
    parts = [row[place].strip() for place in places]
    return separator.join(parts) if any(parts) else ""


def _name(row: list[str], places: tuple[int, ...], field: str) -> str | None:
    text = _joined(row, places, "→")
    if len(text) > TEXT_LIMIT or CONTROL.search(text):
        raise RowRejected(f"{field} too long or with control characters")
    return text or None
