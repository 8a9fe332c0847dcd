"""One check of `takings check`, made on all the databases of the environment."""

from collections.abc import Sequence

from deploy.operations.check.findings import Check, Fault, make
from deploy.operations.check.run_checks import snapshots_of_all


async def faults_of(checks: Sequence[Check], name: str) -> Sequence[Fault]:
    """What the check of that name finds; it must come to its end."""
    (check,) = (check for check in checks if check.name == name)
    async with snapshots_of_all() as snapshots:
        outcome = await make(check, snapshots[check.service])
    assert outcome.error is None
    return outcome.faults
