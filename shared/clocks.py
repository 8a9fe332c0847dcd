"""How far the clocks of two hosts differ at most, and what that makes of times that others say."""

from datetime import datetime, timedelta

from shared.errors import Invalid

CLOCKS_DIFFER = timedelta(minutes=10)


class NotYet(Invalid):
    """What is said to have happened lies further ahead than clocks differ."""

    code = "in-the-future"


def not_yet(instant: datetime, *, field: str, now: datetime) -> NotYet | None:
    """The refusal of an instant of `field` that cannot have been, or None."""
    if instant <= now + CLOCKS_DIFFER:
        return None
    return NotYet(f"{field} lies in the future.", field=field)
