"""Alerts equal matching events: each event is held against the rules that were in force when it was handled."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from deploy.operations.check.findings import PAGE, TENANTS, Fault, Outcome, difference
from deploy.operations.rule_history import RuleHistory, rule_history
from services.alerts.models import Alert
from services.alerts.worker import EVENTS
from shared.db import Connection
from shared.events import Decoder, Received
from shared.events.catalogue import ALL_EVENTS

# Of the many payments only those that some rule could have found high.
PAYMENTS = """
SELECT event::text AS event FROM outbox
WHERE tenant_id = $1 AND topic = 'payments' AND (
    event ->> 'type' = 'payment-failed'
    OR (event ->> 'type' = 'payment-completed'
        AND (event #>> '{data,amount}')::bigint >= ($2::text::jsonb ->> (event #>> '{data,currency}'))::bigint))
ORDER BY id
"""
PAYOUTS = (
    "SELECT event::text AS event FROM outbox WHERE tenant_id = $1 AND event ->> 'type' = 'payout-failed' ORDER BY id"
)
HANDLED = "SELECT event_id, claimed_at FROM inbox WHERE tenant_id = $1 AND event_id = ANY ($2)"
ALERTS = """
SELECT a.alert_id, a.rule_id, a.subject, a.kind, a.summary, a.raised_at, a.fleet_id, f.fleet_id AS matched_fleet
FROM alerts AS a LEFT JOIN subject_fleets AS f USING (tenant_id, subject)
WHERE a.tenant_id = $1 AND a.subject = ANY ($2)
"""
ALL_ALERTS = "SELECT alert_id, rule_id, subject FROM alerts WHERE tenant_id = $1"

_decoder = Decoder(EVENTS, known=ALL_EVENTS)


class Expected(NamedTuple):
    """An alert that an event was to raise, or (not sure) may have raised."""

    alert: Alert
    raised_at: datetime
    is_sure: bool


async def compare_alerts(snapshots: Mapping[str, Connection]) -> Outcome:
    """Every alert has its event, and every event that matched has its alert."""
    outcome = Outcome("alerts", "alerts match", "alerts equal the events that matched a rule in force")
    return await outcome.collect(_faults(snapshots), snapshots.values())


async def _faults(snapshots: Mapping[str, Connection]) -> AsyncIterator[Fault]:
    for row in await snapshots["alerts"].fetch(TENANTS):
        async for fault in _faults_of(snapshots, row["tenant_id"]):
            yield fault


async def _faults_of(snapshots: Mapping[str, Connection], tenant_id: str) -> AsyncIterator[Fault]:
    alerts = snapshots["alerts"]
    history = await rule_history(alerts, tenant_id)
    accounted: set[UUID] = set()
    async for events in candidates(snapshots, history):
        claims = await alerts.fetch(HANDLED, tenant_id, [event.id for event in events])
        handled = {row["event_id"]: row["claimed_at"] for row in claims}
        expected = [
            Expected(alert, handled[event.id], sure)
            for event in events
            if event.id in handled  # else another check says so
            for alert, sure in history.alerts_on(event, handled[event.id])
        ]
        rows = await alerts.fetch(ALERTS, tenant_id, [e.alert.subject for e in expected])
        there = {(row["rule_id"], row["subject"]): row for row in rows}
        for each in expected:
            row = there.get((each.alert.rule_id, each.alert.subject))
            if row is not None:
                accounted.add(row["alert_id"])
            if fault := _compared(each, row):
                yield fault
    for row in await alerts.fetch(ALL_ALERTS, tenant_id):
        if row["alert_id"] not in accounted:
            has = msgspec.json.encode({"rule_id": row["rule_id"], "subject": row["subject"]}).decode()
            yield Fault(tenant_id, "alerts", str(row["alert_id"]), difference(has, None))


async def candidates(snapshots: Mapping[str, Connection], history: RuleHistory) -> AsyncIterator[Sequence[Received]]:
    """The events of a tenant that a rule could ever have matched, in pages."""
    least = msgspec.json.encode(history.least_amounts()).decode()
    for service, sql, arguments in (("payments", PAYMENTS, (least,)), ("payouts", PAYOUTS, ())):
        cursor = await snapshots[service].cursor(sql, history.tenant_id, *arguments)
        while rows := await cursor.fetch(PAGE):
            events = [_decoder.decode_value(row["event"].encode()) for row in rows]
            yield [event for event in events if event is not None]


def _compared(expected: Expected, row: asyncpg.Record | None) -> Fault | None:
    alert = expected.alert
    if row is None:
        if not expected.is_sure:
            return None
        should = {"rule_id": alert.rule_id, "raised_at": expected.raised_at, "summary": alert.summary}
        key = f"rule {alert.rule_id} {alert.subject}"
        return Fault(alert.tenant_id, "alerts", key, difference(None, _json(should)))
    has = {name: row[name] for name in ("kind", "summary", "raised_at", "fleet_id")}
    fleet_id = alert.fleet_id or row["matched_fleet"]
    should = {"kind": alert.kind, "summary": alert.summary, "raised_at": expected.raised_at, "fleet_id": fleet_id}
    if has == should:
        return None
    return Fault(alert.tenant_id, "alerts", str(row["alert_id"]), difference(_json(has), _json(should)))


def _json(fields: dict[str, Any]) -> str:
    return msgspec.json.encode(fields).decode()
