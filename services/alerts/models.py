"""Rules and what they raise: frozen data, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Kind(StrEnum):
    """What a rule watches for."""

    PAYMENT_FAILED = "payment_failed"
    HIGH_VALUE = "high_value"
    PAYOUT_FAILED = "payout_failed"


@dataclass(frozen=True, slots=True)
class RuleTerms:
    """What a rule says. `thresholds`: currency to minor units, for HIGH_VALUE only; `recipients`: e-mail addresses."""

    kind: Kind
    thresholds: Mapping[str, int]
    recipients: tuple[str, ...]
    cooldown_seconds: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a tenant."""

    tenant_id: str
    rule_id: UUID
    terms: RuleTerms


@dataclass(frozen=True, slots=True)
class Alert:
    """What a rule has raised about its subject, a payment or payout."""

    tenant_id: str
    alert_id: UUID
    rule_id: UUID
    kind: Kind
    subject: str
    fleet_id: str | None
    summary: str
    raised_at: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """An alert that waits to be mailed."""

    alert_id: UUID
    kind: str
    summary: str
    raised_at: datetime


class MailNotSent(Exception):
    """The server did not take a mail; `permanent`: it says that it never will."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        """`reason` is the server's, for the operator."""
        super().__init__(reason)
        self.permanent = permanent
