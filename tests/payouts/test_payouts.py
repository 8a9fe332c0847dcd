"""A payee is never paid twice for an earning, and never more than was earned."""

import json
import re
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.payouts.decide_payouts import Decision, decide_payouts
from services.payouts.models import PayoutStatus
from services.payouts.request_payouts import Ask, NothingAvailable, Requested, request_payouts
from shared.audit import Actor
from shared.events.payments import Share
from shared.idempotency import KEY_LIMIT
from tests.payouts.conftest import NOW, Payouts, paid


async def test_from_request_to_disbursement(payouts: Payouts):
    await payouts.accrue(paid(1000), paid(500, method="cash"))
    requested = await payouts.request()
    assert requested.status_code == 201, requested.text
    payout = requested.json()
    assert (payout["amount"], payout["status"]) == (850, "requested")
    balance = await payouts.balance()
    assert (balance["available"], balance["locked"]) == (0, 850)
    assert (await payouts.decide(payout["id"], "approved")).json()["status"] == "approved"
    done = await payouts.decide(payout["id"], "disbursed", method="bank_transfer", reference="EFT 1")
    assert done.json()["disbursed_at"] is not None
    seen = (await payouts.http.get(f"/api/v1/payouts/{payout['id']}", headers=payouts.driver())).json()
    assert sum(earning["payable"] for earning in seen["earnings"]) == 850
    assert (await payouts.balance())["lifetime_paid"] == 850
    events = [json.loads(row["event"]) for row in await payouts.fetch("SELECT event::text FROM outbox ORDER BY id")]
    assert [e["type"] for e in events[2:]] == ["payout-requested", "payout-approved", "payout-disbursed"]
    trail = await payouts.fetch("SELECT before::text, after::text FROM audit ORDER BY at")
    assert len(trail) == 3
    assert json.loads(trail[-1]["before"]) == {"status": "approved"}
    paid_by = {"method": "bank_transfer", "reference": "EFT 1"}
    assert json.loads(trail[-1]["after"]) == {"status": "disbursed", "reason": None, **paid_by}
    await payouts.check_books()


async def test_part_of_the_money(payouts: Payouts):
    await payouts.accrue(paid(1000), paid(1000), paid(100, method="cash"))
    first = await payouts.request(amount=1000)
    assert (first.status_code, first.json()["amount"]) == (201, 1000)
    assert (await payouts.balance())["available"] == 790
    second = await payouts.request(amount=791)
    assert second.status_code == 409
    assert second.json()["type"] == "urn:takings:problem:more-than-available"
    third = await payouts.request(amount=790)
    assert third.status_code == 201
    await payouts.check_books()
    ids = []
    for payout in (first, third):
        seen = (await payouts.http.get(f"/api/v1/payouts/{payout.json()['id']}", headers=payouts.finance)).json()
        ids += [earning["id"] for earning in seen["earnings"]]
        assert sum(earning["payable"] for earning in seen["earnings"]) == seen["amount"]
    assert len(ids) == len(set(ids)) == 4


async def test_nothing_available(payouts: Payouts):
    await payouts.accrue(paid(1000, method="cash"))
    answer = await payouts.request()
    assert answer.status_code == 409
    assert "KES 1.00 is owed" in answer.json()["detail"]


@pytest.mark.parametrize("end", ["rejected", "failed"])
async def test_money_comes_back(payouts: Payouts, end):
    await payouts.accrue(paid(1000))
    payout = (await payouts.request()).json()
    assert (await payouts.decide(payout["id"], "approved")).status_code == 200
    assert (await payouts.decide(payout["id"], end)).status_code == 422
    assert (await payouts.decide(payout["id"], end, reason="wrong account")).status_code == 200
    assert (await payouts.balance())["available"] == 900
    assert (await payouts.decide(payout["id"], "disbursed", method="cash")).status_code == 409
    assert (await payouts.request()).json()["amount"] == 900
    await payouts.check_books()


async def test_batches_answer_per_item(payouts: Payouts):
    await payouts.accrue(*(paid(1000, payees=(Share(f"d{i}", 10_000),)) for i in range(3)))
    body = {"payee_ids": ["d0", "d1", "d2", "nobody", "d0"]}
    answer = await payouts.http.post("/api/v1/payouts/request-batch", json=body, headers=payouts.finance)
    results = answer.json()["results"]
    assert [r["status"] for r in results] == [201, 201, 201, 409, 409]
    ids = [r["id"] for r in results[:3]]
    for path, extra in (("approve", {}), ("disburse", {"method": "wallet"})):
        body = {"ids": [*ids, str(uuid4()), ids[0]], **extra}
        answer = await payouts.http.post(f"/api/v1/payouts/{path}", json=body, headers=payouts.finance)
        assert [r["status"] for r in answer.json()["results"]] == [200, 200, 200, 404, 409]
    page = (await payouts.http.get("/api/v1/payouts", params={"limit": 2}, headers=payouts.finance)).json()
    rest = (
        await payouts.http.get(
            "/api/v1/payouts", params={"limit": 2, "cursor": page["next_cursor"]}, headers=payouts.finance
        )
    ).json()
    assert {p["id"] for p in page["items"] + rest["items"]} == set(ids)
    assert rest["next_cursor"] is None
    await payouts.check_books()


async def test_same_key_same_answer(payouts: Payouts):
    await payouts.accrue(paid(1000))
    headers = {**payouts.driver(), "idempotency-key": "k1"}
    first = await payouts.http.post("/api/v1/payouts/request", json={}, headers=headers)
    again = await payouts.http.post("/api/v1/payouts/request", json={}, headers=headers)
    assert (first.status_code, first.content) == (again.status_code, again.content)
    other = await payouts.http.post("/api/v1/payouts/request", json={"amount": 1}, headers=headers)
    assert other.status_code == 422
    assert other.json()["type"] == "urn:takings:problem:idempotency-key-reused"


async def test_the_same_key_of_two_drivers_is_two_payouts(payouts: Payouts):
    await payouts.accrue(paid(1000), paid(1000, payees=(Share("d2", 10_000),)))
    for driver in ("d1", "d2"):
        headers = {**payouts.driver(driver), "idempotency-key": "payday"}
        answer = await payouts.http.post("/api/v1/payouts/request", json={}, headers=headers)
        assert (answer.status_code, answer.json()["payee_id"]) == (201, driver)


async def test_a_first_earning_that_comes_while_two_ask_is_paid_once(payouts: Payouts):
    """The wallet appears between one request's locking and its reading: it must not pay what it has not locked."""
    db = payouts.running.service.db
    ask = {"tenant_id": "t1", "currency": "KES", "actor": Actor("test"), "now": NOW}

    async with db.transaction("t1") as first:

        class Interleaved:
            """The first request's connection; after its first statement everything of the second one happens."""

            done = False

            def __getattr__(self, name):
                return getattr(first, name)

            async def fetch(self, *arguments):
                rows = await first.fetch(*arguments)
                if not self.done:
                    self.done = True
                    await payouts.accrue(paid(1000))
                    async with db.transaction("t1") as second:
                        (other,) = await request_payouts(second, [Ask("d1")], **ask)
                    assert isinstance(other, Requested)
                return rows

        (mine,) = await request_payouts(Interleaved(), [Ask("d1")], **ask)
    assert isinstance(mine, NothingAvailable)
    await payouts.check_books()


class Watched:
    """A connection that remembers its statements."""

    def __init__(self, conn):
        self.conn, self.statements = conn, []

    def __getattr__(self, name):
        method = getattr(self.conn, name)
        if name not in {"fetch", "fetchrow", "fetchval", "execute"}:
            return method

        def call(statement, *arguments):
            self.statements.append(statement)
            return method(statement, *arguments)

        return call


async def test_wallets_are_locked_once_and_before_anything_is_written(payouts: Payouts):
    db, who = payouts.running.service.db, {"tenant_id": "t1", "actor": Actor("test"), "now": NOW}

    async def locks_of(call):
        async with db.transaction("t1") as conn:
            watched = Watched(conn)
            (outcome,) = await call(watched)
        writes = [n for n, said in enumerate(watched.statements) if re.search(r"INSERT INTO|UPDATE (?!OF\b)\w", said)]
        locks = [n for n, said in enumerate(watched.statements) if "FOR UPDATE OF wallets" in said]
        assert all(lock < writes[0] for lock in locks)
        return outcome, len(locks)

    for last in ("disbursed", "rejected", "failed"):
        await payouts.accrue(paid(1000))
        requested, locks = await locks_of(lambda conn: request_payouts(conn, [Ask("d1")], currency="KES", **who))
        assert locks == 1
        for status, locks in (("approved", 0), (last, 1)):
            decision = Decision(PayoutStatus(status), reason="r", method="cash")
            decided = await locks_of(lambda conn: decide_payouts(conn, [requested.payout_id], decision, **who))  # noqa: B023
            assert decided == (requested.payout_id, locks)
    await payouts.check_books()


async def test_a_large_batch_is_answered_in_the_order_given(payouts: Payouts):
    await payouts.accrue(*(paid(1000, payees=(Share(f"d{i}", 10_000),)) for i in range(250)))
    body = {"payee_ids": [f"d{i}" for i in range(250)]}
    headers = {**payouts.finance, "idempotency-key": "k" * KEY_LIMIT}
    first = await payouts.http.post("/api/v1/payouts/request-batch", json=body, headers=headers)
    assert [(r["index"], r["payee_id"], r["status"]) for r in first.json()["results"]] == [
        (i, f"d{i}", 201) for i in range(250)
    ]
    again = await payouts.http.post("/api/v1/payouts/request-batch", json=body, headers=headers)
    assert again.json() == first.json()
    await payouts.check_books()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("earn"), st.integers(1, 10_000), st.sampled_from(["mobile", "cash"])),
            st.tuples(st.just("ask"), st.one_of(st.none(), st.integers(1, 20_000)), st.just("")),
            st.tuples(
                st.just("decide"), st.integers(0, 5), st.sampled_from(["approved", "rejected", "disbursed", "failed"])
            ),
        ),
        max_size=25,
    )
)
async def test_books_hold_whatever_happens(payouts: Payouts, steps):
    """Any sequence of earnings, wishes and decisions of one payee keeps every rule of the books."""
    payee = str(uuid4())
    made: list[str] = []
    for kind, number, word in steps:
        if kind == "earn":
            await payouts.accrue(paid(number, method=word, payees=(Share(payee, 10_000),)))
        elif kind == "ask":
            answer = await payouts.request(payee, **({} if number is None else {"amount": number}))
            assert answer.status_code in {201, 409}
            made += [answer.json()["id"]] if answer.status_code == 201 else []
        elif made:
            answer = await payouts.decide(made[number % len(made)], word, reason="r", method="cash")
            assert answer.status_code in {200, 409}
    await payouts.check_books()
