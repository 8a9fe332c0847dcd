"""Projection on real PostgreSQL: repeats change nothing, late events undo nothing, effects commute."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest

from services.reporting.project_events import project_events
from shared.db import ConcurrentWrite, is_transient
from tests.conftest import until
from tests.reporting.calls import contents, project
from tests.reporting.events import NOON, earning, payment, payout, unmatched

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def sums(db, dimension="total", currency="KES", tenant="acme"):
    async with db.transaction(tenant) as conn:
        rows = await conn.fetch(
            "SELECT day, member, revenue, payments FROM daily_rollups WHERE dimension = $1 AND currency = $2"
            " AND payments <> 0 ORDER BY day, member",
            dimension,
            currency,
        )
    return [(row["day"].isoformat(), row["member"], row["revenue"], row["payments"]) for row in rows]


async def test_a_completed_payment_counts_in_every_dimension(db):
    await project(db, payment(amount=999, payees={"d1": 5000, "d2": 5000}, fee=3))
    assert await sums(db) == [("2026-03-02", "", 999, 1)]
    for dimension, member in (("fleet", "f1"), ("route", "r1"), ("vehicle", "v1"), ("method", "mobile")):
        assert await sums(db, dimension) == [("2026-03-02", member, 999, 1)]
    assert await sums(db, "payee") == [("2026-03-02", "d1", 500, 1), ("2026-03-02", "d2", 499, 1)]


async def test_pending_and_failed_payments_are_kept_but_count_nothing(db):
    await project(db, payment("p1", "pending"), payment("p2", "failed"))
    assert await sums(db) == []
    assert [row[4] for row in (await contents(db))["payments"]] == ["pending", "failed"]


async def test_a_repeated_event_changes_nothing(db):
    events = [payment(), earning(), payout("o1", "requested"), payout()]
    await project(db, *events)
    first = await contents(db)
    await project(db, *events)
    await project(db, *events, *events)
    assert await contents(db) == first


async def test_a_late_failure_does_not_undo_a_completed_payment(db):
    await project(db, payment())
    await project(db, payment("p1", "failed"), payment("p1", "pending"))
    assert await sums(db) == [("2026-03-02", "", 10_000, 1)]


async def test_a_matched_payment_moves_to_its_members_and_leaves_no_empty_row(db):
    await project(db, unmatched())
    assert await sums(db, "fleet") == [("2026-03-02", "", 10_000, 1)]
    await project(db, payment("p1", "matched"))
    assert await sums(db, "fleet") == [("2026-03-02", "f1", 10_000, 1)]
    assert await sums(db, "payee") == [("2026-03-02", "d1", 10_000, 1)]
    assert await sums(db) == [("2026-03-02", "", 10_000, 1)]
    assert {row[4] for row in (await contents(db))["daily_rollups"] if row[2] == "fleet"} == {"f1"}


async def test_days_are_cut_in_the_tenants_zone(db):
    late = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
    await project(db, payment(paid_at=late), payment("p2", tenant="other", paid_at=late, currency="USD"))
    assert [day for day, *_ in await sums(db)] == ["2026-03-02"]  # 01:30 in Nairobi
    assert [day for day, *_ in await sums(db, tenant="other", currency="USD")] == ["2026-03-01"]


async def test_a_payout_keeps_the_time_of_its_request_whatever_comes_first(db):
    asked, paid = NOON, NOON + timedelta(days=2)
    await project(db, payout(at=paid))
    await project(db, payout("o1", "requested", at=asked))
    (row,) = (await contents(db))["payouts"]
    assert (row[4], row[8], row[9]) == ("disbursed", asked, date(2026, 3, 4))


async def test_a_payout_that_fails_after_disbursement_is_taken_back(db):
    await project(db, payout(), payout("o2", at=NOON))
    await project(db, payout("o1", "failed"))
    assert [row[3:] for row in (await contents(db))["payee_balances"]] == [(0, 0, 9_000)]


async def test_one_unusable_event_fails_the_batch_and_leaves_nothing(db):
    bad = payment("p2", payees={"d1": 9_000, "d2": 500})
    with pytest.raises(ValueError, match="cannot be split") as caught:
        await project(db, payment(), bad)
    assert not is_transient(caught.value)
    assert all(not rows for rows in (await contents(db)).values())


async def test_projecting_the_same_new_payment_twice_at_once_counts_it_once(db):
    event = payment()
    async with db.transaction("acme") as slow:
        await project_events(slow, [event])
        second = asyncio.create_task(project(db, event))
        await until(lambda: _somebody_waits(db))
    with pytest.raises(ConcurrentWrite):
        await second
    await project(db, event)
    assert await sums(db) == [("2026-03-02", "", 10_000, 1)]


async def _somebody_waits(db):
    async with db.transaction() as conn:  # one for each look: within it the server tells the same again
        return await conn.fetchval(WAITING)
