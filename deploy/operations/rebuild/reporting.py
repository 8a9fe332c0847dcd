"""Rebuild reporting: project every event again beside the live tables, catch up, compare, swap."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from deploy.operations.rebuild.differences import ComparedTable, Differences, Suspects, differences_at, suspects_in
from deploy.operations.rebuild.event_log import EventLog, event_logs
from deploy.operations.rebuild.rebuilt import Rebuilt
from deploy.operations.rebuild.shadow import Shadow, analyze, shadow
from services.reporting.project_events import project_events
from services.reporting.worker import EVENTS
from shared.db import bind_tenants, is_transient
from shared.events import Received
from shared.events.tenants import TenantConfigured
from shared.tenants import TenantCopy

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
FEW = 2_000  # events; the last pass, which writers wait for, has no more than about this
PASSES_LIMIT = 20
ON_ITS_WAY = timedelta(seconds=30)  # a consumer that is further behind is said to differ


async def rebuild_reporting(*, dry_run: bool, force: bool, say: Callable[[str], None]) -> Rebuilt:
    """Build, compare, and unless it is a dry run put the new tables in the place of the live ones. Raises StackError.

    New tables that lack rows of the live ones take their place only by `force`.
    """
    async with shadow("reporting", TABLES) as beside, event_logs((*EVENTS, TenantConfigured)) as logs:
        building = _Building(beside, logs)
        for number in range(1, PASSES_LIMIT + 1):
            events = await building.catch_up()
            say(f"reporting: pass {number}, {events:,} events")
            if events <= FEW:
                break
        await analyze(beside)
        suspects = await suspects_in("reporting", TABLES)
        differences, waited_s = await building.finish(suspects, dry_run=dry_run, force=force)
        return Rebuilt(
            "reporting", building.events, building.set_aside, differences, waited_s, is_swapped=beside.is_swapped
        )


class _Building:
    """The tables beside the live ones, and how far the event logs have been read into them."""

    def __init__(self, beside: Shadow, logs: Sequence[EventLog]) -> None:
        self.events = 0
        self.set_aside = 0
        self._beside = beside
        self._logs = logs
        self._tenants = TenantCopy(beside.db, wait_s=0)

    async def catch_up(self) -> int:
        """Apply what no pass has applied; how many events."""
        before = self.events
        for log in self._logs:
            async for page in log.pages():
                await self._apply(page.fresh)
        return self.events - before

    async def finish(self, suspects: Suspects, *, dry_run: bool, force: bool) -> tuple[Differences, float]:
        """Apply the last events while writers wait, compare, and swap; how long they waited. Raises StackError."""
        owner = self._beside.owner
        async with self._beside.writers_stopped():
            stopped, recently = time.monotonic(), datetime.now(UTC) - ON_ITS_WAY
            for log in self._logs:
                async for page in log.pages():
                    await self._apply(page.fresh)
                    # The live tables get what is on its way too: then all that differs is wrong.
                    if events := [e for e in page.events if e.time > recently and e.type != TenantConfigured.TYPE]:
                        await bind_tenants(owner, [page.tenant_id])
                        await project_events(owner, events)
            differences = await differences_at(owner, TABLES, suspects)
            if not dry_run and (force or not differences.lacking):
                await self._beside.swap()
        return differences, time.monotonic() - stopped

    async def _apply(self, events: Sequence[Received]) -> None:
        self.events += len(events)
        if configured := [event for event in events if event.type == TenantConfigured.TYPE]:
            await self._tenants.keep(configured)
        if others := [event for event in events if event.type != TenantConfigured.TYPE]:
            await self._project_or_isolate(others)

    async def _project_or_isolate(self, events: Sequence[Received]) -> None:
        tenants = {event.tenant_id for event in events}
        try:
            await self._beside.db.run(lambda conn: project_events(conn, events), *tenants)
        except Exception as error:
            if is_transient(error):
                raise
            if len(events) == 1:
                self.set_aside += 1  # as the consumer did
                return
            middle = len(events) // 2
            await self._project_or_isolate(events[:middle])
            await self._project_or_isolate(events[middle:])
