"""The day itself: trips registered in batches, callbacks and cash beside them, a few batches at a time."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from deploy.simulator.expected import Expected
from deploy.simulator.gateway import Script, transaction_id, write_script
from deploy.simulator.tenant import Stage
from deploy.simulator.trips import Trip, Trips

CHUNK = 500  # trips registered by one call; the API takes up to 1000
CHUNKS_AT_ONCE = 3
SAMPLES = 5


@dataclass(slots=True)
class Day:
    """What happened: `registered` and `cash` as the API acknowledged them; ids of a few trips to look at afterwards."""

    registered: int = 0
    cash: int = 0
    free_samples: list[str] = field(default_factory=list)
    early_samples: list[str] = field(default_factory=list)


async def play_day(stage: Stage, trips: Trips, expected: Expected, *, progress: Callable[[float, int], None]) -> Day:
    """Play all trips, adding each to `expected`. Raises DemoFailed.

    `progress` is told the fraction of the source that is done (0 to 1) and the number of trips registered.
    """
    day = Day()
    room = asyncio.Semaphore(CHUNKS_AT_ONCE)
    ordinal = 0

    async def play(chunk: list[Trip], scripts: list[Script], cash: list[Trip], fraction: float) -> None:
        try:
            await _play_chunk(stage, day, chunk, scripts, cash)
            progress(fraction, day.registered)
        finally:
            room.release()

    async with asyncio.TaskGroup() as group:
        for chunk in _chunks(trips, CHUNK):
            await room.acquire()
            expected.add_all(chunk)
            paid = [trip for trip in chunk if trip.amount]
            by_gateway = [trip for trip in paid if trip.method != "cash" or trip.failed]
            scripts = [
                write_script(trip, ordinal + place, stage.plan.currency) for place, trip in enumerate(by_gateway)
            ]
            ordinal += len(scripts)
            cash = [trip for trip in paid if trip.method == "cash" and not trip.failed]
            group.create_task(play(chunk, scripts, cash, trips.fraction()))
    return day


async def _play_chunk(stage: Stage, day: Day, chunk: list[Trip], scripts: list[Script], cash: list[Trip]) -> None:
    gateway = stage.gateway
    await _gather(gateway.play(script) for script in scripts if script.early)
    items = [request_item(trip, stage.plan.currency) for trip in chunk]
    results = await stage.booking.batch("/api/v1/requests/batch", {"items": items}, count=len(items))
    day.registered += len(results)  # on a line of its own: += beside an await loses what others added meanwhile
    async with asyncio.TaskGroup() as group:
        for script in scripts:
            if not script.early:
                group.create_task(gateway.play(script))
        if cash:
            group.create_task(_collect_cash(stage, day, cash))
    _keep(day.free_samples, (trip.trip_id for trip in chunk if not trip.amount))
    _keep(day.early_samples, (script.trip.trip_id for script in scripts if script.early and not script.trip.failed))


async def _collect_cash(stage: Stage, day: Day, cash: list[Trip]) -> None:
    items = [cash_item(trip, stage.plan.currency) for trip in cash]
    results = await stage.booking.batch("/api/v1/payments/batch", {"items": items}, count=len(items))
    day.cash += len(results)


def request_item(trip: Trip, currency: str) -> dict[str, Any]:
    """A trip as an item of POST /requests/batch; what it does not have is left out."""
    item: dict[str, Any] = {
        "id": trip.trip_id,
        "kind": "trip",
        "amount": trip.amount,
        "currency": currency,
        "occurred_at": trip.occurred_at.isoformat(),
        "client_id": trip.client_id,
        "fleet_id": trip.fleet_id,
        "platform": "simulator",
        "payees": [{"payee_id": trip.payee_id}] if trip.payee_id else [],
    }
    if trip.passenger:
        item["client"] = {"name": trip.passenger.name, "phone": trip.passenger.phone}
    if trip.route_id:
        item["route_id"] = trip.route_id
    if trip.vehicle_id:
        item["vehicle_id"] = trip.vehicle_id
    return item


def cash_item(trip: Trip, currency: str) -> dict[str, Any]:
    """A cash fare as an item of POST /payments/batch."""
    return {
        "request_id": trip.trip_id,
        "transaction_id": transaction_id(trip.trip_id),
        "amount": trip.amount,
        "currency": currency,
        "method": "cash",
        "paid_at": trip.occurred_at.isoformat(),
    }


async def _gather(plays: Iterable[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for play in plays:
            group.create_task(play)


def _chunks(trips: Iterable[Trip], size: int) -> Iterator[list[Trip]]:
    iterator = iter(trips)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _keep(samples: list[str], ids: Iterable[str]) -> None:
    samples.extend(islice(ids, max(SAMPLES - len(samples), 0)))
