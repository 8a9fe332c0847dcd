"""The range of days that a report is about."""

from datetime import date
from typing import Annotated

from fastapi import Depends, Query

from shared.errors import Invalid

LONGEST_DAYS = 3_660  # ten years; without an end, a report is of all time


class Days:
    """Inclusive days in the tenant's time zone; an absent end is open. Raises Invalid."""

    def __init__(
        self,
        date_from: Annotated[date | None, Query(description="First day, in the tenant's time zone")] = None,
        date_to: Annotated[date | None, Query(description="Last day, inclusive")] = None,
    ) -> None:
        if date_from is not None and date_to is not None:
            if date_from > date_to:
                raise Invalid("date_from is after date_to.", field="date_from")
            if (date_to - date_from).days >= LONGEST_DAYS:
                raise Invalid(f"A range has at most {LONGEST_DAYS} days.", field="date_to")
        self.date_from = date_from
        self.date_to = date_to

    @property
    def first(self) -> date:
        """The first day, of all when open."""
        return self.date_from or date.min

    @property
    def last(self) -> date:
        """The last day, of all when open."""
        return self.date_to or date.max


Range = Annotated[Days, Depends()]
