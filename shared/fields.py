"""The field types of the HTTP APIs: what the database and the events can hold, refused at the door otherwise."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WrapValidator,
)

from shared.money import LIMIT, exponent

Item = TypeVar("Item")
RFC3339_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")  # else a number would be taken for seconds since 1970


def _known(currency: str) -> str:
    exponent(currency)
    return currency


def _written(instant: Any) -> Any:
    if not isinstance(instant, str) or not RFC3339_DATE.match(instant):
        raise ValueError("an instant is written as in RFC 3339: 2026-03-01T08:00:00+03:00")
    return instant


class ImplausibleInstant(ValueError):
    """No day could be cut from it in every zone."""


EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def plausible(instant: datetime) -> datetime:
    """The instant in UTC; days can be cut from it in every zone. Raises ImplausibleInstant before 2000 and from 2100 on."""
    if not EARLIEST <= instant < LATEST:
        raise ImplausibleInstant("an instant lies between 2000 and 2100")
    return instant.astimezone(UTC)


# No control characters: U+0000 passes JSON and breaks PostgreSQL's jsonb.
Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
# An id of our API: it stands in a path.
PathId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/]+$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Currency = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{3}$"),
    AfterValidator(_known),
    Field(description="ISO 4217", examples=["KES"]),
]
Due = Annotated[int, Field(strict=True, ge=0, le=LIMIT, description="Minor units")]
Amount = Annotated[int, Field(strict=True, gt=0, le=LIMIT, description="Minor units")]
Method = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$"), Field(examples=["mobile"])]
Instant = Annotated[
    AwareDatetime, BeforeValidator(_written), AfterValidator(plausible), Field(description="RFC 3339 with offset")
]


class Body(BaseModel):
    """A request body: unknown fields are refused, since a misspelt optional field would be lost without a word."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Items(Body, Generic[Item]):
    """A batch of what the single call takes; described so, but left to be checked one by one: a bad one fails alone."""

    items: Annotated[
        list[Annotated[Item, WrapValidator(lambda given, _check: given)]],
        Field(max_length=1_000, description="At most 1,000"),
    ]


class ItemResult(BaseModel):
    """What became of one item of a batch: the status and the answer that it alone would have got."""

    index: int
    status: int
    id: str | None = None
    problem: dict[str, Any] | None = None


class Results(BaseModel):
    """One result per item, in the order given."""

    results: list[ItemResult]
