"""`takings check` on the audit trail of payouts: how a payout was paid is what its event told."""

import asyncpg

from deploy.operations.check import payouts_trail
from tests.operations.one_check import faults_of

PAID = "WHERE action = 'payout-disbursed'"


async def test_another_method_is_found_and_rows_of_before_it_was_written_hold(world):
    conn = await asyncpg.connect(world.urls["payouts"].superuser)

    async def faults():
        return await faults_of(payouts_trail.CHECKS, "payouts audited")

    assert await conn.fetchval(f"SELECT after ->> 'method' FROM audit {PAID}") == "wallet"  # noqa: S608 - a constant
    assert await faults() == []
    for method in ('"cash"', "null"):
        await conn.execute(f"UPDATE audit SET after = after || '{{\"method\": {method}}}' {PAID}")  # noqa: S608
        (fault,) = await faults()
        assert "method is" in fault.problem
    await conn.execute(f"UPDATE audit SET after = after - 'method' {PAID}")  # noqa: S608
    assert await faults() == []
    await conn.close()
