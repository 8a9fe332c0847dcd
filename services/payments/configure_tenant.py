"""Create and change tenants, and tell every service about them."""

from datetime import datetime
from typing import NamedTuple

from shared import audit, outbox
from shared.db import Connection
from shared.errors import Conflict, NotFound
from shared.events.tenants import TenantConfigured
from shared.writes import write

CREATE = """
INSERT INTO tenants (tenant_id, name, time_zone, currency, version, updated_at) VALUES ($1, $2, $3, $4, 1, $5)
ON CONFLICT (tenant_id) DO NOTHING RETURNING tenant_id
"""
GET = "SELECT tenant_id, name, time_zone, currency, version FROM tenants WHERE tenant_id = $1"
LOCK = "SELECT tenant_id, name, time_zone, currency, version FROM tenants WHERE tenant_id = $1 FOR UPDATE"
CHANGE = "UPDATE tenants SET name = $2, currency = $3, version = version + 1, updated_at = $4 WHERE tenant_id = $1"


class TenantDiffers(Conflict):
    """The id is taken by a tenant with other properties."""

    code = "tenant-differs"


class TenantUnknown(NotFound):
    """No such tenant."""

    code = "tenant-unknown"


class Tenant(NamedTuple):
    """A tenant; its days and months are cut in `time_zone`, which never changes, since its books are cut already."""

    tenant_id: str
    name: str
    time_zone: str
    currency: str
    version: int = 1


async def create_tenant(conn: Connection, tenant: Tenant, *, actor: audit.Actor, now: datetime) -> bool:
    """Create `tenant` in the open transaction; False when it is there already, the same. Raises TenantDiffers."""
    if await conn.fetchval(CREATE, tenant.tenant_id, tenant.name, tenant.time_zone, tenant.currency, now) is None:
        known = await get_tenant(conn, tenant.tenant_id)
        if known[:4] != tenant[:4]:
            raise TenantDiffers(f"There is another tenant {tenant.tenant_id}.", field="tenant_id")
        return False
    await _tell(conn, None, tenant, actor, now)
    return True


async def change_tenant(
    conn: Connection, tenant_id: str, *, name: str | None, currency: str | None, actor: audit.Actor, now: datetime
) -> Tenant:
    """Change name or default currency; what is None stays. Raises TenantUnknown."""
    row = await conn.fetchrow(LOCK, tenant_id)
    if row is None:
        raise TenantUnknown(f"There is no tenant {tenant_id}.")
    before = Tenant(*row)
    after = before._replace(name=name or before.name, currency=currency or before.currency, version=before.version + 1)
    await conn.execute(CHANGE, tenant_id, after.name, after.currency, now)
    await _tell(conn, before, after, actor, now)
    return after


async def get_tenant(conn: Connection, tenant_id: str) -> Tenant:
    """The tenant. Raises TenantUnknown."""
    row = await conn.fetchrow(GET, tenant_id)
    if row is None:
        raise TenantUnknown(f"There is no tenant {tenant_id}.")
    return Tenant(*row)


async def _tell(conn: Connection, before: Tenant | None, after: Tenant, actor: audit.Actor, now: datetime) -> None:
    event = TenantConfigured(name=after.name, time_zone=after.time_zone, currency=after.currency, version=after.version)
    change = audit.Change(after.tenant_id, before._asdict() if before else None, after._asdict())
    await write(
        conn,
        outbox.add("payments", [outbox.Outgoing(after.tenant_id, after.tenant_id, event)], now=now),
        audit.record(actor, "configure-tenant", [change], tenant_id=after.tenant_id, now=now),
    )
