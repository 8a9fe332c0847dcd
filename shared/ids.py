"""Ids: UUIDv7, so that what is written together lies together in every index."""

from uuid import UUID

import uuid_utils
from asyncpg.pgproto import pgproto


def new_id() -> UUID:
    """A new UUIDv7, of the driver's own class, as rows have it: made and written in a fifth of the time."""
    return pgproto.UUID(uuid_utils.uuid7().bytes)
