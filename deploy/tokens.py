"""The development issuer: signs tokens for a local stack with a key that only this stack trusts."""

import time
from collections.abc import Sequence
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.errors import StackError
from deploy.state import write_private

ISSUER = "takings-development"  # services trust it only with ENVIRONMENT=local
AUDIENCE = "takings"
KEY_FILE = "token-key.pem"
ROLES = ("operator", "admin", "finance", "manager", "driver", "client", "system")
DEFAULT_LIFETIME_SECONDS = 12 * 3600


class TokenIssuer:
    """An Ed25519 key pair in the state folder, made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        """Read the key of `folder`, or make it."""
        file = folder / KEY_FILE
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_key(file)
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise StackError(f"{file} is not an Ed25519 key; remove it to get a new one")
        self._key = key

    @staticmethod
    def has_key(folder: Path) -> bool:
        """Whether an issuer has been made in this folder."""
        return (folder / KEY_FILE).exists()

    @property
    def public_key(self) -> str:
        """The public key in PEM, as the services' AUTH_PUBLIC_KEY."""
        pem = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem.decode()

    def mint(
        self,
        roles: Sequence[str],
        *,
        tenant_id: str | None = None,
        subject: str | None = None,
        driver_id: str | None = None,
        client_id: str | None = None,
        fleet_ids: Sequence[str] | None = None,
        lifetime_seconds: int = DEFAULT_LIFETIME_SECONDS,
    ) -> str:
        """A token of `roles`, signed; StackError for a role that does not exist."""
        for role in roles:
            if role not in ROLES:
                raise StackError(f"no role {role!r}: it is one of {', '.join(ROLES)}")
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject or driver_id or client_id or f"development-{'-'.join(roles)}",
            "iat": now,
            "exp": now + lifetime_seconds,
            "roles": list(roles),
        }
        optional = {"tenant_id": tenant_id, "driver_id": driver_id, "client_id": client_id}
        claims |= {name: value for name, value in optional.items() if value is not None}
        if fleet_ids:
            claims["fleet_ids"] = list(fleet_ids)
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": ISSUER})


def _write_key(file: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(file, pem.decode())
