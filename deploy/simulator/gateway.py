"""The payment gateway: signs Standard Webhooks callbacks and sends them as gateways do: twice, late, out of order."""

import asyncio
import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from deploy.simulator.client import LOST, TRANSIENT, TRIES, DemoFailed, pause
from deploy.simulator.trips import Trip

AT_ONCE = 64  # callbacks in flight
STALE_S = 900  # how old a replayed forgery is; the tolerance is 300 s
FORGERIES = ("wrong signature", "stale timestamp", "unknown account")
FORGERY_EVERY = 150  # gateway trips; the first three are followed by one of each kind

# How the gateway behaves for a trip, by its place among fifty; what is not listed is sent once, in order.
MANNERS_OF = 50
MANNERS = {
    0: "early",  # before its request is registered
    1: "twice",
    2: "completed before pending",
    3: "failed after completed",
    4: "three times",
    5: "pending first",
    **dict.fromkeys((11, 21, 31), "twice"),
    **dict.fromkeys((12, 32), "completed before pending"),
    **dict.fromkeys((20,), "early"),
}
# A failed payment is final here too, so nothing weaker or stronger follows it: the alert it raises stays countable.
MANNERS_WHEN_FAILED = {"completed before pending": "pending first", "failed after completed": "twice"}


@dataclass(slots=True)
class Sent:
    """What was sent and how it was answered; `repeats` are those that must change nothing, `resent` the retries."""

    callbacks: int = 0
    repeats: int = 0
    resent: int = 0
    forged: int = 0
    forged_refused: int = 0
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Script:
    """The callbacks of one trip: waves in order, each wave's bodies sent at once."""

    trip: Trip
    waves: tuple[tuple[bytes, ...], ...]
    early: bool
    repeats: int
    forgery: str | None


def transaction_id(trip_id: str) -> str:
    """The gateway's (or the cashier's) id of the payment for a trip, the same in every run."""
    return "tx-" + hashlib.blake2b(trip_id.encode(), digest_size=12).hexdigest()


def decode_secret(secret: str) -> bytes:
    """The HMAC key in a "whsec_…" secret."""
    return base64.b64decode(secret.removeprefix("whsec_"))


def sign(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The webhook-signature header, "v1,<base64>"; `timestamp` in seconds. Source: Standard Webhooks specification."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def callback_body(trip: Trip, kind: str, currency: str) -> bytes:
    """The JSON of a `payment.<kind>` callback for a trip, completed, failed or pending; the amount in minor units."""
    paid_at = trip.occurred_at.isoformat()
    data: dict[str, Any] = {
        "transaction_id": transaction_id(trip.trip_id),
        "request_id": trip.trip_id,
        "amount": trip.amount,
        "currency": currency,
        "method": trip.method,
        "paid_at": paid_at,
    }
    if trip.fee and kind == "completed":
        data["fee"] = trip.fee
    if trip.passenger:
        data["payer"] = {"name": trip.passenger.name, "phone": trip.passenger.phone}
    if kind == "failed":
        data["failure"] = {"code": "not_collected", "message": "The payment was not collected."}
    return msgspec.json.encode({"type": f"payment.{kind}", "timestamp": paid_at, "data": data})


def write_script(trip: Trip, ordinal: int, currency: str) -> Script:
    """How the gateway reports a trip, by its `ordinal` (from 0) among the trips paid through the gateway."""
    manner = MANNERS.get(ordinal % MANNERS_OF, "once")
    if trip.failed:
        manner = MANNERS_WHEN_FAILED.get(manner, manner)
    final = callback_body(trip, "failed" if trip.failed else "completed", currency)
    waves: tuple[tuple[bytes, ...], ...] = ((final,),)
    repeats = 0
    if manner == "twice":
        waves, repeats = ((final, final),), 1
    elif manner == "three times":
        waves, repeats = ((final, final), (final,)), 2
    elif manner == "pending first":
        waves = ((callback_body(trip, "pending", currency),), (final,))
    elif manner == "completed before pending":
        waves, repeats = ((final,), (callback_body(trip, "pending", currency),)), 1
    elif manner == "failed after completed":
        waves, repeats = ((final,), (callback_body(trip, "failed", currency),)), 1
    forged = ordinal < len(FORGERIES) or ordinal % FORGERY_EVERY == 0
    place = ordinal if ordinal < len(FORGERIES) else ordinal // FORGERY_EVERY
    forgery = FORGERIES[place % len(FORGERIES)] if forged else None
    return Script(trip, waves, manner == "early", repeats, forgery)


class Gateway:
    """A gateway account that sends callbacks to `url` (the payments service); `clock` gives seconds since 1970."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, *, account_id: str, secret: str, clock: Callable[[], float]
    ) -> None:
        self._session = session
        self._url = URL(f"{url.rstrip('/')}/api/v1/webhooks/standard/{account_id}")
        self._nobody = URL(f"{url.rstrip('/')}/api/v1/webhooks/standard/{account_id}-nobody")
        self._key = decode_secret(secret)
        self._clock = clock
        self._room = asyncio.Semaphore(AT_ONCE)
        self._decoder = msgspec.json.Decoder()
        self.sent = Sent()

    async def play(self, script: Script) -> None:
        """Send the callbacks of a script, wave by wave, each accepted before the next wave. Raises DemoFailed."""
        name = transaction_id(script.trip.trip_id)
        self.sent.repeats += script.repeats
        for number, wave in enumerate(script.waves):
            if len(wave) == 1:
                await self._deliver(f"msg_{name}_{number}", wave[0])
            else:
                # The same event under the same webhook-id in the first wave's twin, under another one in a later wave.
                await asyncio.gather(*(self._deliver(f"msg_{name}_{number}", body) for body in wave))
        if script.forgery:
            await self._forge(script)

    async def is_known(self) -> bool:
        """Whether the service knows the account yet: a well signed body that is no event is then a 400, not a 401."""
        status, _, _ = await self._post(self._url, "msg_probe", b"{}")
        return status == 400

    async def _deliver(self, webhook_id: str, body: bytes) -> None:
        self.sent.callbacks += 1
        async with self._room:
            status, raw, tries = await self._post(self._url, webhook_id, body)
        self.sent.resent += tries - 1
        if status != 200:
            text = raw[:300].decode(errors="replace")
            raise DemoFailed(f"a signed callback ({webhook_id}) was answered {status}: {text}")
        self.sent.answers[self._decoder.decode(raw)["result"]] += 1

    async def _forge(self, script: Script) -> None:
        """A callback that would be money if it were believed: another transaction of the same trip."""
        forged = msgspec.json.decode(script.waves[0][0])
        forged["data"]["transaction_id"] += "-forged"
        body = msgspec.json.encode(forged)
        key = b"not the secret of this account" if script.forgery == "wrong signature" else self._key
        url = self._nobody if script.forgery == "unknown account" else self._url
        age_s = STALE_S if script.forgery == "stale timestamp" else 0
        self.sent.forged += 1
        async with self._room:
            status, _, _ = await self._post(url, f"msg_{script.trip.trip_id[:40]}_forged", body, key=key, age_s=age_s)
        self.sent.forged_refused += status == 401

    async def _post(
        self, url: URL, webhook_id: str, body: bytes, *, key: bytes | None = None, age_s: int = 0
    ) -> tuple[int, bytes, int]:
        """Post until the answer is more than "busy": (status, body, tries). Raises DemoFailed after the last try."""
        for attempt in range(TRIES):
            timestamp = int(self._clock()) - age_s
            headers = {
                "content-type": "application/json",
                "webhook-id": webhook_id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": sign(key or self._key, webhook_id, timestamp, body),
            }
            try:
                async with self._session.post(url, data=body, headers=headers) as response:
                    raw = await response.read()
            except LOST as error:
                if attempt == TRIES - 1:
                    raise DemoFailed(f"a callback ({webhook_id}) got no answer from {url}: {error!r}") from error
                await pause(attempt)
                continue
            if response.status not in TRANSIENT or attempt == TRIES - 1:
                return response.status, raw, attempt + 1
            await pause(attempt, response.headers.get("Retry-After"))
        raise AssertionError("unreachable")
