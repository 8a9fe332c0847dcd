"""`takings check` on the audit trail of payouts: how a payout was paid is what its event told."""

import asyncpg

from deploy.operations.check import payouts_trail
from deploy.operations.check.findings import make
from deploy.operations.check.run_checks import snapshots_of_all

PAID = "WHERE action = 'payout-disbursed'"


async def test_another_method_is_found_and_rows_of_before_it_was_written_hold(world):
    conn = await asyncpg.connect(world.urls["payouts"].superuser)
    (check,) = (check for check in payouts_trail.CHECKS if check.name == "payouts audited")

    async def faults():
        async with snapshots_of_all() as snapshots:
            outcome = await make(check, snapshots["payouts"])
        assert outcome.error is None
        return outcome.faults

    assert await conn.fetchval(f"SELECT after ->> 'method' FROM audit {PAID}") == "wallet"  # noqa: S608 - a constant
    assert await faults() == []
    for method in ('"cash"', "null"):
        await conn.execute(f"UPDATE audit SET after = after || '{{\"method\": {method}}}' {PAID}")  # noqa: S608
        (fault,) = await faults()
        assert "method is" in fault.problem
    await conn.execute(f"UPDATE audit SET after = after - 'method' {PAID}")  # noqa: S608
    assert await faults() == []
    await conn.close()
