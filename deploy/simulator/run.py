"""One run of the demo: a tenant, a day of trips, pay day, and the report that proves its own sums."""

import secrets
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.errors import WrongUse, leaves
from deploy.simulator.booking import play_day
from deploy.simulator.checks import Played, check_run
from deploy.simulator.client import DemoFailed, open_session
from deploy.simulator.closing import Waited, pay_and_settle, read_books, settle_payments
from deploy.simulator.expected import Expected, high_value_from
from deploy.simulator.generator import GeneratedTrips
from deploy.simulator.mapping import MappingError, read_mapping
from deploy.simulator.report import build_report, write_report
from deploy.simulator.screen import DayProgress, print_report
from deploy.simulator.tenant import Mint, Plan, open_tenant
from deploy.simulator.trips import Trips, TripsFile, TripsFileError
from shared.clocks import utc_now
from shared.money import exponent

SEED_LIMIT = 1_000_000
STAGES = ("setup", "ingest", "settle", "payouts")


@dataclass(frozen=True)
class DemoOptions:
    """A file of trips with its mapping, or `count` generated trips of a `seed` (None: a new one); `report`: JSON."""

    trips: Path | None = None
    mapping: Path | None = None
    count: int = 2000
    seed: int | None = None
    report: Path | None = None


async def run_demo(stack: dict[str, Any], mint: Mint, options: DemoOptions) -> int:
    """Play a run on the stack that `stack` (as stack.json) describes, print its report; 0 if all checks held, or 1."""
    console = Console(highlight=False)
    failures: list[str] = []
    try:
        return await _run(console, stack, mint, options)
    except* (DemoFailed, MappingError, TripsFileError) as group:
        failures = [str(error) for error in leaves(group)]
    for failure in dict.fromkeys(failures):
        console.print(f"The demo failed: {failure}", style="bold red", markup=False)
    return 1


async def _run(console: Console, stack: dict[str, Any], mint: Mint, options: DemoOptions) -> int:
    trips, what = open_trips(options)
    tenant_id = f"demo-{utc_now():%Y%m%d}-{secrets.token_hex(3)}"
    plan = Plan(tenant_id, trips.currency, trips.time_zone, high_value_from(trips.currency, exponent(trips.currency)))
    title = f"{tenant_id}: {what}"
    console.print(title, markup=False)
    expected = Expected(plan.high_value_from)
    waited = Waited(lambda line: console.print(f"  {line}", markup=False))
    laps = [time.monotonic()]
    async with open_session() as session:
        stage = await open_tenant(session, stack, mint, plan, clock=time.time)
        laps.append(time.monotonic())
        with DayProgress(console) as progress:
            day = await play_day(stage, trips, expected, progress=progress.show)
        laps.append(time.monotonic())
        before = await settle_payments(stage, expected, waited)
        laps.append(time.monotonic())
        paid = await pay_and_settle(stage, before, waited)
        laps.append(time.monotonic())
        samples = [*day.free_samples, *day.early_samples]
        books = await read_books(stage, expected, before, waited, sample_ids=samples)
    seconds = dict(zip(STAGES, (end - start for start, end in pairwise(laps)), strict=True))
    seconds["total"] = time.monotonic() - laps[0]
    sent = stage.gateway.sent
    played = Played(trips.read, dict(trips.rejected), day.registered, day.cash, sent, paid, waited.missing)
    checks = check_run(played, expected, books)
    report = build_report(played, expected, books, checks, seconds)
    print_report(console, report, title=title, currency=plan.currency)
    if options.report is not None:
        write_report(options.report, report)
        console.print(f"Report: {options.report}", markup=False)
    return 0 if all(check.ok for check in checks) else 1


def check_options(options: DemoOptions) -> None:
    """Raises WrongUse for files that no demo could play, so that nothing is started for them."""
    for file in (options.trips, options.mapping):
        if file is not None and not file.is_file():
            raise WrongUse(f"no such file: {file}")
    try:
        if options.mapping is not None:
            read_mapping(options.mapping)
        trips, _ = open_trips(options)
        if options.trips is not None:
            next(iter(trips), None)  # its header has the columns that are mapped
    except (DemoFailed, MappingError, TripsFileError, OSError) as error:
        raise WrongUse(" ".join(str(error).split())) from error


def open_trips(options: DemoOptions) -> tuple[Trips, str]:
    """Where the trips come from, and what to call it (with the seed). Raises DemoFailed, MappingError."""
    if options.trips is None:
        if options.count < 1:
            raise DemoFailed(f"the count of trips must be at least 1, not {options.count}")
        seed = secrets.randbelow(SEED_LIMIT) if options.seed is None else options.seed
        return GeneratedTrips(seed=seed, count=options.count), f"{options.count:,} synthetic trips, seed {seed}"
    if options.mapping is None:
        raise DemoFailed(f"{options.trips} needs a mapping (MAP=mapping.toml); see deploy/mappings/template.toml")
    return TripsFile(options.trips, read_mapping(options.mapping)), f"the trips of {options.trips.name}"
