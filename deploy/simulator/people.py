"""The drivers who ask for their money and the finance officer who pays everybody."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploy.simulator.client import Api, DemoFailed
from deploy.simulator.tenant import Stage

DRIVERS_WHO_ASK = 5
BATCH = 1000
DISBURSE_BY = "bank_transfer"


@dataclass(frozen=True, slots=True)
class Paid:
    """How many payouts there were, `by_drivers` of them asked for by drivers.

    `second_refused`: a driver who asked again got a 409; None when nobody asked.
    """

    payouts: int
    by_drivers: int
    second_refused: bool | None


async def pay_everybody(stage: Stage, available: dict[str, int]) -> Paid:
    """Ask for, approve and disburse a payout of all that is `available` (payee -> minor units). Raises DemoFailed."""
    payees = sorted(payee_id for payee_id, amount in available.items() if amount > 0)
    askers, others = payees[:DRIVERS_WHO_ASK], payees[DRIVERS_WHO_ASK:]
    ids = [await _ask(stage.driver(payee_id)) for payee_id in askers]
    second_refused = await _asks_again(stage.driver(askers[0])) if askers else None
    for part in _parts(others):
        body = {"payee_ids": part, "currency": stage.plan.currency}
        # Asked again after a lost answer, the payees would have nothing left: a lost answer ends the run instead.
        results = await stage.payouts.batch("/api/v1/payouts/request-batch", body, count=len(part), repeatable=False)
        ids += [result["id"] for result in results]
    for part in _parts(ids):
        await stage.payouts.batch("/api/v1/payouts/approve", {"ids": part}, count=len(part), repeatable=False)
        disbursal = {"ids": part, "method": DISBURSE_BY, "reference": f"{stage.plan.tenant_id} pay day"}
        await stage.payouts.batch("/api/v1/payouts/disburse", disbursal, count=len(part), repeatable=False)
    return Paid(payouts=len(ids), by_drivers=len(askers), second_refused=second_refused)


async def _ask(driver: Api) -> str:
    payout_id = (await driver.post("/api/v1/payouts/request", {}, repeatable=False))["id"]
    if not isinstance(payout_id, str):
        raise DemoFailed(f"POST /api/v1/payouts/request answered without an id: {payout_id!r}")
    return payout_id


async def _asks_again(driver: Api) -> bool:
    answer = await driver.call("POST", "/api/v1/payouts/request", body={}, expect=(200, 201, 409), repeatable=False)
    return answer.status == 409


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), BATCH):
        yield list(ids[start : start + BATCH])
