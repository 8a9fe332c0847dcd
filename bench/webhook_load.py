"""A webhook client that costs little: signed requests made beforehand, sent over kept connections, latencies measured."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvloop

TIME_LIMIT_S = 300.0


@dataclass
class Outcome:
    """What a run of requests took: seconds in all and for each, and how many were answered other than 200."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def per_s(self) -> float:
        """Requests answered in a second."""
        return len(self.latencies_s) / self.seconds

    def latency_ms(self, share: float) -> float:
        """The latency that `share` of the requests did not exceed."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def signed_requests(url: str, account_id: str, secret: str, bodies: Sequence[bytes]) -> list[bytes]:
    """Whole HTTP requests, signed as of now."""
    key, now, host = base64.b64decode(secret.removeprefix("whsec_")), int(time.time()), urlsplit(url).netloc
    requests = []
    for number, body in enumerate(bodies):
        name = f"msg_{now}_{number}"
        signature = base64.b64encode(hmac.digest(key, f"{name}.{now}.".encode() + body, hashlib.sha256)).decode()
        head = (
            f"POST /api/v1/webhooks/standard/{account_id} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"webhook-id: {name}\r\nwebhook-timestamp: {now}\r\nwebhook-signature: v1,{signature}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


def send(url: str, requests: Sequence[bytes], *, connections: int) -> Outcome:
    """Send all, each connection the next one as soon as it has its answer."""
    outcome = Outcome()
    uvloop.run(_send(url, requests, outcome, connections, None))
    return outcome


async def send_steadily(
    url: str, requests: Sequence[bytes], outcome: Outcome, *, connections: int, per_s: float
) -> None:
    """Send all at a steady rate; a late answer does not excuse the next request."""
    await _send(url, requests, outcome, connections, per_s)


async def _send(url: str, requests: Sequence[bytes], outcome: Outcome, connections: int, per_s: float | None) -> None:
    left = iter(requests)
    host, port = urlsplit(url).netloc.split(":")
    loop = asyncio.get_running_loop()
    lines = [
        (await loop.create_connection(lambda: _Line(outcome, left, per_s), host, int(port)))[1]
        for _ in range(connections)
    ]
    began = time.perf_counter()
    for number, line in enumerate(lines):
        line.begin(began, number, connections)
    async with asyncio.timeout(TIME_LIMIT_S):
        await asyncio.gather(*(line.done for line in lines))
    outcome.seconds = time.perf_counter() - began
    for line in lines:
        line.close()


class _Line(asyncio.Protocol):
    """One connection: a request, its answer, the next."""

    def __init__(self, outcome: Outcome, left: Iterator[bytes], per_s: float | None) -> None:
        self._outcome, self._left, self._per_s = outcome, left, per_s
        self._answer = b""
        self._sent_at = self._due = 0.0
        self._step_s = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def begin(self, now: float, number: int, connections: int) -> None:
        """Send the first request; at a steady rate the lines begin one after the other."""
        if self._per_s:
            self._step_s = connections / self._per_s
            self._due = now + number / self._per_s
            asyncio.get_running_loop().call_later(number / self._per_s, self._next)
        else:
            self._next()

    def _next(self) -> None:
        request = next(self._left, None)
        if request is None:
            self.done.set_result(None)
            return
        # At a steady rate a late answer does not excuse the next request: its waiting counts too.
        self._sent_at = self._due if self._per_s else time.perf_counter()
        self._due += self._step_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        now = time.perf_counter()
        self._outcome.latencies_s.append(now - self._sent_at)
        self._outcome.answered_at.append(now)
        self._outcome.refused += not head.startswith(b"HTTP/1.1 200")
        self._answer = b""
        if self._per_s and self._due > now:
            asyncio.get_running_loop().call_later(self._due - now, self._next)
        else:
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the service closed the connection"))

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


def _length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.index(b"content-length:") + len(b"content-length:")
    return int(lowered[start : lowered.find(b"\r\n", start) if b"\r\n" in lowered[start:] else None])
