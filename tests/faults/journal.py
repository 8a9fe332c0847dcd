"""The client's journal: each call's reference, hash, status and time, on disk before it is sent and when it is answered.

What must be in the books comes from the trips and payouts that were played; that their calls were told yes, what exactly
was sent in them, and when, comes from here.
"""

import hashlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple


class Settled(NamedTuple):
    """An answer that stands: its status, when the try that got it was sent, and when the answer came (seconds since 1970)."""

    status: int
    sent_at: float
    at: float


class Journal:
    """One line before each sending and one after each answer; a time-out has no answer and is unknown."""

    def __init__(self, file: Path) -> None:
        self._lines = file.open("a", buffering=1)
        self._sent_at: dict[str, float] = {}
        self.sent: dict[str, str] = {}
        self.settled: dict[str, Settled] = {}
        self.answers: Counter[int | str] = Counter()
        self.wrong: list[str] = []

    def sending(self, reference: str, what: bytes) -> None:
        """Before each try, all of which say the same."""
        hash_ = hashlib.sha256(what).hexdigest()
        self._sent_at[reference] = self._write(reference, hash_, "sending")
        if self.sent.setdefault(reference, hash_) != hash_:
            self.wrong.append(f"{reference}: another try said something else")

    def unknown(self, reference: str, error: Exception) -> None:
        """No answer: only a retry with the same key can tell."""
        self._answer(reference, type(error).__name__)

    def put_off(self, reference: str, status: int, retry_after: str | None) -> None:
        """A 503, which must say when to come again."""
        self._answer(reference, status)
        if retry_after is None:
            self.wrong.append(f"{reference}: {status} without Retry-After")

    def settle(self, reference: str, status: int) -> None:
        """An answer that stands."""
        at = self._answer(reference, status)
        self.settled[reference] = Settled(status, self._sent_at[reference], at)

    def refuse(self, reference: str, status: int, text: str) -> None:
        """An answer that nothing in what was sent explains."""
        self._answer(reference, status)
        self.wrong.append(f"{reference}: {status} {text[:300]}")

    @property
    def unsettled(self) -> set[str]:
        """What was sent and never learned the fate of."""
        return self.sent.keys() - self.settled.keys()

    @property
    def failed(self) -> dict[int | str, int]:
        """How many tries had no answer that stands, by what came instead."""
        return {answer: count for answer, count in self.answers.items() if answer not in {200, 201, 409}}

    def told_between(self, start: float, end: float) -> list[str]:
        """What was sent and settled between two instants."""
        return [reference for reference, one in self.settled.items() if start < one.sent_at and one.at < end]

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def _answer(self, reference: str, answer: int | str) -> float:
        self.answers[answer] += 1
        return self._write(reference, self.sent[reference], str(answer))

    def _write(self, reference: str, hash_: str, status: str) -> float:
        now = time.time()
        self._lines.write(json.dumps([reference, hash_, status, now]) + "\n")
        return now
