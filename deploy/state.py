"""The one folder that keeps everything of a local stack: data, logs, ports, secrets."""

import json
import os
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]


def state_folder() -> Path:
    """`.takings` in the project, or what TAKINGS_STATE names."""
    return Path(os.environ.get("TAKINGS_STATE") or PROJECT / ".takings").resolve()


def read_json(file: Path) -> Any:
    """The content of a JSON file; None when it is missing or broken."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def write_private(file: Path, content: str) -> None:
    """Replace the file in one step, readable by its owner only: a reader sees the old content or the new."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(content)
    fresh.replace(file)


def write_private_json(file: Path, content: Any) -> None:
    """As `write_private`."""
    write_private(file, json.dumps(content, indent=2) + "\n")
