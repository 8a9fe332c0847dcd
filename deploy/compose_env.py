"""The secrets of docker-compose.yml: made once, kept in a .env that only its owner can read."""

import base64
import re
import secrets
from pathlib import Path

from cryptography.fernet import Fernet

from deploy.databases import role_names
from deploy.state import state_folder, write_private
from deploy.tokens import ISSUER, TokenIssuer

SETTING = re.compile(r"^(?:export\s+)?(\w+)=(.*)$", re.MULTILINE)
KEY = re.compile(r"^((?:export\s+)?TAKINGS_AUTH_PUBLIC_KEY=).*$", re.MULTILINE)


def write_compose_env(file: Path) -> list[str]:
    """Add what is missing to `file` and return the names of what was added; nothing that is there is changed.

    One exception: a stack that trusts the development issuer is given the present key of the state folder.
    """
    before = file.read_text() if file.exists() else ""
    present = dict(SETTING.findall(before))
    made = {name: value for name, value in _fresh_values().items() if name not in present}
    after = before if not before or before.endswith("\n") else f"{before}\n"
    after += "".join(f"{name}={value}\n" for name, value in made.items())
    if (present | made)["TAKINGS_AUTH_ISSUER"] == ISSUER:
        key = _quoted(TokenIssuer(state_folder()).public_key)
        after = KEY.sub(lambda line: f"{line[1]}{key}", after)
    write_private(file, after)
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


def _quoted(pem: str) -> str:
    return '"' + pem.strip().replace("\n", "\\n") + '"'
