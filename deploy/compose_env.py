"""The secrets of docker-compose.yml: made once, kept in a .env that only its owner can read."""

import base64
import re
import secrets
from pathlib import Path

from cryptography.fernet import Fernet

from deploy.databases import role_names
from deploy.state import state_folder, write_private
from deploy.tokens import ISSUER, TokenIssuer

LINE = re.compile(r"^([A-Z_]+)=(.*)$")


def write_compose_env(file: Path) -> list[str]:
    """Add what is missing to `file` and return the names of what was added; nothing that is there is changed.

    One exception: a stack that trusts the development issuer is given the present key of the state folder.
    """
    before = _read(file)
    made = {name: value for name, value in _fresh_values().items() if name not in before}
    values = before | made
    if values["TAKINGS_AUTH_ISSUER"] == ISSUER:
        values["TAKINGS_AUTH_PUBLIC_KEY"] = _quoted(TokenIssuer(state_folder()).public_key)
    write_private(file, "".join(f"{name}={value}\n" for name, value in values.items()))
    return list(made)


def _fresh_values() -> dict[str, str]:
    """A development stack; for production set TAKINGS_ENVIRONMENT=production and the issuer and key of your own."""
    return {
        "TAKINGS_ENVIRONMENT": "local",
        "TAKINGS_AUTH_ISSUER": ISSUER,
        "TAKINGS_AUTH_PUBLIC_KEY": "",
        "TAKINGS_POSTGRES_PASSWORD": secrets.token_urlsafe(24),
        "TAKINGS_KAFKA_CLUSTER_ID": "T" + base64.urlsafe_b64encode(secrets.token_bytes(16)).decode()[1:22],
        "PAYMENTS_SECRETS_KEYS": Fernet.generate_key().decode(),
        **{f"{role.upper()}_PASSWORD": secrets.token_urlsafe(24) for role in role_names()},
    }


def _read(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    found = (LINE.match(line) for line in file.read_text().splitlines())
    return {match.group(1): match.group(2) for match in found if match}


def _quoted(pem: str) -> str:
    return '"' + pem.strip().replace("\n", "\\n") + '"'
