"""What came of a rebuild."""

from typing import NamedTuple

from deploy.operations.rebuild.differences import Differences


class Rebuilt(NamedTuple):
    """Events read, those that could not be applied, what was wrong in the live tables, and how long writers waited."""

    read_model: str
    events: int
    set_aside: int
    differences: Differences
    writers_waited_s: float
    is_swapped: bool

    def lines(self) -> list[str]:
        """For a terminal."""
        wrong = [f"{table}: {count:,} rows differed" for table, count in self.differences.counts.items() if count]
        if not wrong:
            wrong = [f"{self.read_model}: the live tables were the same"]
        aside = f", {self.set_aside:,} of them not applicable" if self.set_aside else ""
        read = f"{self.read_model}: {self.events:,} events read{aside}; writers waited {self.writers_waited_s:.1f} s"
        return [*self.differences.lines, *wrong, f"{read}; {self._outcome}"]

    @property
    def _outcome(self) -> str:
        if self.is_swapped:
            return "the new tables are in place"
        if not self.differences.lacking:
            return "nothing was changed"
        lacking = ", ".join(f"{count:,} of {table}" for table, count in self.differences.lacking.items())
        return (
            f"nothing was changed: the new tables lack rows that the live ones have ({lacking}). "
            "Are the event logs whole, and the URLs the right ones? --force swaps nevertheless"
        )
