"""Rebuild alerts: what every handled event was to raise, by the rules in force when it was handled; no mail is sent.

Rules, audit, deliveries and mail queues are the service's own data and stay. An event that no consumer has handled is left
to the consumer, or to `takings republish`.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from deploy.errors import StackError
from deploy.operations.rebuild import alert_rows as sql
from deploy.operations.rebuild.building import Building, build_and_swap
from deploy.operations.rebuild.differences import ComparedTable
from deploy.operations.rebuild.event_log import APPEARS_WITHIN, PAGE_LIMIT, EventLog, Page, event_logs
from deploy.operations.rebuild.rebuilt import Rebuilt
from deploy.operations.rebuild.shadow import Shadow, shadow
from deploy.operations.rule_history import RuleHistory, rule_history
from services.alerts.models import Alert
from services.alerts.raise_alerts import meet_fleets, store
from services.alerts.worker import EVENTS
from shared.clocks import utc_now
from shared.db import bind_tenants
from shared.events import Received
from shared.events.tenants import TenantConfigured
from shared.ids import least_id

# In the order in which the consumer locks them.
TABLES = (
    ComparedTable("tenants", {"tenant_id": "text"}, ("name", "time_zone", "currency", "version")),
    ComparedTable("inbox", {"tenant_id": "text", "event_id": "uuid"}, ("claimed_at",)),
    ComparedTable("subject_fleets", {"tenant_id": "text", "subject": "text"}, ("fleet_id",)),
    ComparedTable("alerts", {"tenant_id": "text", "rule_id": "uuid", "subject": "text"},
                  ("kind", "fleet_id", "summary", "raised_at", "status", "acknowledged_at", "acknowledged_by")),
)  # fmt: skip
# Of these every pass asks whether they have been handled by now.
LEFT_LIMIT = 20_000


async def rebuild_alerts(*, dry_run: bool, force: bool, say: Callable[[str], None]) -> Rebuilt:
    """As `build_and_swap`."""
    async with shadow("alerts", TABLES) as beside, event_logs((*EVENTS, TenantConfigured)) as logs:
        await beside.owner.execute(sql.REFER_TO_RULES)
        return await build_and_swap(AlertsBuilding(beside, logs), dry_run=dry_run, force=force, say=say)


class AlertsBuilding(Building):
    """Every handled event raises its alerts again."""

    def __init__(self, beside: Shadow, logs: Sequence[EventLog]) -> None:
        """Nothing has been read."""
        super().__init__(beside, logs)
        self._histories: dict[str, RuleHistory] = {}
        # By tenant: not handled when it was read.
        self._left: defaultdict[str, dict[UUID, Received]] = defaultdict(dict)
        self._untold: list[tuple[str, UUID, str]] = []  # tenant, lost alert, fingerprint of whom its mails were for
        self._pass_began = utc_now()
        self._answers_known_to = UUID(int=0)

    async def pages(self) -> AsyncGenerator[Page]:
        """What was left before comes first."""
        self._pass_began = utc_now()
        self._histories.clear()  # a rule may have changed
        for tenant_id, left in list(self._left.items()):
            ids = list(left)
            for start in range(0, len(ids), PAGE_LIMIT):
                yield Page(tenant_id, [left.pop(event_id) for event_id in ids[start : start + PAGE_LIMIT]], 0)
        async for page in super().pages():
            yield page

    async def apply(self, tenant_id: str, events: Sequence[Received]) -> int:
        """Raise what those of `events` raised that have been handled; the others are left to a later pass."""
        rows = await self.beside.auditor.fetch(sql.HANDLED, tenant_id, [event.id for event in events])
        handled_at = {row["event_id"]: row["claimed_at"] for row in rows}
        self._leave(tenant_id, [event for event in events if event.id not in handled_at])
        handled = [event for event in events if event.id in handled_at]
        if not handled:
            return 0
        self.events += len(handled)
        raised = await self._raised(tenant_id, handled, handled_at)
        async with self.beside.db.transaction(tenant_id) as conn:
            await conn.execute(sql.CLAIM, tenant_id, list(handled_at), list(handled_at.values()))
            await store(conn, raised, await meet_fleets(conn, handled, raised))
        return len(handled)

    async def complete(self) -> None:
        """Give the alerts the answers of people."""
        owner = self.beside.owner
        tenants = [row["tenant_id"] for row in await self.beside.auditor.fetch(sql.ALL_TENANTS)]
        async with owner.transaction():
            await bind_tenants(owner, tenants)
            await owner.execute(sql.ACKNOWLEDGE, tenants, self._answers_known_to)
        self._answers_known_to = least_id(self._pass_began - APPEARS_WITHIN)

    async def before_swap(self) -> None:
        """Show the mails of alerts that come back without theirs as canceled."""
        if not self._untold:
            return
        owner, untold = self.beside.owner, list(map(list, zip(*self._untold, strict=True)))
        await bind_tenants(owner, untold[0])
        if canceled := await owner.fetch(sql.CANCEL_DELIVERIES, *untold):
            await owner.execute(sql.ADD_QUEUES, *map(list, zip(*canceled, strict=True)))

    def _leave(self, tenant_id: str, events: Sequence[Received]) -> None:
        self._left[tenant_id].update((event.id, event) for event in events)
        if sum(map(len, self._left.values())) > LEFT_LIMIT:
            raise StackError(
                f"alerts has more than {LEFT_LIMIT:,} events still to handle, see takings lag: nothing was changed"
            )

    async def _raised(
        self, tenant_id: str, handled: Sequence[Received], handled_at: Mapping[UUID, datetime]
    ) -> list[Alert]:
        if tenant_id not in self._histories:
            self._histories[tenant_id] = await rule_history(self.beside.auditor, tenant_id)
        history = self._histories[tenant_id]
        fired = [found for event in handled for found in history.alerts_on(event, handled_at[event.id])]
        rules, subjects = [alert.rule_id for alert, _ in fired], [alert.subject for alert, _ in fired]
        rows = await self.beside.auditor.fetch(sql.LIVE_ALERTS, tenant_id, rules, subjects) if fired else []
        live = {(row["rule_id"], row["subject"]): row["alert_id"] for row in rows}
        raised, lost = [], []
        for alert, is_sure in fired:
            known = live.get((alert.rule_id, alert.subject))
            if known is not None:
                raised.append(replace(alert, alert_id=known))
            elif is_sure:  # else its rule was changed just then, and the live tables are right
                raised.append(alert)
                lost.append(alert)
        rows = await self.beside.auditor.fetch(sql.TOLD, tenant_id, [alert.alert_id for alert in lost]) if lost else []
        told = {(row["alert_id"], row["recipient"]) for row in rows}
        self._untold += [
            (tenant_id, alert.alert_id, recipient)
            for alert in lost
            for recipient in _recipients(history, alert)
            if (alert.alert_id, recipient) not in told
        ]
        return raised


def _recipients(history: RuleHistory, alert: Alert) -> Sequence[str]:
    versions = history.changes[alert.rule_id]
    _, terms = versions[bisect_right(versions, alert.raised_at, key=lambda version: version[0]) - 1]
    return terms.recipients
