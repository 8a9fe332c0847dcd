"""A rule as its table has it, and as the audit trail may show it."""

import hashlib
from typing import Any

import asyncpg
import msgspec

from services.alerts.models import Kind, RuleTerms


def terms_of(row: asyncpg.Record) -> RuleTerms:
    """The terms in a row of alert_rules."""
    return RuleTerms(
        Kind(row["kind"]),
        msgspec.json.decode(row["thresholds"], type=dict[str, int]),
        tuple(row["recipients"]),
        row["cooldown_seconds"],
        row["enabled"],
    )


def thresholds_json(terms: RuleTerms) -> str:
    """The thresholds as the column takes them."""
    return msgspec.json.encode(dict(terms.thresholds)).decode()


def audited(terms: RuleTerms) -> dict[str, Any]:
    """The terms for the audit trail: addresses, which are personal, as fingerprints that still show a change."""
    return {
        "kind": terms.kind,
        "thresholds": dict(terms.thresholds),
        "recipients": [hashlib.sha256(address.encode()).hexdigest()[:12] for address in terms.recipients],
        "cooldown_seconds": terms.cooldown_seconds,
        "enabled": terms.enabled,
    }
