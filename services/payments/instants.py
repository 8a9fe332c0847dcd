"""Which instants may be said of what has happened; pure."""

from datetime import datetime

from shared.clocks import CLOCKS_DIFFER
from shared.errors import Invalid


class NotYet(Invalid):
    """What is said to have happened lies further ahead than clocks differ."""

    code = "in-the-future"


def not_yet(instant: datetime, *, field: str, now: datetime) -> NotYet | None:
    """The refusal of an instant in `field` that cannot have been yet, or None."""
    if instant <= now + CLOCKS_DIFFER:
        return None
    return NotYet(f"{field} lies in the future.", field=field)
