"""The command `takings`: what it prints, and that what goes wrong is one line."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy import session
from deploy.cli import app
from deploy.errors import StackError
from deploy.running_stack import tenant_id_from
from deploy.tokens import TokenIssuer

runner = CliRunner()


@pytest.fixture
def state(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("TAKINGS_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def test_token_prints_the_token_and_nothing_else(state: Path) -> None:
    TokenIssuer(state)
    result = runner.invoke(app, ["token", "--role", "finance", "--tenant", "acme", "--fleet-id", "f1"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", result.stdout)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["token", "--role", "finance"], "no stack has run in .* yet"),
        (["tenant", "create", "Acme", "--time-zone", "UTC", "--currency", "KES"], "no stack is running"),
        (["provision"], "TAKINGS_POSTGRES_URL is not set"),
        (["republish", "payments", "--since", "2026-11-21T08:00"], "'2026-11-21T08:00' is no instant"),
        (["republish", "payments", "--since", "0001-01-01T00:00:00+14:00"], "'0001-01-01T.*' is no instant"),
        (["republish", "payments", "--since", "9999-12-31T23:59:59-14:00"], "'9999-12-31T.*' is no instant"),
        (["republish", "payments", "--after", f"demo:{2**63}"], "'demo:9223.*' is no place in an event log"),
        (["republish", "payments", "--after", "demo:" + "9" * 5_000], "'demo:9+' is no place in an event log"),
        (["republish", "payments", "--after", ""], "'' is no place in an event log"),
    ],
)
def test_what_goes_wrong_is_one_line(state: Path, monkeypatch, arguments: list[str], line: str) -> None:
    monkeypatch.delenv("TAKINGS_POSTGRES_URL", raising=False)
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert re.fullmatch(f"takings: {line}.*\n", result.stderr)
    assert not state.exists()


GOOD_MAPPING = """
currency = "KES"
time_zone = "Africa/Nairobi"
[columns]
occurred_at = "When"
amount = "Fare"
"""


@pytest.mark.parametrize(
    ("trips", "mapping", "line"),
    [
        (None, None, "no such file: .*trips.csv"),
        ("When,Fare\n", None, ".*trips.csv needs a mapping"),
        ("When,Fare\n", "", ".*map.toml: currency is missing"),
        ("When,Fare\n", "currency = KES", ".*map.toml: Invalid value"),
        ("When,Price\n", GOOD_MAPPING, '.*trips.csv: has no column "Fare"'),
        ("", GOOD_MAPPING, ".*trips.csv: the file is empty"),
    ],
)
def test_trips_that_cannot_be_played_start_nothing(
    state: Path, tmp_path: Path, monkeypatch, *, trips: str | None, mapping: str | None, line: str
) -> None:
    monkeypatch.setattr(session, "run_session", lambda *_args, **_more: pytest.fail("the stack was started"))
    arguments = ["demo", "--trips", str(tmp_path / "trips.csv")]
    if trips is not None:
        (tmp_path / "trips.csv").write_text(trips)
    if mapping is not None:
        (tmp_path / "map.toml").write_text(mapping)
        arguments += ["--map", str(tmp_path / "map.toml")]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert re.fullmatch(f"takings: {line}.*\n", result.stderr)
    assert not state.exists()


def test_trips_that_can_be_played_start_the_stack(state: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(session, "run_session", lambda *_args, **_more: 0)
    (tmp_path / "trips.csv").write_text("When,Fare\n")
    (tmp_path / "map.toml").write_text(GOOD_MAPPING)
    arguments = ["demo", "--trips", str(tmp_path / "trips.csv"), "--map", str(tmp_path / "map.toml")]
    assert runner.invoke(app, arguments).exit_code == 0


@pytest.mark.parametrize(
    "command", [[], ["up"], ["demo"], ["token"], ["tenant"], ["tenant", "create"], ["provision"], ["migrate"]]
)
def test_help_is_everywhere(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_a_tenant_id_is_made_from_the_name() -> None:
    assert tenant_id_from("Nairobi Shuttle (West)") == "nairobi-shuttle-west"
    with pytest.raises(StackError):
        tenant_id_from("★")
