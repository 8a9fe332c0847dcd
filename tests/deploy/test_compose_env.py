"""The secrets of the containers: made once, private, and never changed under a database that has them already."""

import stat
from pathlib import Path

import pytest

from deploy.compose_env import write_compose_env
from deploy.databases import role_names
from deploy.tokens import TokenIssuer


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("TAKINGS_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def _read(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def test_makes_what_the_composition_asks_for(tmp_path: Path, state: Path) -> None:
    file = tmp_path / ".env"
    write_compose_env(file)
    values = _read(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {f"{role.upper()}_PASSWORD" for role in role_names()} < set(values)
    assert len(values["TAKINGS_KAFKA_CLUSTER_ID"]) == 22
    assert values["TAKINGS_AUTH_PUBLIC_KEY"].strip('"').replace("\\n", "\n") == TokenIssuer(state).public_key.strip()
    composition = (Path(__file__).parents[2] / "docker-compose.yml").read_text()
    assert all("${" + name in composition for name in values)


def test_again_changes_nothing_and_adds_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    write_compose_env(file)
    before = _read(file)
    assert write_compose_env(file) == []
    assert _read(file) == before
    file.write_text("".join(f"{name}={value}\n" for name, value in before.items() if name != "ALERTS_APP_PASSWORD"))
    assert write_compose_env(file) == ["ALERTS_APP_PASSWORD"]


def test_an_issuer_of_ones_own_keeps_its_key(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "TAKINGS_ENVIRONMENT=production\nTAKINGS_AUTH_ISSUER=https://id.example\nTAKINGS_AUTH_PUBLIC_KEY=mine\n"
    )
    write_compose_env(file)
    values = _read(file)
    assert (values["TAKINGS_ENVIRONMENT"], values["TAKINGS_AUTH_PUBLIC_KEY"]) == ("production", "mine")


def test_what_is_of_ones_own_stays_as_it_is(tmp_path: Path) -> None:
    own = "# the backups\nS3_BUCKET=takings\n\nexport http_proxy=http://proxy\nUNFINISHED"
    (file := tmp_path / ".env").write_text(own)
    assert "ALERTS_APP_PASSWORD" in write_compose_env(file)
    assert file.read_text().startswith(own + "\n")
    assert write_compose_env(file) == []
