"""A seeded generator of one synthetic day of matatu trips in Nairobi: the same seed and count give the same trips."""

import random
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

from deploy.simulator.city import CURRENCY, FIRST_NAMES, LAST_NAMES, TIME_ZONE, Vehicle, build_vehicles
from deploy.simulator.trips import Passenger, Trip

DAY = date(2026, 3, 2)  # a Monday, fixed so that a seed means the same trips on any day it is typed

# Share of the day's trips in each hour: a morning peak to town, a longer one home.
HOUR_WEIGHTS = (2, 1, 1, 1, 4, 18, 52, 84, 70, 38, 28, 28, 32, 32, 28, 32, 50, 86, 92, 66, 38, 22, 12, 6)
PEAK_HOURS = frozenset({6, 7, 8, 17, 18, 19})
PEAK_FARE_PERCENT = 150
SHIFT_CHANGE_HOUR = 13

METHODS = ("mobile", "cash", "card", "prepaid")
METHOD_WEIGHTS = (62, 26, 8, 4)
FEE_BP = {"mobile": 55, "card": 290}  # what the gateway keeps, in basis points of the amount
TIPS_KES = (20, 50, 50, 100)

# What a trip can be, and how often; the opening ones are in every run, however short.
KINDS = ("fare", "tipped", "failed", "free", "charter")
KIND_WEIGHTS = (880, 90, 22, 5, 3)
OPENING = ("fare", "failed", "free", "charter", "tipped")

TRIPS_PER_VEHICLE = 25
VEHICLES_MIN, VEHICLES_MAX = 16, 400


class GeneratedTrips:
    """`count` trips of one day, in the order of the day; iterated more than once, they are the same again."""

    currency = CURRENCY
    time_zone = TIME_ZONE

    def __init__(self, *, seed: int, count: int, day: date = DAY) -> None:
        self.seed = seed
        self.count = count
        self.day = day
        self.read = 0
        self.rejected: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Trip]:
        rng = random.Random(self.seed)  # noqa: S311 synthetic trips, no secret
        self.read = 0
        size = min(max(self.count // TRIPS_PER_VEHICLE, VEHICLES_MIN), VEHICLES_MAX)
        vehicles = build_vehicles(rng, count=size)
        passengers = _passengers(rng, count=max(self.count // 4, 8))
        hours = list(accumulate(HOUR_WEIGHTS))
        midnight = datetime.combine(self.day, time(), tzinfo=ZoneInfo(TIME_ZONE)).astimezone(UTC)
        for ordinal in range(self.count):
            seconds = _second_of_day(hours, (ordinal + rng.random()) / self.count)
            kind = OPENING[ordinal] if ordinal < len(OPENING) else rng.choices(KINDS, KIND_WEIGHTS)[0]
            self.read += 1
            yield self._trip(
                rng,
                ordinal,
                kind,
                seconds=seconds,
                occurred_at=midnight + timedelta(seconds=seconds),
                vehicle=rng.choice(vehicles),
                rider=rng.choice(passengers),
            )

    def fraction(self) -> float:
        """How much of the day has been generated, 0 to 1."""
        return self.read / self.count if self.count else 1.0

    def _trip(
        self,
        rng: random.Random,
        ordinal: int,
        kind: str,
        *,
        seconds: int,
        occurred_at: datetime,
        vehicle: Vehicle,
        rider: tuple[str, Passenger],
    ) -> Trip:
        hour = seconds // 3600
        method = rng.choices(METHODS, METHOD_WEIGHTS)[0]
        if vehicle.cash_only:
            method = "cash"
        if method == "cash" and kind == "failed":
            method = "mobile"  # cash in the hand does not fail
        amount = _amount(rng, kind, fare=vehicle.fare, peak=hour in PEAK_HOURS)
        failed = kind == "failed"
        return Trip(
            trip_id=f"nbo-{self.seed}-{ordinal + 1:06d}",
            occurred_at=occurred_at,
            day=self.day,
            amount=amount,
            method=method,
            failed=failed,
            fleet_id=vehicle.fleet,
            client_id=rider[0],
            vehicle_id=vehicle.plate,
            route_id=vehicle.route,
            payee_id=vehicle.drivers[hour >= SHIFT_CHANGE_HOUR],
            passenger=rider[1],
            fee=0 if failed else (amount * FEE_BP.get(method, 0) + 5_000) // 10_000,
        )


def _amount(rng: random.Random, kind: str, *, fare: int, peak: bool) -> int:
    if kind == "free":  # staff and school passes
        return 0
    if kind == "charter":
        return rng.randrange(12_000, 60_000, 500) * 100
    price = fare * PEAK_FARE_PERCENT // 100 // 10 * 10 if peak else fare
    tip = rng.choice(TIPS_KES) if kind == "tipped" else 0
    return (price + tip) * 100


def _second_of_day(hours: list[int], share: float) -> int:
    """The second by which `share` (0 to 1) of the day's trips have begun."""
    place = share * hours[-1]
    hour = min(bisect(hours, place), 23)
    before = hours[hour] - HOUR_WEIGHTS[hour]
    return min(hour * 3600 + int((place - before) / HOUR_WEIGHTS[hour] * 3600), 86_399)


def _passengers(rng: random.Random, *, count: int) -> tuple[tuple[str, Passenger], ...]:
    people = []
    for number in range(count):
        name = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
        people.append((f"passenger-{number + 1:05d}", Passenger(name, f"+254700{number % 1_000_000:06d}")))
    return tuple(people)
