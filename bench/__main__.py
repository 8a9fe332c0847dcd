"""`python -m bench [--only NAME] [--report FILE]`: how fast this is on this machine; see docs/performance.md."""

import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import psutil
import typer

from bench import backlog, growth, ingest, reports, visible, whole_way
from bench.options import Options
from bench.place import Place, place
from bench.result import Result, at_most, write_report
from deploy.state import state_folder

MEMORY, RESIDENT_LIMIT_MB = "memory", 250
# What is measured together, on servers of its own, and the rows that it gives.
Bench = Callable[[Place, Options], list[Result]]
BENCHES: dict[tuple[str, ...], Bench] = {
    ("ingest", "ingest-latency", "batch"): ingest.bench,
    ("relay",): backlog.relay,
    ("payouts", "reporting", "alerts"): backlog.consumers,
    ("visible",): visible.bench,
    ("reports",): reports.bench,
    ("growth-ingest",): growth.ingest,
    ("growth-payouts", "growth-reporting"): growth.earnings,
    ("growth-alerts",): growth.alerts,
    ("whole-way", MEMORY): whole_way.bench,
}


def main(  # noqa: PLR0917 - options
    only: Annotated[str, typer.Option(help="Rows to measure, comma-separated; all when empty.")] = "",
    report: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds; the median counts.")] = 3,
    payments: Annotated[int, typer.Option(min=1000, help="How many are present where that matters.")] = 10_000_000,
    trips: Annotated[
        Path | None, typer.Option(help="A trips file for the whole way, instead of generated trips.")
    ] = None,
    mapping: Annotated[Path | None, typer.Option("--map", help="Its mapping.")] = None,
) -> None:
    """Measure, print, and exit 1 when a target is missed."""
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    known = {name for names in BENCHES for name in names}
    if wanted - known:
        sys.exit(f"there is no benchmark {', '.join(sorted(wanted - known))}: it is one of {', '.join(sorted(known))}")
    options = Options(rounds, payments, trips, mapping)
    print(_machine(), flush=True)
    results: list[Result] = []
    resident_mb: dict[str, float] = {}
    for names, bench in BENCHES.items():
        if wanted and not wanted & set(names):
            continue
        began, stolen_before = time.perf_counter(), _stolen_s()
        try:
            found = _on_fresh_servers(bench, options, resident_mb)
        except Exception as error:  # noqa: BLE001 - the other rows, which take an hour, are worth having
            figures = {"error": str(error)}
            found = [
                Result(name, 0.0, "to be measured", met=False, figures=figures) for name in names if name != MEMORY
            ]
        for result in found:
            print(result.line(), flush=True)
        lasted_s = time.perf_counter() - began
        stolen = (_stolen_s() - stolen_before) / lasted_s / (psutil.cpu_count() or 1)
        print(
            f"  ({', '.join(names)}: {lasted_s:.0f} s; {stolen:.0%} of the processors went to other machines)",
            flush=True,
        )
        results += found
    if resident_mb and (not wanted or MEMORY in wanted):
        results.append(_memory(resident_mb))
        print(results[-1].line(), flush=True)
    if report:
        write_report(report, results)
    sys.exit(0 if all(result.met for result in results) else 1)


def _on_fresh_servers(bench: Bench, options: Options, resident_mb: dict[str, float]) -> list[Result]:
    state_folder().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=state_folder()))
    try:
        with place(folder, resident_mb) as here:
            return bench(here, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _memory(resident_mb: dict[str, float]) -> Result:
    """Row `memory`: the largest service after all that has been measured."""
    each = {name: round(value) for name, value in resident_mb.items()}
    return at_most(MEMORY, [max(resident_mb.values())], RESIDENT_LIMIT_MB, "MB resident at most", each=each)


def _stolen_s() -> float:
    """Seconds of its processors that a virtual machine's host has kept from it until now; 0 where nobody can know."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return (
        f"{psutil.cpu_count()} cores of {model}, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"Python {platform.python_version()}, load {psutil.getloadavg()[0]:.1f} before the start"
    )


typer.run(main)
