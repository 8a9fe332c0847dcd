"""Where an operator's commands find databases and broker."""

import json

import pytest

from deploy.databases import role_names
from deploy.errors import StackError
from deploy.operations.access import database_url, kafka_bootstrap
from deploy.stack_secrets import read_or_make_secrets

NAMES = [f"ALERTS_{kind}DATABASE_URL" for kind in ("OWNER_", "", "SYSTEM_", "AUDITOR_")]


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    for name in (*NAMES, "TAKINGS_KAFKA_BOOTSTRAP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TAKINGS_STATE", str(tmp_path))
    return tmp_path


def test_a_folder_from_before_the_auditors_gets_their_secrets_and_keeps_the_others(state):
    old = {role: f"secret of {role}" for role in role_names() if not role.endswith("_auditor")}
    (state / "secrets.json").write_text(json.dumps({"passwords": old, "payments_key": "k"}))
    made = read_or_make_secrets(state)
    assert set(made.passwords) == set(role_names())
    assert {role: made.passwords[role] for role in old} == old
    assert read_or_make_secrets(state) == made


def test_the_environment_comes_first_and_who_only_reads_needs_nobody_elses_secret(monkeypatch):
    monkeypatch.setenv("ALERTS_AUDITOR_DATABASE_URL", "postgresql://auditor")
    assert database_url("alerts", "auditor") == "postgresql://auditor"
    for service, role, name in (("alerts", "owner", "ALERTS_OWNER"), ("payments", "auditor", "PAYMENTS_AUDITOR")):
        with pytest.raises(StackError, match=f"{name}_DATABASE_URL is not set, and other database URLs are"):
            database_url(service, role)
    monkeypatch.setenv("TAKINGS_KAFKA_BOOTSTRAP", "b:1")
    assert kafka_bootstrap() == "b:1"


def test_else_the_running_stack_says_where_they_are(state):
    with pytest.raises(StackError, match="no stack is running"):
        database_url("alerts", "auditor")
    described = {"postgres": {"url": "postgresql://postgres:x@127.0.0.1:5/postgres"}, "kafka": {"bootstrap": "b:2"}}
    (state / "stack.json").write_text(json.dumps(described))
    password = read_or_make_secrets(state).passwords["alerts_auditor"]
    assert database_url("alerts", "auditor") == f"postgresql://alerts_auditor:{password}@127.0.0.1:5/alerts"
    assert kafka_bootstrap() == "b:2"
