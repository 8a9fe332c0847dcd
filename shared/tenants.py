"""Each service's copy of the tenants, kept from `tenant-configured`; an event waits a bounded time for its tenant."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from msgspec.structs import asdict

from shared.clocks import utc_now
from shared.db import Connection, Database, as_rows
from shared.errors import Forbidden
from shared.events import Received

KEEP = """
INSERT INTO tenants (tenant_id, name, time_zone, currency, version, updated_at)
SELECT DISTINCT ON (tenant_id) t.*, $2::timestamptz
FROM json_to_recordset($1) AS t (tenant_id text, name text, time_zone text, currency text, version bigint)
ORDER BY tenant_id, version DESC
ON CONFLICT (tenant_id) DO UPDATE
SET name = excluded.name, time_zone = excluded.time_zone, currency = excluded.currency,
    version = excluded.version, updated_at = excluded.updated_at
WHERE tenants.version < excluded.version
"""
KNOWN = "SELECT tenant_id FROM tenants WHERE tenant_id = ANY ($1)"
ONE = "SELECT tenant_id, time_zone, currency FROM tenants WHERE tenant_id = $1"
ZONES = "SELECT tenant_id, time_zone FROM tenants WHERE tenant_id = ANY ($1)"
NOT_KNOWN = "This tenant is not known here (yet)."
POLL_S = 0.1
GIVEN_UP_FOR_S = 60.0
SHORT_WAIT_S = 0.5
MANY = 10  # tenants given up on: whoever sends such events would have all others wait


@dataclass(frozen=True, slots=True)
class Tenant:
    """What a service needs to know of a tenant."""

    tenant_id: str
    zone: ZoneInfo
    currency: str


async def find(conn: Connection, tenant_id: str) -> Tenant:
    """The tenant. Raises Forbidden when there is none of that id (yet)."""
    row = await conn.fetchrow(ONE, tenant_id)
    if row is None:
        raise Forbidden(NOT_KNOWN)
    return Tenant(row["tenant_id"], ZoneInfo(row["time_zone"]), row["currency"])


async def zones(conn: Connection, tenant_ids: set[str]) -> dict[str, ZoneInfo]:
    """The time zones in which the tenants' days are cut."""
    return {row["tenant_id"]: ZoneInfo(row["time_zone"]) for row in await conn.fetch(ZONES, sorted(tenant_ids))}


class TenantCopy:
    """The copy in `db`: keeps it, and waits for what is missing in it."""

    def __init__(self, db: Database, *, wait_s: float) -> None:
        self._db = db
        self._wait_s = wait_s
        self._known: set[str] = set()
        self._given_up_at: dict[str, float] = {}

    async def keep(self, events: Sequence[Received]) -> None:
        """Apply `tenant-configured` events; the highest version wins. Raises ValueError for a time zone that is none."""
        for event in events:
            _refuse_bad_zone(event.data.time_zone)  # this event's fault, not that of all events of the tenant
        rows = [{"tenant_id": event.tenant_id, **asdict(event.data)} for event in events]
        async with self._db.transaction(*(event.tenant_id for event in events)) as conn:
            await conn.execute(KEEP, as_rows(rows), utc_now())

    async def unknown(self, tenant_ids: set[str]) -> set[str]:
        """Those that are not in the copy now; who was in it once stays in it."""
        new = tenant_ids - self._known
        if new:
            async with self._db.transaction(*new) as conn:
                self._known.update(row["tenant_id"] for row in await conn.fetch(KNOWN, sorted(new)))
        return new - self._known

    async def refuse_unknown(self, tenant_id: str) -> None:
        """Raises Forbidden while there is none of that id."""
        if await self.unknown({tenant_id}):
            raise Forbidden(NOT_KNOWN)

    async def wait_for(self, tenant_ids: set[str]) -> set[str]:
        """Those that are still unknown after the waiting time, which is short for those given up on and while they are many."""
        started = time.monotonic()
        self._given_up_at = {each: at for each, at in self._given_up_at.items() if started - at < GIVEN_UP_FOR_S}
        is_hopeless = tenant_ids <= self._given_up_at.keys() or len(self._given_up_at) >= MANY
        wait_s = min(self._wait_s, SHORT_WAIT_S) if is_hopeless else self._wait_s
        while unknown := await self.unknown(tenant_ids):
            if time.monotonic() - started >= wait_s:
                self._given_up_at |= dict.fromkeys(unknown, time.monotonic())
                return unknown
            await asyncio.sleep(POLL_S)
        return set()


def _refuse_bad_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:  # the name of a folder, or one too long, is an OSError
        raise ValueError(f"{name[:100]!r} is no time zone") from error


class AnyTenant:
    """For the consumer of `tenants` itself, whose events bring their tenant."""

    async def unknown(self, _tenant_ids: set[str]) -> set[str]:
        """None."""
        return set()

    async def wait_for(self, _tenant_ids: set[str]) -> set[str]:
        """None."""
        return set()
