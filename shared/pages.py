"""Cursor pages and day ranges, as every list of the API has them."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from fastapi import Query
from pydantic import BaseModel

from shared.errors import Invalid

Item = TypeVar("Item")
PAGE_LIMIT = 1_000
DISTANT_PAST = datetime(1970, 1, 1, tzinfo=UTC)
DISTANT_FUTURE = datetime(9999, 1, 1, tzinfo=UTC)

RowPlace = tuple[datetime, UUID] | tuple[None, None]  # of a list ordered by time and id
FIRST_PAGE: RowPlace = (None, None)

Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="Items on a page")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")]


class Page(BaseModel, Generic[Item]):
    """A page of a list; `next_cursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None = None


class BadCursor(Invalid):
    """The cursor was not made by this list."""

    code = "bad-cursor"

    def __init__(self) -> None:
        """Answers 422."""
        super().__init__("The cursor is not one of this list.", field="cursor")


def time_cursor(at: datetime, row_id: str) -> str:
    """The cursor after the row `(at, row_id)` of a list ordered by both."""
    return write_cursor(at.isoformat(), row_id)


def read_time_cursor(cursor: str | None) -> RowPlace:
    """The row after which the page begins. Raises BadCursor."""
    if cursor is None:
        return FIRST_PAGE
    at, row_id = read_cursor(cursor, 2)
    try:
        instant, last_id = datetime.fromisoformat(at), UUID(row_id)
        if instant.tzinfo is None:
            raise ValueError("no offset")
        return instant.astimezone(UTC), last_id
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BadCursor from error


def write_cursor(*parts: str | int) -> str:
    """An opaque text that carries `parts`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def read_text_cursor(cursor: str | None) -> str | None:
    """The text after which the page begins; None for the first page. Raises BadCursor."""
    if cursor is None:
        return None
    (text,) = read_cursor(cursor, 1)
    if not isinstance(text, str) or "\0" in text:
        raise BadCursor
    return text


def read_cursor(cursor: str, length: int) -> list[Any]:
    """The `length` parts of a cursor. Raises BadCursor."""
    try:
        parts = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise BadCursor from error
    if not isinstance(parts, list) or len(parts) != length:
        raise BadCursor
    return parts


def page(rows: Sequence[Item], limit: int, cursor_of: Any) -> tuple[Sequence[Item], str | None]:
    """Cut `rows`, fetched with one more than `limit`, to a page and its next cursor (`cursor_of(last row)`)."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], cursor_of(rows[limit - 1])


def day_range(date_from: date | None, date_to: date | None, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The instants [from, to) of an inclusive range of days in `zone`; an open end is unbounded. Raises Invalid."""
    if date_from is not None and date_to is not None and date_from > date_to:
        raise Invalid("date_from is after date_to.", field="date_from")
    start = datetime.combine(date_from, time(), zone) if date_from and date_from > DISTANT_PAST.date() else DISTANT_PAST
    end = (
        datetime.combine(date_to + timedelta(days=1), time(), zone)
        if date_to and date_to < date.max
        else DISTANT_FUTURE
    )
    return start, end
