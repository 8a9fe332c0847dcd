"""GET /reports/revenue: money received by period, and by fleet, route, vehicle, payee or method."""

from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from services.reporting.api.days import Range
from services.reporting.queries import Slice, read_groups, read_periods
from services.reporting.rollups import FLEET, NONE, TOTAL
from shared import tenants
from shared.auth import Allow, Principal, Role
from shared.db import Connection, Database
from shared.errors import Forbidden
from shared.fields import Currency
from shared.pages import BadCursor, Cursor, Limit, read_cursor, write_cursor

Reader = Annotated[Principal, Depends(Allow(Role.ADMIN, Role.FINANCE, Role.MANAGER))]
GroupBy = Annotated[Literal["day", "week", "month"], Query(description="week: ISO week, dated by its Monday")]
By = Annotated[Literal["fleet", "route", "vehicle", "payee", "method"] | None, Query(description="Also by group")]
PERIODS_ON_A_PAGE = 50_000  # a page of groups ends earlier than its limit when they have more periods than this
EXAMPLE: JsonDict = {
    "currency": "KES",
    "date_from": "2026-03-01",
    "date_to": "2026-03-31",
    "group_by": "month",
    "periods": [{"date": "2026-03-01", "revenue": 125000, "count": 10}],
    "total": 125000,
    "average": 12500,
    "count": 10,
    "by": "fleet",
    "groups": [
        {
            "key": "sacco-1",
            "revenue": 125000,
            "count": 10,
            "average": 12500,
            "periods": [{"date": "2026-03-01", "revenue": 125000, "count": 10}],
        }
    ],
    "next_cursor": None,
}


@dataclass(slots=True)  # not frozen: a report has thousands of them, and each field would be set by a call
class Period:
    """A period with payments: its first day, revenue in minor units, number of payments."""

    date: date
    revenue: int
    count: int


class Group(BaseModel):
    """One fleet, route, …; `key` is null for payments that name none. `average` is rounded half up."""

    key: str | None
    revenue: int
    count: int
    average: int
    periods: list[Period]


class Revenue(BaseModel):
    """Completed payments, unmatched and overpaid ones included, in minor units of one currency.

    By payee, a payment's revenue is split by their shares and counts as one for each of them.
    """

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    currency: str
    date_from: date | None
    date_to: date | None
    group_by: str
    periods: list[Period]
    total: int
    average: int
    count: int
    by: str | None = None
    groups: list[Group] | None = None
    next_cursor: str | None = None


def router(db: Database) -> APIRouter:
    """The route of revenue."""
    routes = APIRouter(prefix="/api/v1/reports", tags=["reports"])

    @routes.get("/revenue")
    async def revenue(
        caller: Reader,
        days: Range,
        *,
        group_by: GroupBy = "day",
        by: By = None,
        currency: Currency | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Revenue:
        """Revenue of a range of days; a manager's is that of the own fleets, grouped by fleet only."""
        fleets = caller.fleets
        if fleets is not None and by not in {None, FLEET}:
            raise Forbidden("A manager's revenue is by fleet only.")
        after = _place(cursor)
        async with db.transaction(caller.tenant, snapshot=True) as conn:
            tenant = await tenants.find(conn, caller.tenant)
            wanted = Slice(
                tenant.tenant_id, currency or tenant.currency, days.first, days.last, group_by, members=fleets
            )
            periods = await read_periods(conn, wanted, TOTAL if fleets is None else FLEET)
            groups, next_cursor = await _groups(conn, wanted, by, after, limit) if by else (None, None)
        total, count = sum(p["revenue"] for p in periods), sum(p["count"] for p in periods)
        return Revenue(
            currency=wanted.currency,
            date_from=days.date_from,
            date_to=days.date_to,
            group_by=group_by,
            periods=[Period(*period) for period in periods],
            total=total,
            average=average(total, count),
            count=count,
            by=by,
            groups=groups,
            next_cursor=next_cursor,
        )

    return routes


async def _groups(
    conn: Connection, wanted: Slice, by: str, after: tuple[int, str] | None, limit: int
) -> tuple[list[Group], str | None]:
    rows = await read_groups(conn, wanted, by, after=after, limit=limit, periods_limit=PERIODS_ON_A_PAGE)
    shown = [row for row in rows if row["dates"]]
    groups = [
        Group(
            key=None if row["member"] == NONE else row["member"],
            revenue=row["revenue"],
            count=row["count"],
            average=average(row["revenue"], row["count"]),
            periods=sorted(map(Period, row["dates"], row["revenues"], row["counts"]), key=attrgetter("date")),
        )
        for row in shown
    ]
    is_last = len(shown) == len(rows)
    return groups, None if is_last else write_cursor(shown[-1]["revenue"], shown[-1]["member"])


def average(total: int, count: int) -> int:
    """`total` divided by `count`, rounded half up; 0 when there is nothing."""
    return (2 * total + count) // (2 * count) if count else 0


def _place(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    revenue, member = read_cursor(cursor, 2)
    if not isinstance(revenue, int) or abs(revenue) >= 2**63 or not isinstance(member, str) or "\0" in member:
        raise BadCursor
    return revenue, member
