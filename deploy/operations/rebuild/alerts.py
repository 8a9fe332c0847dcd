"""Rebuild alerts: what every handled event was to raise, by the rules in force when it was handled; no mail is sent.

Rules, audit, deliveries and mail queues are the service's own data and stay. An event that no consumer has handled is left
to the consumer, or to `takings republish`.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from deploy.operations.access import connected
from deploy.operations.check.findings import TENANTS
from deploy.operations.rebuild import alert_rows as sql
from deploy.operations.rebuild.differences import ComparedTable, Differences, Suspects, differences_at, suspects_in
from deploy.operations.rebuild.event_log import EventLog, event_logs
from deploy.operations.rebuild.rebuilt import Rebuilt
from deploy.operations.rebuild.shadow import Shadow, analyze, shadow
from deploy.operations.rule_history import RuleHistory, rule_history
from services.alerts.models import Alert, Kind
from services.alerts.raise_alerts import MEET, NAME_FLEETS
from services.alerts.worker import EVENTS
from shared.db import Connection, bind_tenants
from shared.events import Received
from shared.events.payments import PaymentMatched
from shared.events.tenants import TenantConfigured
from shared.tenants import TenantCopy

# In the order in which the consumer locks them.
TABLES = (
    ComparedTable("tenants", {"tenant_id": "text"}, ("name", "time_zone", "currency", "version")),
    ComparedTable("inbox", {"tenant_id": "text", "event_id": "uuid"}, ("claimed_at",)),
    ComparedTable("subject_fleets", {"tenant_id": "text", "subject": "text"}, ("fleet_id",)),
    ComparedTable("alerts", {"tenant_id": "text", "rule_id": "uuid", "subject": "text"},
                  ("kind", "fleet_id", "summary", "raised_at", "status", "acknowledged_at", "acknowledged_by")),
)  # fmt: skip
CLOCKS_DIFFER = timedelta(minutes=10)  # at most, between the services' hosts and this one


async def rebuild_alerts(*, dry_run: bool, force: bool, say: Callable[[str], None]) -> Rebuilt:
    """Build, compare, and unless it is a dry run put the new tables in the place of the live ones. Raises StackError.

    New tables that lack rows of the live ones take their place only by `force`.
    """
    began = datetime.now(UTC) - CLOCKS_DIFFER
    async with (
        shadow("alerts", TABLES) as beside,
        event_logs((*EVENTS, TenantConfigured)) as logs,
        connected("alerts", "auditor", command="rebuild") as auditor,
    ):
        await beside.owner.execute(sql.REFER_TO_RULES)
        building = _Building(beside, logs, auditor)
        await building.read_logs()
        say(f"alerts: {building.events:,} handled events")
        await building.catch_up(since=began)
        await building.acknowledge()
        await analyze(beside)
        suspects = await suspects_in("alerts", TABLES)
        differences, waited_s = await building.finish(suspects, since=began, dry_run=dry_run, force=force)
        return Rebuilt("alerts", building.events, 0, differences, waited_s, is_swapped=beside.is_swapped)


class _Building:
    """The tables beside the live ones; `auditor` reads what the live ones have of all tenants."""

    def __init__(self, beside: Shadow, logs: Sequence[EventLog], auditor: Connection) -> None:
        self.events = 0
        self._beside = beside
        self._logs = logs
        self._auditor = auditor
        self._tenants = TenantCopy(beside.db, wait_s=0)
        self._histories: dict[str, RuleHistory] = {}
        self._orphans: defaultdict[tuple[str, UUID, datetime], list[UUID]] = defaultdict(list)

    async def read_logs(self) -> None:
        """Give every handled event its effect again."""
        for row in await self._auditor.fetch(sql.ORPHANS):
            self._orphans[row["tenant_id"], row["rule_id"], row["created_at"]].append(row["alert_id"])
        for log in self._logs:
            async for page in log.pages():
                await self._apply(page.tenant_id, page.events)

    async def catch_up(self, *, since: datetime) -> None:
        """The same for the events that were handled meanwhile."""
        fresh: defaultdict[str, list[UUID]] = defaultdict(list)
        for row in await self._auditor.fetch(sql.HANDLED_SINCE, since):
            fresh[row["tenant_id"]].append(row["event_id"])
        self._histories.clear()  # a rule may have changed
        for tenant_id, ids in fresh.items():
            for log in self._logs:
                rows = await log.conn.fetch(sql.EVENTS_OF, tenant_id, ids)
                events = [
                    event for row in rows if (event := log.decoder.decode_value(row["event"].encode())) is not None
                ]
                await self._apply(tenant_id, events)

    async def acknowledge(self) -> None:
        """Give the alerts the answers of people."""
        owner = self._beside.owner
        async with owner.transaction():
            await bind_tenants(owner, [row["tenant_id"] for row in await self._auditor.fetch(TENANTS)])
            await owner.execute(sql.ACKNOWLEDGE)

    async def finish(
        self, suspects: Suspects, *, since: datetime, dry_run: bool, force: bool
    ) -> tuple[Differences, float]:
        """Apply the last events while writers wait, compare, and swap; how long they waited. Raises StackError."""
        owner = self._beside.owner
        tenants = [row["tenant_id"] for row in await self._auditor.fetch(sql.ALL_TENANTS)]
        async with self._beside.writers_stopped():
            stopped = time.monotonic()
            await self.catch_up(since=since)
            await self.acknowledge()
            differences = await differences_at(owner, TABLES, suspects)
            if not dry_run and (force or not differences.lacking):
                await bind_tenants(owner, tenants)
                if canceled := await owner.fetch(sql.CANCEL_DELIVERIES):
                    await owner.execute(sql.ADD_QUEUES, *map(list, zip(*canceled, strict=True)))
                await self._beside.swap()
        return differences, time.monotonic() - stopped

    async def _apply(self, tenant_id: str, events: Sequence[Received]) -> None:
        if configured := [event for event in events if event.type == TenantConfigured.TYPE]:
            await self._tenants.keep(configured)
        rows = await self._auditor.fetch(sql.HANDLED, tenant_id, [event.id for event in events])
        handled_at = {row["event_id"]: row["claimed_at"] for row in rows}
        handled = [event for event in events if event.id in handled_at]
        if not handled:
            return
        self.events += len(handled)
        raised = await self._raised(tenant_id, handled, handled_at)
        async with self._beside.db.transaction(tenant_id) as conn:
            await conn.execute(sql.CLAIM, tenant_id, list(handled_at), list(handled_at.values()))
            fleets = await _fleets(conn, handled, [alert for alert, _ in raised])
            if raised:
                values = [(*_fields(alert, fleets.get(alert.subject)), at) for alert, at in raised]
                await conn.execute(sql.RAISE, *map(list, zip(*values, strict=True)))
            if fleets:
                named = [(tenant_id, subject, fleet_id) for subject, fleet_id in fleets.items()]
                await conn.execute(NAME_FLEETS, *map(list, zip(*named, strict=True)))

    async def _raised(
        self, tenant_id: str, handled: Sequence[Received], handled_at: Mapping[UUID, datetime]
    ) -> list[tuple[Alert, datetime]]:
        if tenant_id not in self._histories:
            self._histories[tenant_id] = await rule_history(self._auditor, tenant_id)
        history = self._histories[tenant_id]
        fired = [
            (alert, is_sure, handled_at[event.id])
            for event in handled
            for alert, is_sure in history.alerts_on(event, handled_at[event.id])
        ]
        rows = await self._auditor.fetch(sql.LIVE_ALERTS, tenant_id, [alert.subject for alert, _, _ in fired])
        live = {(row["rule_id"], row["subject"]): row["alert_id"] for row in rows}
        raised = []
        for alert, is_sure, at in fired:
            known = live.get((alert.rule_id, alert.subject))
            if known is not None:
                raised.append((replace(alert, alert_id=known), at))
            elif is_sure:  # else its rule was changed just then, and the live tables are right
                orphans = self._orphans.get((tenant_id, alert.rule_id, at))
                raised.append((replace(alert, alert_id=orphans.pop(0)) if orphans else alert, at))
        return raised


async def _fleets(conn: Connection, handled: Sequence[Received], raised: Sequence[Alert]) -> dict[str, str]:
    """As raise_alerts meets them: what has been matched, and what alerts know no fleet of."""
    met: list[tuple[str, str, str | None]] = [
        (event.tenant_id, event.data.payment_id, event.data.fleet_id)
        for event in handled
        if event.type == PaymentMatched.TYPE and event.data.fleet_id is not None
    ]
    met += [
        (alert.tenant_id, alert.subject, None)
        for alert in raised
        if alert.fleet_id is None and alert.kind is not Kind.PAYOUT_FAILED
    ]
    rows = await conn.fetch(MEET, *map(list, zip(*met, strict=True))) if met else []
    return {row["subject"]: row["fleet_id"] for row in rows if row["fleet_id"] is not None}


def _fields(alert: Alert, fleet_id: str | None) -> tuple[Any, ...]:
    named = replace(alert, fleet_id=alert.fleet_id or fleet_id)
    return (named.tenant_id, named.alert_id, named.rule_id, named.kind, named.subject, named.fleet_id, named.summary)
