"""The clock, and how far those of two hosts differ at most."""

from datetime import UTC, datetime, timedelta

CLOCKS_DIFFER = timedelta(minutes=10)


def utc_now() -> datetime:
    """Read where work begins, and passed in from there."""
    return datetime.now(UTC)
