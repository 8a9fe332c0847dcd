"""Steady traffic as a city makes it: requests, signed callbacks, cash, payouts. Nobody gives up before an answer stands."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.faults.books import check_books, check_kept, drained
from tests.faults.journal import Journal
from tests.faults.servers import Servers
from tests.faults.trips import DRIVERS, Payout, Trip, new_trip
from tests.payments.conftest import sign

LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)
CALL_LIMIT_S = 8.0
RETRY_AFTER_S = (0.1, 0.3, 0.5, 1.0)
TRIPS_A_BATCH, TRIPS_A_CALL = 20, 500
PAYOUTS_A_BATCH = 0.7
AT_ONCE = 500
REACHED = 0.9
CALLS_A_BATCH = 2 + TRIPS_A_BATCH * 1.09 + PAYOUTS_A_BATCH  # at least


@dataclass
class City:
    """A tenant with its traffic; `rate` is in requests a second, retries not counted."""

    servers: Servers
    tenant: str
    account: str
    secret: str
    journal: Journal
    chance: random.Random
    session: aiohttp.ClientSession
    trips: list[Trip] = field(default_factory=list)
    payouts: dict[str, Payout] = field(default_factory=dict)
    deliveries: set[str] = field(default_factory=set)
    longest_s: float = 0.0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _tokens: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)
    _payouts_asked: int = 0

    async def close(self) -> None:
        """Let go of connections and journal."""
        await self.session.close()
        self.journal.close()

    @asynccontextmanager
    async def traffic(self, rate: float, *, must_be_reached: bool = False) -> AsyncIterator[None]:
        """Traffic during the block; at its end everything that was sent gets its answer.

        Fails when the `rate` had to be reached and less than REACHED of it was offered.
        """
        stop, started, sent_before = asyncio.Event(), time.monotonic(), len(self.journal.sent)
        sending = asyncio.create_task(self._send(stop, rate))
        try:
            yield
            stop.set()
            await sending
            offered = (len(self.journal.sent) - sent_before) / (time.monotonic() - started)
            await self.settled()
        finally:
            for task in (sending, *self._tasks):
                task.cancel()
            await asyncio.gather(sending, *self._tasks, return_exceptions=True)
        print(f"{len(self.trips)} trips, {len(self.payouts)} payouts, {offered:.0f} calls/s offered of {rate}, "
              f"answers {dict(self.journal.answers)}")  # fmt: skip
        assert offered >= REACHED * rate or not must_be_reached

    async def _send(self, stop: asyncio.Event, rate: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not stop.is_set():
            due += (lasts_s := CALLS_A_BATCH / rate)
            if len(self._tasks) > AT_ONCE:  # a slow machine, or a service that is away: more would only wait
                await asyncio.sleep(lasts_s)
                continue
            self.play(self._batch(lasts_s))
            if self.chance.random() < PAYOUTS_A_BATCH:
                self.play(self._payout())
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def settled(self, *, within_s: float = 60) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(within_s):
            while self._tasks:
                await asyncio.gather(*self._tasks)

    def play(self, what: Coroutine[Any, Any, None]) -> None:
        """Do something in the background."""
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def check(self, *, within_s: float = 60) -> None:
        """Fail unless everything settled exists exactly once, everywhere."""
        assert not self.journal.wrong, "\n".join(self.journal.wrong[:10])
        assert not self.journal.unsettled
        await drained(self.servers, within_s=within_s)
        await check_books(self.servers, self.tenant, self.trips, self.payouts, self.deliveries)
        await check_kept(self.servers, self.tenant, self.journal)

    def add_trip(self, way: str) -> Trip:
        """A trip that somebody else plays."""
        trip = replace(new_trip(self.chance, f"{self.tenant}-{len(self.trips)}"), way=way)
        trip = replace(trip, amount=trip.due, fee=0)
        self.trips.append(trip)
        return trip

    async def _batch(self, lasts_s: float) -> None:
        """Some trips, most of them registered at once, each paid at its own moment within `lasts_s`."""
        start = len(self.trips)
        trips = [new_trip(self.chance, f"{self.tenant}-{start + i}") for i in range(TRIPS_A_BATCH)]
        self.trips += trips
        for trip in trips:
            if trip.way == "early":
                self.play(self._early(trip))
        known = [trip for trip in trips if trip.way != "early"]
        await self._register(start, known)
        self.play(self._collect(start, [trip for trip in known if trip.way == "collected"]))
        for trip in known:
            if trip.way != "collected":
                self.play(self._on_time(trip, self.chance.uniform(0, lasts_s)))

    async def collect(self, count: int) -> None:
        """Cash for so many trips, one after the other in large calls."""
        while count > 0:
            start, some = len(self.trips), min(count, TRIPS_A_CALL)
            trips = [self.add_trip("collected") for _ in range(some)]
            await self._register(start, trips)
            await self._collect(start, trips)
            count -= some

    async def _register(self, start: int, trips: list[Trip]) -> None:
        body = {"items": [trip.request() for trip in trips]}
        answer = await self._call(
            f"requests-{start}", "payments", "POST /requests/batch", body, who=("system",), keyed=False
        )
        assert {result["status"] for result in answer["results"]} <= {200, 201}

    async def _collect(self, start: int, trips: list[Trip]) -> None:
        """The cash of several trips, told in one call; it needs no key, as each transaction counts once."""
        body = {"items": [trip.receipt() for trip in trips]}
        answer = await self._call(
            f"collected-{start}", "payments", "POST /payments/batch", body, who=("system",), keyed=False
        )
        assert {result["status"] for result in answer["results"]} <= {200, 201}

    async def _early(self, trip: Trip) -> None:
        await self.pay(trip)
        await self.register(trip)

    async def _on_time(self, trip: Trip, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self.pay(trip)
        if trip.way == "twice":
            await self.pay(trip, again=True)

    async def register(self, trip: Trip) -> None:
        """Register what must be paid for one trip."""
        await self._call(f"request-{trip.reference}", "payments", "POST /requests", trip.request(), who=("system",))

    async def pay(self, trip: Trip, *, again: bool = False) -> None:
        """Cash by a call with an Idempotency-Key, anything else by a signed callback."""
        if trip.way == "cash":
            await self._call(f"cash-{trip.reference}", "payments", "POST /payments", trip.receipt(), who=("system",))
            return
        told = {"type": f"payment.{trip.status}", "timestamp": trip.paid_at.isoformat(), "data": trip.receipt()}
        body, webhook_id = json.dumps(told).encode(), f"msg-{trip.reference}-{int(again)}"
        await self._settle(
            webhook_id, self.servers.url("payments") + f"/api/v1/webhooks/standard/{self.account}", "POST", body,
            lambda: sign(self.secret, body, webhook_id=webhook_id),
        )  # fmt: skip
        self.deliveries.add(webhook_id)

    async def _payout(self) -> None:
        wish = {} if self.chance.random() < 0.5 else {"amount": self.chance.randrange(1_000, 400_000)}
        await self.ask_for_payout(f"driver-{self.chance.randrange(DRIVERS)}", wish)

    async def ask_for_payout(self, driver: str, wish: dict[str, int]) -> None:
        """Ask for an amount or for all, and where that much was there, take it through all decisions."""
        self._payouts_asked += 1
        name = f"payout-{self._payouts_asked}"
        asked = await self._call(name, "payouts", "POST /payouts/request", wish, who=("driver", driver), may_be={409})
        if "amount" not in asked:
            return
        payout_id, payee, amount = asked["id"], driver, asked["amount"]
        self.payouts[payout_id] = Payout(payee, amount, "requested")
        end = self.chance.choices(["disbursed", "rejected", "failed"], [8, 1, 1])[0]
        for status in ("approved", end):
            body = {"status": status} | ({"reason": "a test"} if status in {"rejected", "failed"} else {})
            body |= {"method": "bank_transfer"} if status == "disbursed" else {}
            path = f"/payouts/{payout_id}/status"
            await self._call(f"{name}-{status}", "payouts", f"PUT {path}", body, who=("finance",))
            self.payouts[payout_id] = Payout(payee, amount, status)

    async def _call(
        self, name: str, service: str, call: str, body: Any,
        *, who: tuple[str, ...], may_be: frozenset[int] | set[int] = frozenset(), keyed: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        headers = {**self._token(who), "content-type": "application/json"}
        headers |= {"idempotency-key": name} if keyed else {}
        method, path = call.split()
        url = f"{self.servers.url(service)}/api/v1{path}"
        return await self._settle(name, url, method, json.dumps(body).encode(), lambda: headers, may_be=may_be)

    async def _settle(
        self, name: str, url: str, method: str, body: bytes, headers: Callable[[], dict[str, str]],
        *, may_be: frozenset[int] | set[int] = frozenset(),
    ) -> dict[str, Any]:  # fmt: skip
        attempt, what = 0, f"{method} {urlsplit(url).path}\n".encode() + body
        while True:
            self.journal.sending(name, what)
            started = time.monotonic()
            try:
                async with self.session.request(method, url, data=body, headers=headers()) as answer:
                    text = await answer.text()
            except LOST as error:
                self.journal.unknown(name, error)
            else:
                if answer.status < 300 or answer.status in may_be:
                    self.journal.settle(name, answer.status)
                    return json.loads(text)
                if answer.status != 503:
                    self.journal.refuse(name, answer.status, text)
                    raise AssertionError(f"{method} {url}: {answer.status} {text}")
                self.journal.put_off(name, 503, answer.headers.get("Retry-After"))
            finally:
                self.longest_s = max(self.longest_s, time.monotonic() - started)
            await asyncio.sleep(RETRY_AFTER_S[min(attempt, len(RETRY_AFTER_S) - 1)])
            attempt += 1

    def _token(self, who: tuple[str, ...]) -> dict[str, str]:
        if who not in self._tokens:
            role, *driver = who
            claims = {"driver_id": driver[0]} if driver else {}
            self._tokens[who] = self.servers.bearer(role, tenant=self.tenant, **claims)
        return self._tokens[who]
