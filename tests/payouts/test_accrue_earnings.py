"""A payment becomes earnings once, in journals that balance, by the plan in force on its day."""

import random
from datetime import date, timedelta

import asyncpg
import pytest

from shared.events.payments import Share
from tests.conftest import connected
from tests.payouts.conftest import PAID_AT, Payouts, paid


async def test_card_payment_leaves_the_payee_the_rest(payouts: Payouts):
    await payouts.accrue(paid(1005))
    balance = await payouts.balance()
    assert (balance["available"], balance["lifetime_commission"], balance["owed"]) == (904, 101, 0)
    await payouts.check_books()


async def test_cash_leaves_the_payee_owing_the_commission(payouts: Payouts):
    await payouts.accrue(paid(1000, method="cash"))
    balance = await payouts.balance()
    assert (balance["available"], balance["owed"], balance["lifetime_cash_held"]) == (0, 100, 1000)
    await payouts.accrue(paid(300))
    assert (await payouts.balance())["available"] == 170
    await payouts.check_books()


async def test_excess_is_nobodys_and_stays_in_suspense(payouts: Payouts):
    await payouts.accrue(paid(1200, applied=1000, flags=("overpaid",)))
    assert (await payouts.balance())["available"] == 900
    rows = await payouts.fetch("SELECT account, sum(amount)::int AS sum FROM entries GROUP BY account ORDER BY account")
    assert {row["account"]: row["sum"] for row in rows} == {
        "commission": 100, "gateway": -1200, "suspense": 200, "wallet": 900,
    }  # fmt: skip


async def test_trip_without_payee_stays_with_the_operator(payouts: Payouts):
    await payouts.accrue(paid(1000, payees=(), method="cash"))
    rows = await payouts.fetch("SELECT account, amount FROM entries ORDER BY account")
    assert [tuple(row) for row in rows] == [("gateway", -1000), ("operator", 1000)]


async def test_shares_are_split_by_largest_remainder(payouts: Payouts):
    await payouts.accrue(paid(100, payees=(Share("d1", 3334), Share("d2", 3333), Share("d3", 3333))))
    grosses = [row["gross"] for row in await payouts.fetch("SELECT gross FROM earnings ORDER BY payee_id")]
    assert grosses == [34, 33, 33]
    await payouts.check_books()


async def test_plan_of_payee_before_fleet_before_tenant_by_day(payouts: Payouts):
    async def plan(**fields):
        body = {"valid_from": "2026-01-01", **fields}
        answer = await payouts.http.post("/api/v1/commission-plans", json=body, headers=payouts.finance)
        assert answer.status_code == 201, answer.text

    await plan(commission_bp=2000)
    await plan(commission_bp=1500, fleet_id="f2")
    await plan(commission_bp=500, payee_id="d9")
    await plan(commission_bp=3000, valid_from="2026-03-02")
    again = {"commission_bp": 1, "valid_from": "2026-01-01"}
    assert (await payouts.http.post("/api/v1/commission-plans", json=again, headers=payouts.finance)).status_code == 409
    before = paid(1000, paid_at=PAID_AT - timedelta(days=90))
    nearly = paid(1000, paid_at=PAID_AT.replace(hour=20, minute=59))  # 23:59 in Nairobi
    after = paid(1000, paid_at=PAID_AT.replace(hour=21))  # midnight in Nairobi
    events = [
        before,
        nearly,
        after,
        paid(1000, fleet_id="f2"),
        paid(1000, fleet_id="f2", payees=(Share("d9", 10_000),)),
    ]
    await payouts.accrue(*events)
    rows = await payouts.fetch("SELECT payment_id::text, commission FROM earnings")
    taken = {row["payment_id"]: row["commission"] for row in rows}
    assert [taken[e.data.payment_id] for e in events] == [100, 200, 300, 150, 50]


async def test_money_waits_for_its_plans_delay(payouts: Payouts):
    body = {"commission_bp": 1000, "delay_days": 7, "valid_from": str(date(2020, 1, 1))}
    assert (await payouts.http.post("/api/v1/commission-plans", json=body, headers=payouts.finance)).status_code == 201
    await payouts.accrue(paid(1000, paid_at=PAID_AT.replace(year=2999)))
    balance = await payouts.balance()
    assert (balance["available"], balance["pending"]) == (0, 900)
    assert (await payouts.request()).status_code == 409


async def test_any_order_and_any_repetition_end_the_same(payouts: Payouts):
    """Receipt before or after its match, each up to five times: one state."""
    rng = random.Random(7)
    for method in ("mobile", "cash"):
        matched = paid(1000, matched=True, method=method)
        waiting = paid(1000, applied=0, flags=("unmatched",), payees=(), request_id=None, method=method,
                       payment_id=matched.data.payment_id)  # fmt: skip
        events = [matched, waiting] * 5
        rng.shuffle(events)
        for event in events:
            await payouts.accrue(event)
        await payouts.accrue(*events)
    rows = await payouts.fetch("SELECT account, sum(amount)::int AS sum FROM entries GROUP BY account")
    sums = {row["account"]: row["sum"] for row in rows}
    assert {account: total for account, total in sums.items() if total} == {
        "gateway": -1000, "commission": 200, "wallet": 800,
    }  # fmt: skip
    assert len(await payouts.fetch("SELECT FROM earnings")) == 2
    assert len(await payouts.fetch("SELECT FROM outbox")) == 2
    await payouts.check_books()


async def test_the_database_refuses_what_no_ledger_may_hold(payouts: Payouts):
    await payouts.accrue(paid(1000))
    async with connected(payouts.running.urls.app, "t1") as conn:
        with pytest.raises(asyncpg.CheckViolationError, match="sum to zero"):
            await conn.execute("""
                INSERT INTO entries (tenant_id, journal_id, line, account, currency, amount)
                SELECT tenant_id, journal_id, 9, 'commission', 'KES', 1 FROM journals
            """)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("UPDATE entries SET amount = 0")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("DELETE FROM journals")


async def test_cash_in_a_currency_that_was_not_due_is_still_in_the_payees_hands(payouts: Payouts):
    await payouts.accrue(paid(1500, currency="USD", applied=0, method="cash", flags=("currency_mismatch",)))
    answer = await payouts.http.get("/api/v1/payees/d1/balance", params={"currency": "USD"}, headers=payouts.finance)
    assert (answer.json()["owed"], answer.json()["lifetime_cash_held"]) == (1500, 1500)
    await payouts.check_books()
