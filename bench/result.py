"""What a benchmark found, and how it is said."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Result:
    """One row: `ratio` is the figure that the target is about where it is one, else how many times the target is reached."""

    name: str
    ratio: float
    target: str
    met: bool
    figures: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """For a person."""
        shown = "  ".join(f"{name} {_short(value)}" for name, value in self.figures.items())
        return f"{'✓' if self.met else '✗'} {self.name:<18} ratio {self.ratio:<6.2f} (target {self.target})  {shown}"


def at_least(name: str, rates: Sequence[float], wanted: float, unit: str, **figures: Any) -> Result:
    """A rate that must reach `wanted`; the median of the rounds."""
    rate = median(rates)
    return Result(
        name, rate / wanted, f"≥ {wanted:,.0f} {unit}", rate >= wanted, {unit: round(rate), **figures, **_spread(rates)}
    )


def at_most(name: str, values: Sequence[float], wanted: float, unit: str, **figures: Any) -> Result:
    """A time or size that must not exceed `wanted`; the median of the rounds."""
    value = median(values)
    ratio = wanted / value if value else float("inf")
    return Result(
        name, ratio, f"≤ {wanted:,.0f} {unit}", value <= wanted, {unit: round(value, 1), **figures, **_spread(values)}
    )


def ratio_at_least(name: str, ratios: Sequence[float], wanted: float, **figures: Any) -> Result:
    """A ratio of two figures measured in the same round."""
    ratio = median(ratios)
    return Result(name, ratio, f"≥ {wanted}", ratio >= wanted, {**figures, **_spread(ratios)})


def write_report(file: Path, results: Sequence[Result]) -> None:
    """For a machine."""
    report = {r.name: {"ratio": round(r.ratio, 3), "target": r.target, "met": r.met, **r.figures} for r in results}
    file.write_text(json.dumps(report, indent=2) + "\n")


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"rounds": [round(value, 2) for value in values]} if len(values) > 1 else {}


def _short(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
