"""No hot statement reads a big table from end to end: the plans of what the use cases really send are looked at."""

import re
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from bench.backlog import completed
from bench.fill import FILL_ALERTS, FILL_PAYMENTS, FILL_PAYOUTS, FILL_REPORTING, fill_tables
from bench.place import TENANT
from deploy.operations.check.facts import JOURNALS_POSTED
from deploy.operations.check.run_checks import SETTINGS
from services.alerts import change_rule, send_mails
from services.alerts.acknowledge_alert import acknowledge_alert
from services.alerts.queries import AlertFilter, list_alerts
from services.alerts.raise_alerts import raise_alerts
from services.payments import callbacks
from services.payments.models import Callback, PaymentStatus, Receipt
from services.payments.queries import PaymentFilter, get_payment, get_request, list_payments
from services.payments.record_payments import record_payments
from services.payments.register_requests import NewRequest, register_requests
from services.payouts.accrue_earnings import accrue_earnings
from services.payouts.decide_payouts import Decision, decide_payouts
from services.payouts.models import PayoutStatus
from services.payouts.queries import list_balances, list_earnings, list_payouts
from services.payouts.request_payouts import Ask, request_payouts
from services.reporting.project_events import project_events
from services.reporting.queries import (
    HistoryPlace,
    Slice,
    read_groups,
    read_history,
    read_periods,
    read_profits,
)
from shared import idempotency, outbox
from shared.audit import Actor
from shared.errors import NotFound
from shared.events import Decoder, payments
from shared.ids import new_id
from tests.plans import MORE_ALERTS, MORE_PAYMENTS, MORE_PAYOUTS, MORE_REPORTING, looked_at, scanned

ROWS = 40_000
BATCHES = (1, 32, 500)
NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
YEAR = (NOW - timedelta(days=365), NOW + timedelta(days=365))
BY = Actor("someone", None)
ADD_RULE = """
INSERT INTO alert_rules (tenant_id, rule_id, kind, thresholds, recipients, cooldown_seconds, enabled, created_at, updated_at)
VALUES ($1, md5($1)::uuid, 'high_value', '{"KES": 1}', '{driver-1@example.com}', 60, true, now(), now()) RETURNING rule_id
"""
# What is known of a table is of two other tenants, each of whom has half of it.
OTHERS_ONLY = """
SELECT pg_restore_attribute_stats(
    'schemaname', 'public', 'relname', $1::text, 'attname', 'tenant_id', 'inherited', false, 'null_frac', 0::real,
    'avg_width', 8, 'n_distinct', 2::real, 'most_common_vals', '{a,b}'::text, 'most_common_freqs', '{0.5,0.5}'::real[]
)
"""


@pytest.fixture
async def filled(database):
    """`await filled("payments", …)`: a database with many payments."""

    async def fill(service: str, statements: dict[str, str]):
        urls = await database(service)
        async with _superuser(urls.superuser) as conn:
            if conn.get_server_version().major < 18:
                pytest.skip("the rows are made with uuidv7(), which PostgreSQL has since 18")
            if service != "payments":
                await conn.execute(
                    "INSERT INTO tenants (tenant_id, name, time_zone, currency, version, updated_at)"
                    " VALUES ($1, 'Bench', 'Africa/Nairobi', 'KES', 1, now())", TENANT,
                )  # fmt: skip
        await fill_tables(urls.superuser, statements, payments=ROWS)
        return urls

    return fill


@asynccontextmanager
async def _superuser(url: str):
    conn = await asyncpg.connect(url)
    yield conn
    await conn.close()


def receipt(number: int, *, request: str | None = None) -> Receipt:
    return Receipt(
        TENANT, f"{TENANT}.0123456789abcdef", f"tx-{number}", PaymentStatus.COMPLETED, 500, "KES", "mpesa", NOW,
        request_id=request, callback=Callback(new_id(), f"msg-{number}", b"{}", NOW),
    )  # fmt: skip


def new_request(number: int) -> NewRequest:
    people = '[{"payee_id": "driver-1", "share_bp": 10000}]'
    return NewRequest(
        TENANT, f"new-{number}", "trip", 500, "KES", NOW, "c", None, None, "f", None, None, None, people, None
    )


def events(count: int, kinds: Any = payments.EVENTS):
    decode = Decoder(kinds).decode
    return [decode(*completed(number)[1:]) for number in range(count)]


async def test_payments_records_and_registers_by_key(filled):
    urls = await filled("payments", FILL_PAYMENTS | MORE_PAYMENTS)
    for batch in BATCHES:
        async with looked_at(urls.app) as conn:
            for _ in range(2):  # new payments of known requests, then the same again
                known = [receipt(-n, request=f"old-{20 * n}") for n in range(1, batch + 1)]
                await record_payments(conn, known, now=NOW)
            early = [receipt(n, request=f"new-{n}") for n in range(batch)]
            await record_payments(conn, early, now=NOW)
            await record_payments(conn, [receipt(batch + n) for n in range(batch)], now=NOW)
            await register_requests(conn, [new_request(n) for n in range(batch)], actor=BY, now=NOW)


async def test_payments_lists_by_index(filled):
    urls = await filled("payments", FILL_PAYMENTS | MORE_PAYMENTS)
    async with looked_at(urls.app) as conn:
        for wanted in (
            {}, {"status": "pending"}, {"fleet_id": "fleet-1"}, {"vehicle_id": "vehicle-1"}, {"route_id": "route-1"},
            {"method": "cash"}, {"client_id": "client-1"}, {"payee_id": "driver-1"}, {"fleets": ["fleet-1", "fleet-2"]},
        ):  # fmt: skip
            await list_payments(conn, TENANT, PaymentFilter(*YEAR, **wanted), after=(NOW, uuid4()), limit=101)
        for lookup in (get_payment(conn, TENANT, uuid4(), None), get_request(conn, TENANT, "none", None)):
            with pytest.raises(NotFound):
                await lookup
    async with looked_at(urls.system) as conn:
        await conn.fetch(outbox.UNPUBLISHED, 1000, 39_000)
        await conn.fetch(outbox.UNPUBLISHED, 1000, 0)
        await conn.execute(outbox.MARK, [TENANT] * 500, list(range(500)), NOW)
        await conn.fetch(outbox.BACKLOG, NOW)
        await conn.fetch(callbacks.DUE, NOW)
        await conn.fetch(callbacks.UNHANDLED, NOW)
        await conn.execute(idempotency.FORGET, YEAR[0])


async def test_keys_are_claimed_and_found_by_index(filled):
    urls = await filled("payments", MORE_PAYMENTS)
    place = TENANT, "someone", "1"
    async with looked_at(urls.app) as conn:
        await conn.fetchval(idempotency.CLAIM, *place, b"", NOW)
        await conn.fetchrow(idempotency.FIRST_ANSWER, *place)
        await conn.execute(idempotency.KEEP_ANSWER, *place, 201, b"{}")


async def test_payouts_accrues_requests_decides_and_lists_by_index(filled):
    urls = await filled("payouts", FILL_PAYOUTS | MORE_PAYOUTS)
    async with looked_at(urls.app) as conn:
        for batch in BATCHES:
            await accrue_earnings(conn, events(batch), now=NOW)
        made = await request_payouts(
            conn, [Ask(f"driver-{n}", 100) for n in range(5)], tenant_id=TENANT, currency="KES", actor=BY, now=YEAR[1]
        )
        ids = [m.payout_id for m in made]
        for status in (PayoutStatus.APPROVED, PayoutStatus.DISBURSED):
            await decide_payouts(conn, ids, Decision(status, method="cash"), tenant_id=TENANT, actor=BY, now=YEAR[1])
        await list_balances(conn, TENANT, "KES", now=NOW, limit=100)
        await list_balances(conn, TENANT, "KES", now=NOW, payee_id="driver-1")
        await list_payouts(conn, TENANT, between=YEAR, after=(None, None), limit=100, payee_id="driver-1")
        await list_earnings(conn, TENANT, ids[0])


async def test_reporting_projects_and_reads_by_index(filled):
    urls = await filled("reporting", FILL_REPORTING | MORE_REPORTING)
    async with looked_at(urls.app) as conn:
        for batch in BATCHES:
            await project_events(conn, events(batch))
        wanted = Slice(TENANT, "KES", date(2026, 1, 1), date(2026, 2, 1), "day")
        await read_periods(conn, wanted, "total")
        for group_by in ("day", "month"):
            by = replace(wanted, group_by=group_by)
            await read_groups(conn, by, "fleet", after=None, limit=100, periods_limit=1_000)
        await read_profits(conn, wanted)
        await read_history(conn, TENANT, start=YEAR[0], before=HistoryPlace(YEAR[1]), currency=None, limit=100)


async def test_a_report_reads_the_days_that_it_is_about(filled):
    urls = await filled("reporting", FILL_REPORTING)
    async with looked_at(urls.app) as conn:
        wanted = Slice(TENANT, "KES", date(2026, 1, 1), date(2026, 2, 1), "day")
        await read_periods(conn, wanted, "total")
        for group_by in ("day", "month"):
            by = replace(wanted, group_by=group_by)
            await read_groups(conn, by, "fleet", after=None, limit=100, periods_limit=1_000)
    assert [re.search(r'"Index Cond": "[^"]*\(day >= ', plan) is not None for plan in conn.plans] == 3 * [True]
    # Joined with nothing: of a tenant of whom nothing is known yet, each group would be held against all periods.
    assert not any("Join" in plan or "Nested Loop" in plan for plan in conn.plans)


async def test_a_check_holds_no_row_against_all_others_of_a_tenant_of_whom_nothing_is_known(filled):
    """Autovacuum comes after a minute, and after a crash it has forgotten what it had counted."""
    urls = await filled("payouts", FILL_PAYOUTS)
    async with _superuser(urls.superuser) as conn:
        for table in ("journals", "entries"):
            await conn.execute(OTHERS_ONLY, table)
    plans = []
    for settings in ({}, SETTINGS):
        conn = await asyncpg.connect(urls.auditor, server_settings=settings)
        plans.append(await conn.fetchval(f"EXPLAIN (FORMAT JSON) {JOURNALS_POSTED}", TENANT))
        await conn.close()
    assert ["Nested Loop" in plan for plan in plans] == [True, False]


async def test_alerts_raises_and_lists_by_index(filled):
    urls = await filled("alerts", FILL_ALERTS | MORE_ALERTS)
    async with _superuser(urls.superuser) as conn:
        rule = await conn.fetchval(ADD_RULE, TENANT)
    async with looked_at(urls.app) as conn:
        for batch in BATCHES:
            await raise_alerts(conn, events(batch), now=NOW)
        for wanted in (AlertFilter(), AlertFilter(status="open"), AlertFilter(fleets=["fleet-1", "fleet-2"])):
            await list_alerts(conn, TENANT, wanted, limit=100)
        with pytest.raises(NotFound):
            await acknowledge_alert(conn, uuid4(), tenant_id=TENANT, fleets=None, actor=BY, now=NOW)
        queue = TENANT, rule, "driver-1@example.com"
        await conn.fetch(send_mails.PENDING, *queue, 100)
        await conn.fetchval(send_mails.LOCK_QUEUE, *queue)
        await conn.execute(send_mails.MARK, TENANT, queue[2], [uuid4()] * 100, "sent", NOW, None)
        await conn.execute(send_mails.SETTLE, *queue, NOW, None, NOW)
        await conn.execute(change_rule.CLOSE_QUEUES, TENANT, rule, ["driver-1@example.com"])
        await conn.execute(change_rule.CANCEL_DELIVERIES, TENANT, rule, ["driver-1@example.com"])
    async with looked_at(urls.system) as conn:
        await conn.fetch(send_mails.CLAIM, NOW, YEAR[1], send_mails.AT_ONCE)


def test_a_scan_from_end_to_end_is_seen():
    nested = {"Node Type": "Limit", "Plans": [{"Node Type": "Seq Scan", "Relation Name": "payments"}]}
    assert scanned(nested) == {"payments"}
