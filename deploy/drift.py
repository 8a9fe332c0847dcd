"""Writes what follows from the code (schemas, API and event descriptions), or with --check says where they differ.

An event's schema may only grow: a field that was removed or retyped is refused even when writing, since a breaking change
of an event is a new type.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from deploy.databases import SERVICES
from deploy.event_descriptions import asyncapi, breaking_changes, event_schema
from deploy.schema_dump import dumped_schemas
from shared.events.catalogue import ALL_EVENTS
from shared.process import Service

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ANY_KEY = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="  # a well-formed Fernet key of zeros; nothing is encrypted here


def main() -> int:
    """0 when nothing differs, or everything was written; 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on any difference")
    check = parser.parse_args().check
    differing = 0
    for path, content in _descriptions():
        before = path.read_text() if path.exists() else ""
        for change in _refused(path, before, content):
            print(f"{path.relative_to(ROOT)}: {change}; a breaking change is a new type", file=sys.stderr)
            return 1
        if before != content:
            differing += 1
            print(f"{'differs' if check else 'written'}: {path.relative_to(ROOT)}")
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
    if check and differing:
        print("run `make generate` and commit what it writes", file=sys.stderr)
        return 1
    return 0


def _descriptions() -> Iterator[tuple[Path, str]]:
    for event in ALL_EVENTS:
        yield DOCS / "events" / f"{event.TYPE}.json", _json(event_schema(event))
    for name in SERVICES:
        service = described_service(name)
        yield DOCS / "openapi" / f"{name}.json", _json(service.api.openapi())
        yield DOCS / "asyncapi" / f"{name}.json", _json(asyncapi(name))
    with tempfile.TemporaryDirectory() as folder:
        for name, schema in dumped_schemas(Path(folder)):
            yield ROOT / "services" / name / "schema.sql", schema


def described_service(name: str) -> Service:
    """The API of a service, put together with settings that reach nothing."""
    module: Any = import_module(f"services.{name}.__main__")
    settings = module.Settings(
        environment="local",
        database_url="postgresql://nowhere",
        system_database_url="postgresql://nowhere",
        kafka_bootstrap="nowhere:1",
        http_port=1,
        auth_issuer="nobody",
        auth_public_key="none",
        **({"secrets_keys": ANY_KEY} if name == "payments" else {}),
        **({"smtp_host": "nowhere", "smtp_port": 1} if name == "alerts" else {}),
    )
    service: Service = module.build(settings, "api")
    return service


def _refused(path: Path, before: str, after: str) -> list[str]:
    if path.parent.name != "events" or not before:
        return []
    return breaking_changes(json.loads(before), json.loads(after))


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


if __name__ == "__main__":
    sys.exit(main())
