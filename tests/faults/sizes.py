"""Short in `make test`, long by `make faults`."""

import os

LONG = os.environ.get("TAKINGS_FAULTS") == "long"


def size(*, short: int, long: int) -> int:
    """How much of something this run does."""
    return long if LONG else short
