"""Ids: in the order of time, so that what is written together lies together in every index."""

from datetime import datetime
from hashlib import sha256
from uuid import UUID

import uuid_utils
from asyncpg.pgproto import pgproto


def new_id() -> UUID:
    """A new UUIDv7, of the driver's own class, as rows have it: made and written in a fifth of the time."""
    return pgproto.UUID(uuid_utils.uuid7().bytes)


def least_id(at: datetime) -> UUID:
    """What ids made at that instant begin with; none of them is lower."""
    return UUID(int=int(at.timestamp() * 1000) << 80)


def derived_id(at: datetime, *names: str) -> UUID:
    """The id of what `names` name at that instant: the same one whoever makes it, however often; a UUIDv8."""
    digest = int.from_bytes(sha256("\0".join(names).encode()).digest()[:10])
    version_and_variant = 0x8 << 76 | 0b10 << 62
    free = (1 << 80) - 1 & ~(0xF << 76 | 0b11 << 62)
    return UUID(int=least_id(at).int | digest & free | version_and_variant)
