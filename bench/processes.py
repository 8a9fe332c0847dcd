"""CPU time of a benchmark's processes: where a payment's time goes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import psutil


class Round(NamedTuple):
    """What one round found: work done a second, and microseconds of CPU for each piece of it."""

    per_s: float
    cpu_us: dict[str, int]


@dataclass
class CpuSeconds:
    """CPU seconds by who used them, and the seconds that passed."""

    passed: float = 0.0
    used: dict[str, float] = field(default_factory=dict)

    def per_item_us(self, items: int) -> dict[str, int]:
        """Microseconds of CPU for each of `items`."""
        return {name: round(1e6 * seconds / items) for name, seconds in self.used.items()}


@contextmanager
def cpu_seconds(**pids: int) -> Iterator[CpuSeconds]:
    """Measure processes, each with its children; those that have ended count through their parent."""
    measured, began = CpuSeconds(), time.perf_counter()
    before = {name: used_s(pid) for name, pid in pids.items()}
    yield measured
    measured.passed = time.perf_counter() - began
    measured.used = {name: used_s(pid) - before[name] for name, pid in pids.items()}


def middle(rounds: Sequence[dict[str, int]]) -> dict[str, int]:
    """The medians of several rounds."""
    return {name: round(median(each[name] for each in rounds)) for name in rounds[0]}


def resident_mb(pid: int) -> float:
    """Resident memory of one process."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def used_s(pid: int) -> float:
    """CPU seconds of a process and its children until now."""
    parent = psutil.Process(pid)
    own = parent.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in parent.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return float(total)
