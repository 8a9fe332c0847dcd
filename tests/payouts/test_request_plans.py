"""A payout is asked for in milliseconds by a tenant that came after the table's last statistics, too."""

import json
from datetime import UTC, datetime
from uuid import uuid4

from services.payouts.request_payouts import LOCK_EARNINGS
from shared.db import PLANS
from tests.conftest import connected

EARNINGS = 4_000
EARN = """
INSERT INTO earnings (tenant_id, earning_id, payment_id, payee_id, currency, gross, commission, commission_bp, net, cash_held,
                      paid_at, accrued_at, available_at)
SELECT $1, gen_random_uuid(), gen_random_uuid(), 'd' || n % 20, 'KES', 100, 10, 1000, 90, 0, now(), now(), now()
FROM generate_series(1, $2) AS n
"""


async def test_earnings_are_locked_by_their_key_whatever_the_statistics_say(database):
    urls = await database("payouts")
    async with connected(urls.superuser) as owner:
        await owner.execute(EARN, "known", EARNINGS)
        await owner.execute("ANALYZE earnings")
        await owner.execute(EARN, "new", EARNINGS)
    async with connected(urls.app, "new") as conn:
        for setting, value in PLANS.items():
            await conn.execute("SELECT set_config($1, $2, false)", setting, value)
        ask = ("new", "KES", [uuid4()], ["d1"], [10**6], datetime.now(UTC))
        plan = json.loads(await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {LOCK_EARNINGS}", *ask))
    assert max(_rows_looked_at(plan[0]["Plan"])) <= EARNINGS


def _rows_looked_at(node):
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    yield node["Actual Loops"] * (node["Actual Rows"] + removed)
    for part in node.get("Plans", ()):
        yield from _rows_looked_at(part)
