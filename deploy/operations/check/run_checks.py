"""Make every check, each database in one snapshot, and say what was found."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from deploy.operations.access import connected
from deploy.operations.check import alerts, known_tenants, payments, payments_trail, payouts, payouts_trail, reporting
from deploy.operations.check.comparisons import compare
from deploy.operations.check.facts import FACTS
from deploy.operations.check.findings import Check, Outcome, make
from deploy.operations.check.raised import compare_alerts
from deploy.operations.take_turns import keep_rebuilds_out
from shared.db import Connection

# Downstream first: what a reader's snapshot shows, its source's shows too.
SNAPSHOT_ORDER = ("alerts", "reporting", "payouts", "payments")
CHECKS: tuple[Check, ...] = tuple(
    check
    for module in (known_tenants, payments, payments_trail, payouts, payouts_trail, reporting, alerts)
    for check in module.CHECKS
)
STATEMENT_LIMIT = "30min"
SETTINGS = {
    "TimeZone": "UTC",  # one way to write an instant, on both sides of a comparison
    "statement_timeout": STATEMENT_LIMIT,
    "idle_in_transaction_session_timeout": "0",
    "cursor_tuple_fraction": "1",
    "work_mem": "64MB",
    # Where nothing is known yet of a tenant's rows, say after a bulk load or a crash, few are expected, and each of a hundred
    # thousand would be held against all others. Joins by hash are never that slow.
    "enable_nestloop": "off",
    "jit": "off",
}


async def run_checks() -> list[Outcome]:
    """Every check's outcome. Raises StackError without access to the databases, and while one is being rebuilt."""
    async with snapshots_of_all() as snapshots:

        async def of_service(service: str) -> list[Outcome]:
            return [await make(check, snapshots[service]) for check in CHECKS if check.service == service]

        try:
            async with asyncio.TaskGroup() as group:
                found = [group.create_task(of_service(service)) for service in reversed(SNAPSHOT_ORDER)]
        except ExceptionGroup as failed:  # a connection that was lost; the others' statements are canceled by now
            raise failed.exceptions[0] from None
        outcomes = [outcome for of_one in found for outcome in of_one.result()]
        outcomes += [await compare(comparison, snapshots) for comparison in FACTS]
        return [*outcomes, await compare_alerts(snapshots)]


@asynccontextmanager
async def snapshots_of_all() -> AsyncIterator[dict[str, Connection]]:
    """A snapshot of each database, by service, that only reads and lasts as long as the checks need."""
    async with AsyncExitStack() as stack:
        yield {service: await stack.enter_async_context(_snapshot(service)) for service in SNAPSHOT_ORDER}


@asynccontextmanager
async def _snapshot(service: str) -> AsyncIterator[Connection]:
    async with connected(service, "auditor", command="check", settings=SETTINGS) as conn:
        await keep_rebuilds_out(conn, service)
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            await conn.execute("SELECT 1")  # the first statement: now the snapshot is taken
            yield conn


def lines_of(outcomes: Sequence[Outcome]) -> list[str]:
    """The outcomes for a terminal: a line each, the rows at fault beneath it."""
    lines = []
    for outcome in outcomes:
        lines.append(f"{'held ' if outcome.is_held else 'FAULT'}  {outcome.service}: {outcome.holds}")
        if outcome.error:
            lines.append(f"         could not be checked: {outcome.error}")
        lines += [f"         {f.table_name} {f.key} of {f.tenant_id}: {f.problem}" for f in outcome.faults]
        if outcome.more:
            lines.append(
                f"         and {outcome.more:,} more" if outcome.is_counted else "         and more, not looked for"
            )
    failed = sum(not outcome.is_held for outcome in outcomes)
    return [*lines, f"{failed} of {len(outcomes)} checks failed" if failed else f"all {len(outcomes)} checks held"]
