"""Rules of the house that no other tool watches over."""

import ast
import re
from importlib import import_module

import pytest
from prometheus_client import REGISTRY

from deploy.databases import SERVICES
from deploy.event_descriptions import breaking_changes, consumed_by, event_schema
from deploy.state import PROJECT
from shared.events.catalogue import ALL_EVENTS, PUBLISHED_BY
from shared.events.payments import PaymentCompleted

PYTHON = [path for top in ("services", "shared", "deploy") for path in sorted((PROJECT / top).rglob("*.py"))]
MODULE_LIMIT, FUNCTION_LIMIT = 250, 70
PERSONAL = {"name", "phone", "email", "payer_name", "payer_phone", "client_name", "client_phone"}


def test_modules_and_functions_stay_readable():
    long = []
    for path in PYTHON:
        text = path.read_text()
        if text.count("\n") > MODULE_LIMIT:
            long.append(f"{path.relative_to(PROJECT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in {"router", "upgrade"}:
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LIMIT:
                    long.append(f"{path.relative_to(PROJECT)}: {node.name} has {lines} lines")
    assert long == []


def test_only_composition_roots_read_the_environment():
    readers = [
        str(path.relative_to(PROJECT))
        for path in PYTHON
        if path.parts[len(PROJECT.parts)] in {"services", "shared"}
        and re.search(r"os\.(environ|getenv)", path.read_text())
    ]
    assert readers == []


def test_no_write_is_made_and_not_sent():
    """`outbox.add(…)` alone does nothing: what it gives must be handed to `write`."""
    trees = {path: ast.parse(path.read_text()) for path in PYTHON}
    makers = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and "Write" in re.findall(r"\w+", ast.unparse(node.returns or ast.Constant(0)))
    }
    assert {"add", "record", "record_all", "post", "earn", "insert_payments", "update_requests"} <= makers
    dropped = [
        f"{path.relative_to(PROJECT)}:{node.lineno}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _makes_a_write(node.value, makers, tree)
    ]
    assert dropped == []


def _makes_a_write(call: ast.Call, makers: set[str], tree: ast.Module) -> bool:
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    match call.func:
        case ast.Name(id=name):
            return name in makers & imported
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return name in makers and module in imported
    return False


def test_use_cases_get_the_time_passed_in():
    """Money's rules never read a clock: what they decide can be repeated."""
    hidden = []
    for service in SERVICES:
        for path in (PROJECT / "services" / service).glob("*.py"):
            if path.name not in {"__main__.py", "worker.py", "webhooks.py"} and re.search(
                r"datetime\.now|time\.time", path.read_text()
            ):
                hidden.append(str(path.relative_to(PROJECT)))
    assert hidden == []


def test_every_event_has_a_reader_and_every_topic_a_writer():
    read = {event for service in SERVICES for event in consumed_by(service)}
    assert set(ALL_EVENTS) - read == set()
    assert read - set(ALL_EVENTS) == set()
    assert all(import_module(f"services.{service}") for service in PUBLISHED_BY)


def test_no_event_carries_personal_data():
    for event in ALL_EVENTS:
        fields = set(getattr(event, "__struct_fields__", ()))
        if event.TYPE != "tenant-configured":  # its name is an organisation's
            assert not fields & PERSONAL, event.TYPE


@pytest.mark.parametrize("change", ["removed", "retyped", "made optional"])
def test_a_breaking_change_of_an_event_is_found(change: str):
    before, after = event_schema(PaymentCompleted), event_schema(PaymentCompleted)
    definition = after["$defs"]["PaymentCompleted"]
    if change == "removed":
        del definition["properties"]["amount"]
    elif change == "retyped":
        definition["properties"]["amount"] = {"type": "string"}
    else:
        definition["required"].remove("amount")
    assert breaking_changes(before, before) == []
    assert breaking_changes(before, after) != []


def test_nothing_of_this_machine_or_a_registry_is_committed():
    named = re.compile(
        "|".join(
            [
                "/" + "work/",
                "/" + "root/",
                "//" + "pypi",
                "//" + "registry",
                "//" + "repo1?" + r"\.",
                "files" + r"\.pythonhosted",
            ]
        )
    )
    found = []
    for pattern in ("*.py", "*.toml", "*.md", "*.txt", "*.in", "*.yml", "Makefile", "*.json", "Dockerfile"):
        for path in PROJECT.rglob(pattern):
            inside = path.relative_to(PROJECT).parts
            if not inside[0].startswith((".venv", ".takings", ".git", ".hypothesis", ".mypy")) and named.search(
                path.read_text()
            ):
                found.append(str(path.relative_to(PROJECT)))
    assert found == []


def test_documents_name_only_files_that_exist():
    missing = []
    for page in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if not (page.parent / target).exists() and not (PROJECT / target).exists():
                missing.append(f"{page.relative_to(PROJECT)}: {target}")
    assert missing == []


def test_the_runbook_names_only_metrics_that_exist():
    import_module("shared.telemetry")
    exposed = set()
    for family in REGISTRY.collect():
        suffixes = {"counter": ["_total"], "histogram": ["", "_count", "_sum", "_bucket"]}.get(family.type, [""])
        exposed |= {family.name + suffix for suffix in suffixes}
    named = set(re.findall(r"\btakings_\w+", (PROJECT / "docs/runbook.md").read_text()))
    assert "takings_mails_total" in named
    assert named - exposed == set()


def test_folders_hold_packages_only_where_they_are_imported():
    assert not [
        path for path in PYTHON if not (path.parent / "__init__.py").exists() and "migrations" not in path.parts
    ]
