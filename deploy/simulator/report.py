"""The report as a JSON document: money in minor units as read from the services' APIs, and the checks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from deploy.simulator.books import Books
from deploy.simulator.checks import Check, Played
from deploy.simulator.expected import Expected, Line


def build_report(
    played: Played, expected: Expected, books: Books, checks: list[Check], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """The document; `seconds`: setup, ingest, settle, payouts, total. Amounts in the tenant's minor units."""
    revenue, payouts = books.revenue, books.payouts
    rejected = sorted(played.rejected.items(), key=lambda item: (-item[1], item[0]))
    return {
        "trips": {
            "read": played.read,
            "requests": played.registered,
            "nothing_due": expected.nothing_due,
            "rejected": [{"reason": reason, "count": count} for reason, count in rejected],
        },
        "payments": {
            "completed": books.payments.line("completed").count,
            "failed": books.payments.line("failed").count,
            "duplicates_refused": played.sent.answers["duplicate"],
            "forged_refused": played.sent.forged_refused,
        },
        "revenue": {
            "total": revenue.total.amount,
            "count": revenue.total.count,
            "by_day": _lines(revenue.by_day),
            **{f"by_{name}": _lines(revenue.by.get(name, {})) for name in ("method", "fleet", "vehicle", "payee")},
        },
        "payouts": {
            "requested": payouts.amount,
            "disbursed": books.profits["payouts_disbursed"],
            "payees_paid": len(books.paid_by_payee),
            "payees_owing": len(books.after.owed),
            "owed": books.profits["owed_by_payees"],
        },
        "profits": dict(books.profits),
        "alerts": {
            "payment_failed": books.alerts.kinds.get("payment_failed", 0),
            "high_value": books.alerts.kinds.get("high_value", 0),
            "mails": books.alerts.mails,
        },
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the document, indented, with a newline at its end."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def _lines(lines: Mapping[str, Line]) -> dict[str, dict[str, int]]:
    return {key: {"amount": line.amount, "count": line.count} for key, line in sorted(lines.items())}
