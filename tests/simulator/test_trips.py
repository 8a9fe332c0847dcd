"""Reading a trips file: rows, what is missing in them, and files that are not quite CSV."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.simulator.mapping import Mapping, MappingError, parse_mapping
from deploy.simulator.trips import Trip, TripsFile, TripsFileError

HEADER = "id,at,total,how,company,taxi,from,to"
COLUMNS = {
    "trip_id": "id",
    "occurred_at": "at",
    "amount": "total",
    "method": "how",
    "fleet": "company",
    "vehicle": "taxi",
    "payee": "taxi",
    "route": ["from", "to"],
}
METHODS = {"Cash": "cash", "Card": "card", "Dispute": "failed", "": "mobile"}


def mapping(**changes: Any) -> Mapping:
    return parse_mapping(
        {"currency": "USD", "time_zone": "America/Chicago", "columns": COLUMNS, "methods": METHODS, **changes}
    )


def trips_file(folder: Path, *rows: str, header: str = HEADER, **changes: Any) -> TripsFile:
    path = folder / "trips.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return TripsFile(path, mapping(**changes))


def only(source: TripsFile) -> Trip:
    (trip,) = source
    return trip


def test_a_row_becomes_a_trip(tmp_path: Path) -> None:
    trip = only(trips_file(tmp_path, 'T1,2022-03-01 23:45:00,22.8,Card,"Taxis, LLC",K7,8,32'))
    assert (trip.trip_id, trip.amount, trip.method, trip.failed) == ("T1", 2280, "card", False)
    assert (trip.fleet_id, trip.vehicle_id, trip.payee_id, trip.route_id) == ("Taxis, LLC", "K7", "K7", "8→32")
    assert trip.occurred_at == datetime(2022, 3, 2, 5, 45, tzinfo=UTC)
    assert trip.day.isoformat() == "2022-03-01"


def test_what_is_blank_stays_empty(tmp_path: Path) -> None:
    trip = only(trips_file(tmp_path, "T1,2022-03-01 10:00,,,,,,"))
    assert (trip.amount, trip.method, trip.fleet_id) == (0, "mobile", "default")
    assert (trip.vehicle_id, trip.payee_id, trip.route_id) == (None, None, None)


def test_a_route_with_one_blank_end_keeps_the_arrow(tmp_path: Path) -> None:
    assert only(trips_file(tmp_path, "T1,2022-03-01 10:00,1,,,,,58")).route_id == "→58"


def test_methods_that_are_not_listed_are_other_and_failed_is_a_failure(tmp_path: Path) -> None:
    rows = ("T1,2022-03-01 10:00,1,Barter,,,,", "T2,2022-03-01 10:00,1,Dispute,,,,")
    assert [(trip.method, trip.failed) for trip in trips_file(tmp_path, *rows)] == [("other", False), ("other", True)]


def test_columns_that_are_not_mapped_stay_empty(tmp_path: Path) -> None:
    columns = {"occurred_at": "at", "amount": "total"}
    trip = only(trips_file(tmp_path, "T1,2022-03-01 10:00,1,Cash,F,V,1,2", columns=columns))
    assert (trip.fleet_id, trip.vehicle_id, trip.payee_id, trip.route_id) == ("default", None, None, None)
    assert trip.method == "mobile"  # as [methods] says of a blank


def test_a_missing_trip_id_is_a_hash_of_the_row_and_its_ordinal(tmp_path: Path) -> None:
    row = ",2022-03-01 10:00,1,Cash,F,V,1,2"
    first = [trip.trip_id for trip in trips_file(tmp_path, row, row)]
    again = [trip.trip_id for trip in trips_file(tmp_path, row, row)]
    assert first == again
    assert len(set(first)) == 2
    unnamed = {name: column for name, column in COLUMNS.items() if name != "trip_id"}
    assert [trip.trip_id for trip in trips_file(tmp_path, row, row, columns=unnamed)] == first


def test_rejected_rows_are_counted_by_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    source = trips_file(
        tmp_path,
        "T1,2022-03-01 10:00,-5.00,Cash,F,V,1,2",
        "T2,2022-03-01 10:00,-1.00,Cash,F,V,1,2",
        "T3,soon,5.00,Cash,F,V,1,2",
        "T4,2022-03-01 10:00,5.00,Cash",
        "",
        "T5,2022-03-01 10:00,5.00,Cash,F,V,1,2,extra",
        "T6,2022-03-01 10:00,5.00,Cash,F,V,1,2",
        "T6,2022-03-01 11:00,5.00,Cash,F,V,1,2",
        f"T7,2022-03-01 10:00,5.00,Cash,{'F' * 201},V,1,2",
    )
    assert [trip.trip_id for trip in source] == ["T6"]
    assert source.read == 9 - 1
    assert source.rejected == {
        "negative amount": 2,
        "malformed time": 1,
        "wrong number of columns": 2,
        "trip_id seen before": 1,
        "fleet too long or with control characters": 1,
    }
    assert source.fraction() == 1.0


def test_a_format_joins_a_date_and_a_clock_column(tmp_path: Path) -> None:
    source = trips_file(
        tmp_path,
        "17-10-17,7:05,350",
        header="date,clock,total",
        time_zone="Africa/Nairobi",
        columns={"occurred_at": ["date", "clock"], "amount": "total"},
        formats={"occurred_at": "%d-%m-%y %H:%M"},
    )
    assert only(source).occurred_at == datetime(2017, 10, 17, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_mark_line_ends_and_compression_do_not_matter(tmp_path: Path, zipped: bool, line_end: str) -> None:
    content = ("\ufeff" + line_end.join([HEADER, 'T1,2022-03-01 10:00,1,Cash,"a\nb",V,1,2', ""])).replace("a\nb", "a b")
    path = tmp_path / ("trips.csv.gz" if zipped else "trips.csv")
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    assert only(TripsFile(path, mapping())).fleet_id == "a b"


def test_a_mapped_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r'no column "taxi" .*vehicle.*it has: id, at'):
        list(trips_file(tmp_path, header="id,at,total,how,company,from,to"))
    with pytest.raises(MappingError, match='more than one column "at"'):
        list(trips_file(tmp_path, header="id,at,at,total,how,company,taxi,from,to"))


def test_files_that_cannot_be_read_on_say_where(tmp_path: Path) -> None:
    absent = tmp_path / "absent.csv"
    with pytest.raises(TripsFileError, match=r"absent\.csv"):
        list(TripsFile(absent, mapping()))
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    with pytest.raises(TripsFileError, match="empty"):
        list(TripsFile(empty, mapping()))
    row = "T1,2022-03-01 10:00,1,Cash,F,V,1,2\n"
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress((HEADER + "\n" + row).encode())[:-12])
    with pytest.raises(TripsFileError, match="unreadable"):
        list(TripsFile(cut, mapping()))
    quote = tmp_path / "quote.csv"
    quote.write_text(HEADER + "\n" + row + 'T2,2022-03-01 10:00,1,Cash,"never closed,V,1,2\n')
    with pytest.raises(TripsFileError, match="after line 2"):
        list(TripsFile(quote, mapping()))
    latin = tmp_path / "latin.csv"
    latin.write_bytes((HEADER + "\nT1,2022-03-01 10:00,1,Cash,Caf\xe9,V,1,2\n").encode("latin-1"))
    with pytest.raises(TripsFileError, match="unreadable"):
        list(TripsFile(latin, mapping()))


def test_the_file_is_streamed(tmp_path: Path) -> None:
    rows = (f"T{n},2022-03-01 10:00,1,Cash,F,V,1,2" for n in range(50_000))
    source = trips_file(tmp_path, *rows)
    trips = iter(source)
    next(trips)
    assert source.read == 1
    assert 0 < source.fraction() < 0.2
