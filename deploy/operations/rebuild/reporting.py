"""Rebuild reporting: project every event again beside the live tables, catch up, compare, swap."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from heapq import nlargest

from deploy.operations.access import CLOCK
from deploy.operations.rebuild.building import FEW, Building, build_and_swap
from deploy.operations.rebuild.differences import ComparedTable
from deploy.operations.rebuild.event_log import EventLog, event_logs
from deploy.operations.rebuild.rebuilt import Rebuilt
from deploy.operations.rebuild.shadow import Shadow, shadow
from services.reporting.project_events import project_events
from services.reporting.worker import EVENTS
from shared.db import bind_tenants, is_transient
from shared.events import Received
from shared.events.tenants import TenantConfigured
from shared.tenants import zones

# In the order in which a projection locks them. updated_at of a tenant is when the copy was made.
TENANT = {"tenant_id": "text"}
TABLES = (
    ComparedTable("tenants", TENANT, ("name", "time_zone", "currency", "version")),
    ComparedTable("payments", {**TENANT, "payment_id": "text"},
                  ("rank", "event_id", "status", "request_id", "transaction_id", "client_id", "amount", "applied", "fee",
                   "currency", "method", "at", "day", "fleet_id", "route_id", "vehicle_id", "platform", "payees", "flags")),
    ComparedTable("earnings", {**TENANT, "earning_id": "text"},
                  ("payment_id", "payee_id", "fleet_id", "currency", "gross", "commission", "amount", "cash_held", "at",
                   "day")),
    ComparedTable("payouts", {**TENANT, "payout_id": "text"},
                  ("rank", "event_id", "status", "payee_id", "amount", "currency", "at", "disbursed_on", "method", "reference",
                   "reason")),
    ComparedTable("daily_rollups",
                  {**TENANT, "currency": "text", "dimension": "text", "day": "date", "member": "text"},
                  ("revenue", "payments", "fees", "earnings", "commission", "cash_held", "payouts", "refunds", "costs")),
    ComparedTable("payee_balances", {**TENANT, "currency": "text", "payee_id": "text"}, ("earned", "cash_held", "disbursed")),
)  # fmt: skip
ON_ITS_WAY = timedelta(seconds=30)  # a consumer that is further behind is said to differ


async def rebuild_reporting(*, dry_run: bool, force: bool, say: Callable[[str], None]) -> Rebuilt:
    """As `build_and_swap`."""
    async with shadow("reporting", TABLES) as beside, event_logs((*EVENTS, TenantConfigured)) as logs:
        return await build_and_swap(ReportingBuilding(beside, logs), dry_run=dry_run, force=force, say=say)


class ReportingBuilding(Building):
    """Every event is projected again; what is on its way to the live tables is no difference."""

    def __init__(self, beside: Shadow, logs: Sequence[EventLog]) -> None:
        """Nothing has been read."""
        super().__init__(beside, logs)
        self._recent: list[Received] = []

    async def apply(self, tenant_id: str, events: Sequence[Received]) -> int:
        """Project `events`; those that cannot be are set aside, as the consumer does."""
        self.events += len(events)
        await self._remember(events)

        async def project(some: Sequence[Received]) -> None:
            await self.beside.db.run(lambda conn: project_events(conn, some), tenant_id)

        self.set_aside += await _project_or_isolate(project, events)
        return len(events)

    async def complete_live(self) -> None:
        """Project what is on its way: then all that differs is wrong."""
        owner = self.beside.owner
        await self._remember([])
        tenants = {event.tenant_id for event in self._recent}
        await bind_tenants(owner, tenants)
        known = await zones(owner, tenants)

        async def project(some: Sequence[Received]) -> None:
            async with owner.transaction():  # a savepoint
                await project_events(owner, some)

        await _project_or_isolate(project, [event for event in self._recent if event.tenant_id in known])

    async def _remember(self, events: Sequence[Received]) -> None:
        """Keep the last few of those that may be on their way, by the database's clock: the operator's own may be off."""
        since = await self.beside.owner.fetchval(CLOCK) - ON_ITS_WAY
        recent = [event for event in (*self._recent, *events) if event.time > since]
        self._recent = nlargest(FEW, recent, key=lambda event: event.time)


async def _project_or_isolate(
    project: Callable[[Sequence[Received]], Awaitable[None]], events: Sequence[Received]
) -> int:
    """Project what can be; how many cannot."""
    if not events:
        return 0
    try:
        await project(events)
    except Exception as error:
        if is_transient(error):
            raise
        if len(events) == 1:
            return 1
        middle = len(events) // 2
        refused = await _project_or_isolate(project, events[:middle])
        return refused + await _project_or_isolate(project, events[middle:])
    return 0
