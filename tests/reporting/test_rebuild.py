"""Any read model can be thrown away: the same events in any order, with repeats, build identical tables."""

import random
from datetime import timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporting.facts import merge_payment, merge_payout
from tests.conftest import TENANTS
from tests.reporting.calls import contents, project
from tests.reporting.events import NOON, earning, payment, payout, unmatched


def a_story(seed):
    """The events of a few dozen payments and payouts of two tenants, as their services would publish them."""
    draw = random.Random(seed)
    events = []
    for number in range(30):
        tenant, (_, currency) = draw.choice(list(TENANTS.items()))
        same = {
            "tenant": tenant,
            "currency": draw.choice([currency, "USD"]),
            "amount": draw.randint(1, 100_000),
            "paid_at": NOON + timedelta(minutes=draw.randint(0, 6000)),
        }
        known = {
            "fleet_id": draw.choice(["f1", "f2", None]),
            "vehicle_id": draw.choice(["v1", "v2", None]),
            "payees": draw.choice([{}, {"d1": 10_000}, {"d1": 3_333, "d2": 6_667}]),
            "fee": draw.choice([0, 0, 7]),
            "method": draw.choice(["cash", "mobile"]),
        }
        name = f"p{number}"
        kinds = draw.choice([[], ["pending"], ["pending", "failed"], ["failed"]])
        announced = same | {key: value for key, value in known.items() if key != "fee"}
        events += [payment(name, kind, **announced) for kind in kinds]
        ending = draw.choice(["completed", "completed", "matched", "none"])
        if ending == "matched":
            events += [unmatched(name, **same), payment(name, "matched", **same, **known)]
        elif ending == "completed":
            events.append(payment(name, **same, **known))
        if ending != "none":
            cash = same["amount"] if known["method"] == "cash" else 0
            net = same["amount"] - same["amount"] // 10
            events += [
                earning(
                    f"e{number}-{payee}",
                    tenant=tenant,
                    payment_id=name,
                    payee_id=payee,
                    currency=same["currency"],
                    gross=same["amount"],
                    commission=same["amount"] - net,
                    amount=net,
                    cash_held=cash,
                    paid_at=same["paid_at"],
                )
                for payee in known["payees"]
            ]
        way = draw.choice([[], ["requested"], ["requested", "approved", "disbursed"], ["requested", "rejected"]])
        amount = draw.randint(1, 5_000)
        events += [
            payout(f"o{number}", kind, tenant=tenant, amount=amount, at=NOON + timedelta(days=step))
            for step, kind in enumerate(way)
        ]
    return events


async def project_in_batches(db, events, draw):
    rest = list(events)
    while rest:
        size = draw.randint(1, 40)
        batch, rest = rest[:size], rest[size:]
        await project(db, *batch)


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_with_repeats_rebuilds_identical_tables(new_db, seed):
    draw = random.Random(seed)
    story = a_story(seed)
    shuffled = [*story, *draw.sample(story, len(story) // 2)]
    draw.shuffle(shuffled)
    tables = []
    for events in (story, shuffled):
        db = await new_db()
        await project_in_batches(db, events, draw)
        tables.append(await contents(db))
    assert tables[0] == tables[1]
    assert tables[0]["daily_rollups"]
    assert tables[0]["payee_balances"]


@pytest.mark.parametrize("seed", range(3))
async def test_the_rollups_are_the_sums_of_the_facts(db, seed):
    await project_in_batches(db, a_story(seed), random.Random(seed))
    async with db.transaction("acme", "other") as conn:
        facts = await conn.fetch(
            "SELECT tenant_id, currency, day, sum(amount) AS revenue, count(*), sum(fee) AS fees FROM payments"
            " WHERE status = 'completed' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        for dimension in ("total", "fleet", "route", "vehicle", "method", "payee"):
            rows = await conn.fetch(
                "SELECT tenant_id, currency, day, sum(revenue) AS revenue, sum(payments) AS count, sum(fees) AS fees"
                " FROM daily_rollups WHERE dimension = $1 GROUP BY 1, 2, 3 HAVING sum(payments) > 0 ORDER BY 1, 2, 3",
                dimension,
            )
            if dimension == "payee":  # a payment of two payees counts once for each
                assert [(*r[:4], r[5]) for r in rows] == [(*f[:4], f[5]) for f in facts]
            else:
                assert [tuple(r) for r in rows] == [tuple(f) for f in facts]


@st.composite
def told_twice(draw, one_event):
    """Some events of one aggregate, and the same in another order with repeats."""
    events = draw(st.lists(one_event, min_size=1, max_size=6))
    return events, [*draw(st.permutations(events)), *draw(st.lists(st.sampled_from(events), max_size=4))]


EVENT_IDS = st.uuids(version=4)
A_PAYMENT = st.builds(
    lambda kind, amount, event_id: msgspec.structs.replace(payment("p1", kind, amount=amount), id=event_id),
    st.sampled_from(["pending", "failed", "completed", "matched"]),
    st.integers(1, 10**15),
    EVENT_IDS,
)
A_PAYOUT = st.builds(
    lambda kind, hours, event_id: msgspec.structs.replace(
        payout("o1", kind, at=NOON + timedelta(hours=hours)), id=event_id
    ),
    st.sampled_from(["requested", "approved", "disbursed", "rejected", "failed"]),
    st.integers(0, 100),
    EVENT_IDS,
)


def merged(merge, events):
    fact = None
    for event in events:
        fact = merge(fact, event, ZoneInfo("Africa/Nairobi"))
    return fact


@given(told_twice(A_PAYMENT))
def test_merging_payments_commutes_and_is_idempotent(orders):
    assert merged(merge_payment, orders[0]) == merged(merge_payment, orders[1])


@given(told_twice(A_PAYOUT))
def test_merging_payouts_commutes_and_is_idempotent(orders):
    assert merged(merge_payout, orders[0]) == merged(merge_payout, orders[1])
