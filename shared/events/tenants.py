"""Topic `tenants`, published by payments, keyed by tenant."""

from typing import ClassVar

from shared.events import Event


class TenantConfigured(Event, frozen=True, kw_only=True):
    """A tenant was created or changed; the highest version is the one in force."""

    TYPE: ClassVar[str] = "tenant-configured"
    TOPIC: ClassVar[str] = "tenants"

    name: str
    time_zone: str
    currency: str
    version: int


EVENTS: tuple[type[Event], ...] = (TenantConfigured,)
