"""Gateways: one adapter each behind one small contract; no business rule in here."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.payments.models import Callback, Receipt


class BadSignature(Exception):
    """The delivery was not signed by who holds one of the account's secrets, or too long ago."""


class BadCallback(ValueError):
    """The signed body is not a callback that this gateway sends; the text says why."""


class Gateway(Protocol):
    """What the webhook edge needs of a gateway."""

    def verify(self, headers: Mapping[bytes, bytes], body: bytes, secrets: Sequence[str], *, now: datetime) -> str:
        """The delivery's id. Raises BadSignature."""

    def parse(self, callback: Callback, *, tenant_id: str, account_id: str) -> Receipt:
        """What the callback says, in our words. Raises BadCallback."""

    def new_secret(self) -> str:
        """A new signing secret, in the gateway's own format."""
