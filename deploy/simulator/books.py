"""The books as the services show them: every figure here was read from an API, none was added to what was sent."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import quote

from deploy.simulator.client import DemoFailed
from deploy.simulator.expected import GROUPINGS, NOBODY, Line
from deploy.simulator.tenant import Stage

LONGEST_DAYS = 3650  # of a report


@dataclass(frozen=True)
class Revenue:
    """The revenue report over the run's days: its total, by day, and by each grouping (method, fleet, …)."""

    total: Line = field(default_factory=Line)
    by_day: dict[str, Line] = field(default_factory=dict)
    by: dict[str, dict[str, Line]] = field(default_factory=dict)
    totals: dict[str, Line] = field(default_factory=dict)  # as each grouping's own answer states them


@dataclass(frozen=True)
class Listing:
    """A listing read to its end: sums by status (or by kind and status), and how many ids occurred more than once."""

    lines: dict[str, Line] = field(default_factory=dict)
    repeated_ids: int = 0

    def line(self, status: str) -> Line:
        """The sum and count of one status."""
        return self.lines.get(status, Line())

    @property
    def amount(self) -> int:
        """The sum over all statuses."""
        return sum(line.amount for line in self.lines.values())


@dataclass(frozen=True)
class Balances:
    """What each payee has to get or owes, in minor units; payees with nothing are in `payees` alone."""

    payees: int = 0
    available: dict[str, int] = field(default_factory=dict)
    owed: dict[str, int] = field(default_factory=dict)
    locked: int = 0


@dataclass(frozen=True)
class Alerts:
    """Alerts by kind, how many of them are marked mailed, and the mails the mail catcher holds."""

    kinds: dict[str, int] = field(default_factory=dict)
    mailed: int = 0
    mails: int = 0

    @property
    def count(self) -> int:
        """All alerts."""
        return sum(self.kinds.values())


@dataclass(frozen=True)
class Books:
    """All that was read; `paid_by_payee`: minor units disbursed to each payee, `payouts_of`: in how many payouts."""

    payments: Listing
    revenue: Revenue
    profits: dict[str, int]
    payouts: Listing
    paid_by_payee: dict[str, int]
    payouts_of: dict[str, int]
    before: Balances
    after: Balances
    history: Listing
    alerts: Alerts
    samples: dict[str, str] = field(default_factory=dict)  # request id -> status


async def read_profits(stage: Stage) -> dict[str, int]:
    """The profits report over all time: every whole-number field of it, in minor units."""
    report = await stage.reporting.get("/api/v1/reports/profits", currency=stage.plan.currency)
    return {name: value for name, value in report.items() if isinstance(value, int) and not isinstance(value, bool)}


async def read_payments(stage: Stage) -> Listing:
    """All payments by status, from the payments service."""
    return _listing([(item["status"], item) for item in await stage.payments.items("/api/v1/payments")])


async def read_history(stage: Stage, *, first: date, last: date) -> Listing:
    """The history of a range of days, as "payment completed", "payout disbursed", …, from the reporting service."""
    days = _days(first, last)
    items = await stage.reporting.items("/api/v1/reports/history", currency=stage.plan.currency, **days)
    return _listing([(f"{item['kind']} {item['status']}", item) for item in items])


async def read_revenue(stage: Stage, *, first: date, last: date) -> Revenue:
    """The revenue of a range of days by day and by every grouping. Raises DemoFailed when a group comes twice."""
    days = {"currency": stage.plan.currency, **_days(first, last)}
    path = "/api/v1/reports/revenue"
    report = await stage.reporting.get(path, group_by="day", **days)
    by_day = {period["date"]: Line(period["revenue"], period["count"]) for period in report["periods"]}
    by: dict[str, dict[str, Line]] = {}
    totals: dict[str, Line] = {}
    for grouping in GROUPINGS:
        groups: dict[str, Line] = {}
        async for page in stage.reporting.pages(path, group_by="month", by=grouping, **days):
            totals[grouping] = Line(page["total"], page["count"])
            for group in page["groups"]:
                key = NOBODY if group["key"] is None else str(group["key"])
                if key in groups:
                    raise DemoFailed(f"GET {path} by {grouping}: the group {key!r} came twice")
                groups[key] = Line(group["revenue"], group["count"])
        by[grouping] = groups
    return Revenue(Line(report["total"], report["count"]), by_day, by, totals)


async def read_balances(stage: Stage) -> Balances:
    """All payees' balances, from the payouts service."""
    items = await stage.payouts.items("/api/v1/balances", currency=stage.plan.currency)
    return Balances(
        payees=len(items),
        available={item["payee_id"]: item["available"] for item in items if item["available"]},
        owed={item["payee_id"]: item["owed"] for item in items if item["owed"]},
        locked=sum(item["locked"] for item in items),
    )


async def read_payouts(stage: Stage) -> tuple[Listing, dict[str, int], dict[str, int]]:
    """All payouts by status, the sum disbursed to each payee, and how many payouts each payee has."""
    items = await stage.payouts.items("/api/v1/payouts")
    paid: Counter[str] = Counter()
    for item in items:
        if item["status"] == "disbursed":
            paid[item["payee_id"]] += item["amount"]
    return (
        _listing([(item["status"], item) for item in items]),
        dict(paid),
        dict(Counter(item["payee_id"] for item in items)),
    )


async def read_alerts(stage: Stage) -> Alerts:
    """The alerts by kind, and the mails that reached the finance officer."""
    items = await stage.alerts.items("/api/v1/alerts")
    catcher = await stage.mail.get("/messages", to=stage.plan.finance_address, limit=1)
    return Alerts(
        kinds=dict(Counter(item["kind"] for item in items)),
        mailed=sum(item["mail"] == "sent" for item in items),
        mails=catcher["total"],
    )


async def read_samples(stage: Stage, request_ids: Sequence[str]) -> dict[str, str]:
    """The status of a few requests; "unknown" of one that the payments service does not have."""
    statuses: dict[str, str] = {}
    for name in request_ids:
        answer = await stage.booking.call("GET", "/api/v1/requests/" + quote(name, safe=""), expect=(200, 404))
        statuses[name] = answer.body["status"] if answer.status == 200 else "unknown"
    return statuses


def _days(first: date, last: date) -> dict[str, str]:
    """The range as the API takes it; one that is too long for it is left open, which is all time."""
    if (last - first).days > LONGEST_DAYS:
        return {}
    return {"date_from": first.isoformat(), "date_to": last.isoformat()}


def _listing(items: list[tuple[str, dict[str, Any]]]) -> Listing:
    lines: dict[str, Line] = {}
    for key, item in items:
        line = lines.get(key, Line())
        lines[key] = Line(line.amount + item["amount"], line.count + 1)
    ids = {item["id"] for _, item in items}
    return Listing(lines, len(items) - len(ids))
