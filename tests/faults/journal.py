"""The client's journal: what was sent and how it was answered, on disk before the next step. It is the oracle's only source."""

import hashlib
import json
import time
from collections import Counter
from pathlib import Path


class Journal:
    """One line before each sending and one after each answer; a time-out has no answer and is unknown."""

    def __init__(self, file: Path) -> None:
        self._lines = file.open("a", buffering=1)
        self.sent: set[str] = set()
        self.settled: dict[str, int] = {}
        self.answers: Counter[int | str] = Counter()
        self.wrong: list[str] = []

    def sending(self, reference: str, body: bytes) -> None:
        """Before each try."""
        self._write(reference, hashlib.sha256(body).hexdigest()[:16], "sending")
        self.sent.add(reference)

    def unknown(self, reference: str, error: Exception) -> None:
        """No answer: only a retry with the same key can tell."""
        self._write(reference, "", type(error).__name__)
        self.answers[type(error).__name__] += 1

    def put_off(self, reference: str, status: int, retry_after: str | None) -> None:
        """A 503, which must say when to come again."""
        self._write(reference, "", str(status))
        self.answers[status] += 1
        if retry_after is None:
            self.wrong.append(f"{reference}: {status} without Retry-After")

    def settle(self, reference: str, status: int) -> None:
        """An answer that stands."""
        self._write(reference, "", str(status))
        self.answers[status] += 1
        self.settled[reference] = status

    def refuse(self, reference: str, status: int, text: str) -> None:
        """An answer that nothing in what was sent explains."""
        self._write(reference, "", str(status))
        self.answers[status] += 1
        self.wrong.append(f"{reference}: {status} {text[:300]}")

    @property
    def unsettled(self) -> set[str]:
        """What was sent and never learned the fate of."""
        return self.sent - set(self.settled)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def _write(self, reference: str, body_hash: str, status: str) -> None:
        self._lines.write(json.dumps([reference, body_hash, status, time.time()]) + "\n")
