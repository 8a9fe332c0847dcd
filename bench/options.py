"""What a run of the benchmarks may be told."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """`payments`: how many are present where that matters; `trips` and `mapping`: a file for the whole way, else generated."""

    rounds: int
    payments: int
    trips: Path | None = None
    mapping: Path | None = None
