"""The command `takings`: what it prints, and that what goes wrong is one line."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

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
        (["demo", "--trips", "/no/such.csv"], "no such file: /no/such.csv"),
        (["provision"], "TAKINGS_POSTGRES_URL is not set"),
    ],
)
def test_what_goes_wrong_is_one_line(state: Path, monkeypatch, arguments: list[str], line: str) -> None:
    monkeypatch.delenv("TAKINGS_POSTGRES_URL", raising=False)
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert re.fullmatch(f"takings: {line}.*\n", result.stderr)
    assert not state.exists()


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
