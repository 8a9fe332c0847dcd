"""One service's HTTP API as a caller sees it: token, JSON, pages, patience with one that is busy or restarting."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

TRANSIENT = frozenset({429, 502, 503, 504})
LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)
TRIES = 10
PAUSE_S, PAUSE_MAX_S = 0.05, 3.0
TIMEOUT_S = 60.0
KEEP_ALIVE_S = 2.0  # shorter than any server's, so that no call meets a connection that is just being closed
PAGE_LIMIT = 1000


class DemoFailed(RuntimeError):
    """The run cannot go on; the message says what was asked, of whom, and what came back."""


class ApiRefused(DemoFailed):
    """An answer that was not expected, after all tries."""

    def __init__(self, call: str, status: int, problem: str) -> None:
        super().__init__(f"{call} answered {status}: {problem}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer with its decoded JSON body (None when there is none)."""

    status: int
    body: Any


def open_session() -> aiohttp.ClientSession:
    """A client session without cookies or limits of its own: the callers bound themselves."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        skip_auto_headers={"User-Agent", "Accept-Encoding", "Accept"},
    )


async def pause(attempt: int, retry_after: str | None = None) -> None:
    """Back off before the next try: doubled from 50 ms, or what the server asked for, at most 3 s."""
    wait_s = float(PAUSE_S * 2**attempt)
    if retry_after is not None and retry_after.isdigit():
        wait_s = max(wait_s, float(retry_after))
    await asyncio.sleep(min(wait_s, PAUSE_MAX_S))


class Api:
    """The API at `url` (without /api/v1) for the bearer of `token`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str = "") -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: dict[str, str] | None = None,
        expect: Collection[int] = (200, 201),
        repeatable: bool = True,
    ) -> Answer:
        """Call and return the answer when its status is in `expect`. Raises ApiRefused, DemoFailed.

        A busy service (503) is asked again; after a lost connection too, when the call is `repeatable`.
        """
        call = f"{method} {self._url}{path}"
        data = None if body is None else msgspec.json.encode(body)
        for attempt in range(TRIES):
            try:
                async with self._session.request(
                    method, self._url + path, data=data, params=params, headers=self._headers
                ) as response:
                    raw = await response.read()
            except LOST as error:
                if not repeatable or attempt == TRIES - 1:
                    raise DemoFailed(f"{call}: no answer: {error!r}") from error
                await pause(attempt)
                continue
            if response.status in expect:
                return Answer(response.status, msgspec.json.decode(raw) if raw else None)
            if response.status not in TRANSIENT or attempt == TRIES - 1:
                raise ApiRefused(call, response.status, raw[:500].decode(errors="replace"))
            await pause(attempt, response.headers.get("Retry-After"))
        raise AssertionError("unreachable")

    async def get(self, path: str, **params: str | int) -> Any:
        """The body of GET `path`. Raises ApiRefused, DemoFailed."""
        return (await self.call("GET", path, params=_texts(params), expect=(200,))).body

    async def post(self, path: str, body: Any, *, repeatable: bool = True) -> Any:
        """The body of POST `path`. Raises ApiRefused, DemoFailed."""
        return (await self.call("POST", path, body=body, repeatable=repeatable)).body

    async def batch(self, path: str, body: Any, *, count: int, repeatable: bool = True) -> list[dict[str, Any]]:
        """The `results` of a batch of `count` items, in order. Raises DemoFailed naming the first refused item."""
        results: list[dict[str, Any]] = (await self.post(path, body, repeatable=repeatable))["results"]
        if sorted(result["index"] for result in results) != list(range(count)):
            raise DemoFailed(f"POST {path}: {count} items sent, {len(results)} results or wrong indexes")
        for result in results:
            if result["status"] not in {200, 201}:
                problem = msgspec.json.encode(result.get("problem")).decode()
                raise DemoFailed(f"POST {path}: item {result['index']} was refused with {result['status']}: {problem}")
        return sorted(results, key=lambda result: int(result["index"]))

    async def pages(self, path: str, **params: str | int) -> AsyncIterator[dict[str, Any]]:
        """Each page of a listing, followed by its cursor to the end. Raises ApiRefused, DemoFailed."""
        cursor: str | None = None
        seen: set[str] = set()
        while True:
            page = await self.get(path, limit=PAGE_LIMIT, **params, **({"cursor": cursor} if cursor else {}))
            yield page
            cursor = page.get("next_cursor")
            if not cursor:
                return
            if cursor in seen:
                raise DemoFailed(f"GET {path}: the same cursor came twice")
            seen.add(cursor)

    async def items(self, path: str, **params: str | int) -> list[dict[str, Any]]:
        """All items of a listing. Raises ApiRefused, DemoFailed."""
        return [item async for page in self.pages(path, **params) for item in page["items"]]


def _texts(params: dict[str, str | int]) -> dict[str, str]:
    return {name: str(value) for name, value in params.items()}
