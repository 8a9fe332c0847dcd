"""The whole way of a day's trips on a local stack of its own: from ready to the finished report, as the demo plays it."""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import psutil

from bench.options import Options
from bench.place import Place
from bench.result import Result, at_most
from deploy.state import PROJECT, read_json, state_folder

TRIPS = 34_092  # as many as the file that the target is about
TIME_LIMIT_S = 600
RESIDENT_LIMIT_MB = 250


def bench(place: Place, options: Options) -> list[Result]:
    """Rows `whole-way` (seconds) and `memory` (the largest service, at its largest)."""
    state = place.folder / "stack"
    state.mkdir()
    cache = state_folder() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (state / "cache").symlink_to(cache)
    seconds: list[float] = []
    stages: dict[str, float] = {}
    peak: defaultdict[str, float] = defaultdict(float)
    for _ in range(options.rounds):
        stages = _play(state, options, peak)
        seconds.append(stages.pop("total"))
    what = str(options.trips.name) if options.trips else f"{TRIPS} generated trips"
    largest = max(peak.values())
    resident = {name: round(value) for name, value in peak.items()}
    return [
        at_most("whole-way", seconds, 90, "s", trips=what, stages=stages),
        at_most("memory", [largest], RESIDENT_LIMIT_MB, "MB resident at most", each=resident),
    ]


def _play(state: Path, options: Options, peak: defaultdict[str, float]) -> dict[str, float]:
    report = state / "report.json"
    chosen = ["--count", str(TRIPS), "--seed", "1"]
    if options.trips:
        chosen = ["--trips", str(options.trips.resolve())]
        chosen += ["--map", str(options.mapping.resolve())] if options.mapping else []
    demo = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "demo", "--once", "--report", str(report), *chosen],
        cwd=PROJECT, env={**os.environ, "TAKINGS_STATE": str(state)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + TIME_LIMIT_S
    while demo.poll() is None:
        _keep_peaks(state, peak)
        if time.monotonic() > deadline:
            demo.terminate()
        time.sleep(0.5)
    if demo.returncode != 0:
        raise RuntimeError(f"the demo failed with status {demo.returncode}: its report is {report}")
    return dict(json.loads(report.read_text())["seconds"])


def _keep_peaks(state: Path, peak: defaultdict[str, float]) -> None:
    stack = read_json(state / "stack.json") or {}
    for name, service in stack.get("services", {}).items():
        for pid in service["pids"]:
            try:
                peak[name] = max(peak[name], psutil.Process(pid).memory_info().rss / 2**20)
            except psutil.NoSuchProcess:
                continue
