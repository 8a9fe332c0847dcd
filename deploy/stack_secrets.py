"""The secrets of a stack: made up once, kept in its state folder."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from deploy.databases import role_names
from deploy.state import read_json, write_private_json


@dataclass(frozen=True)
class StackSecrets:
    """What nobody but the stack needs to know."""

    passwords: Mapping[str, str]  # by database role
    payments_key: str  # a Fernet key


def read_or_make_secrets(state: Path) -> StackSecrets:
    """The secrets of the state folder; what is missing is made."""
    file = state / "secrets.json"
    before = read_json(file) or {}
    known = before.get("passwords", {})
    passwords = {role: known.get(role) or secrets.token_urlsafe(24) for role in role_names()}
    payments_key = before.get("payments_key") or Fernet.generate_key().decode()
    write_private_json(file, {"passwords": passwords, "payments_key": payments_key})
    return StackSecrets(passwords, payments_key)
