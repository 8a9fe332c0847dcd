"""A whole run against a stand-in for the stack: it ends well on honest books, and badly on any others."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.simulator import settle
from deploy.simulator.generator import GeneratedTrips
from deploy.simulator.run import DemoOptions, run_demo
from tests.simulator.fake_books import FakeStack
from tests.simulator.fake_stack import mint, serve
from tests.simulator.test_report import SHAPE

MAPPINGS = Path(__file__).resolve().parents[2] / "deploy" / "mappings"


async def run(fake: FakeStack, options: DemoOptions) -> int:
    async with serve(fake) as stack:
        return await run_demo(stack, mint, options)


def wrong(report: Path) -> set[str]:
    return {check["name"] for check in json.loads(report.read_text())["checks"] if not check["ok"]}


@pytest.mark.parametrize("faults", [(), ("busy",)])
@pytest.mark.parametrize("count", [1, 620])
async def test_an_honest_run_ends_with_zero(
    count: int, faults: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "out.json"
    options = DemoOptions(count=count, seed=4, report=report)
    code = await run(FakeStack(*faults), options)
    printed = capsys.readouterr().out
    assert (code, wrong(report)) == (0, set()), printed
    assert "seed 4" in printed
    assert "Everything below was read from the services' APIs." in printed
    document = json.loads(report.read_text())
    assert {name: set(document[name]) for name in SHAPE} == SHAPE
    assert document["trips"]["read"] == document["trips"]["requests"] == count
    assert document["payments"]["forged_refused"] >= 3 or count == 1


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("believe forgeries", "forged callbacks refused with 401"),
        ("count twice", "payments completed, count"),
        ("lose an alert", "alerts: failed payments"),
        ("lose a request", "payees' earnings"),
    ],
)
async def test_a_dishonest_stack_ends_with_one_and_the_check_named(
    fault: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "STALLED_S", 0.3)
    report = tmp_path / "out.json"
    assert await run(FakeStack(fault), DemoOptions(count=300, seed=4, report=report)) == 1
    assert named in wrong(report)


async def test_a_file_of_trips_is_played_with_its_rejections(tmp_path: Path) -> None:
    rows = ["trip_id,occurred_at,amount,method,fleet,vehicle,driver,from,to"]
    for number, trip in enumerate(GeneratedTrips(seed=2, count=80)):
        at = trip.occurred_at.strftime("%Y-%m-%d %H:%M:%S")
        rows.append(f"T/{number} x,{at},{trip.amount // 100}.00,M-Pesa,{trip.fleet_id},,{trip.payee_id},A,B")
    rows.append("bad,2026-03-02 10:00:00,-4,Cash,F,V,D,A,B")
    path = tmp_path / "trips.csv"
    path.write_text("\n".join(rows))
    report = tmp_path / "out.json"
    options = DemoOptions(trips=path, mapping=MAPPINGS / "template.toml", report=report)
    assert await run(FakeStack(), options) == 0
    document = json.loads(report.read_text())
    assert document["trips"]["rejected"] == [{"reason": "negative amount", "count": 1}]
    assert document["revenue"]["by_vehicle"].keys() == {"(null)"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"count": 0}, "at least 1"),
        ({"trips": Path("trips.csv")}, "mapping"),
        ({"trips": Path("absent.csv"), "mapping": MAPPINGS / "chicago.toml"}, "absent.csv"),
        ({"trips": Path("absent.csv"), "mapping": Path("absent.toml")}, "absent.toml"),
    ],
)
async def test_what_cannot_be_run_says_why(
    options: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(FakeStack(), DemoOptions(**options)) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "The demo failed:" in printed
    assert named in printed


async def test_a_stack_that_is_not_there_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deploy.simulator.client.TRIES", 2)
    async with serve(FakeStack()) as stack:
        pass
    assert await run_demo(stack, mint, DemoOptions(count=1, seed=1)) == 1
    assert "no answer" in capsys.readouterr().out
