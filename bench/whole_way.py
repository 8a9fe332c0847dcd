"""The whole way of a day's trips on a local stack of its own: from ready to the finished report, as the demo plays it."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from bench.options import Options
from bench.place import Place
from bench.processes import used_s
from bench.result import Result, at_most
from deploy.state import PROJECT, read_json, state_folder

TRIPS = 34_092  # as many as the file that the target is about
TIME_LIMIT_S = 600


def bench(place: Place, options: Options) -> list[Result]:
    """Row `whole-way`, in seconds."""
    state = place.folder / "stack"
    state.mkdir()
    cache = state_folder() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (state / "cache").symlink_to(cache)
    seconds: list[float] = []
    stages: dict[str, float] = {}
    cpu_s: dict[str, float] = {}
    for _ in range(options.rounds):
        stages = _play(place, state, options, cpu_s)
        seconds.append(stages.pop("total"))
    what = str(options.trips.name) if options.trips else f"{TRIPS} generated trips"
    cpu = {name: round(value, 1) for name, value in cpu_s.items()}
    return [at_most("whole-way", seconds, 90, "s", trips=what, stages=stages, cpu_s=cpu)]


def _play(place: Place, state: Path, options: Options, cpu_s: dict[str, float]) -> dict[str, float]:
    report = state / "report.json"
    chosen = ["--count", str(TRIPS), "--seed", "1"]
    if options.trips:
        chosen = ["--trips", str(options.trips.resolve())]
        chosen += ["--map", str(options.mapping.resolve())] if options.mapping else []
    said = state / "demo.log"
    with said.open("w") as log:
        demo = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", "demo", "--once", "--report", str(report), *chosen],
            cwd=PROJECT, env={**os.environ, "TAKINGS_STATE": str(state)}, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    deadline = time.monotonic() + TIME_LIMIT_S
    while demo.poll() is None:
        _look(place, state, cpu_s)
        if time.monotonic() > deadline:
            demo.terminate()
        time.sleep(0.5)
    if demo.returncode != 0:
        raise RuntimeError(f"the demo failed with status {demo.returncode}: {said.read_text()[-3_000:]}")
    return dict(json.loads(report.read_text())["seconds"])


def _look(place: Place, state: Path, cpu_s: dict[str, float]) -> None:
    """What the stack's processes have used until now."""
    stack = read_json(state / "stack.json")
    if not stack:
        return
    with suppress(psutil.NoSuchProcess):  # it is stopping
        for name, service in stack["services"].items():
            for pid in service["pids"]:
                place.keep_resident(name, pid)
                cpu_s[name] = used_s(pid)
        for name in ("postgres", "kafka"):
            cpu_s[name] = used_s(stack[name]["pid"])
