"""How far the clocks of two hosts differ at most."""

from datetime import timedelta

CLOCKS_DIFFER = timedelta(minutes=10)
