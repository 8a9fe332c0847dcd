"""The generator: the same seed gives the same trips, and a day of them looks like a day."""

from collections import Counter

import pytest

from deploy.simulator.expected import Expected, high_value_from
from deploy.simulator.generator import GeneratedTrips
from deploy.simulator.trips import TEXT_LIMIT


def test_the_same_seed_gives_the_same_trips() -> None:
    source = GeneratedTrips(seed=7, count=500)
    first = list(source)
    assert first == list(source) == list(GeneratedTrips(seed=7, count=500))
    assert first != list(GeneratedTrips(seed=8, count=500))
    assert source.fraction() == 1.0


@pytest.mark.parametrize("count", [1, 2, 7, 2000])
def test_there_are_as_many_as_asked_for_each_with_its_own_id(count: int) -> None:
    trips = list(GeneratedTrips(seed=3, count=count))
    assert len({trip.trip_id for trip in trips}) == len(trips) == count


def test_a_day_of_trips() -> None:
    trips = list(GeneratedTrips(seed=1, count=2000))
    assert [trip.occurred_at for trip in trips] == sorted(trip.occurred_at for trip in trips)
    assert {trip.day for trip in trips} == {GeneratedTrips(seed=1, count=1).day}
    hours = Counter((trip.occurred_at.hour + 3) % 24 for trip in trips)  # Nairobi is UTC+3
    assert hours[7] > 2 * hours[11]
    assert hours[18] > 10 * max(hours[2], 1)
    assert {trip.method for trip in trips} == {"mobile", "cash", "card", "prepaid"}
    whole = Expected(high_value_from("KES", 2))
    whole.add_all(trips)
    assert len(whole.due()) > 10 * len(whole.owing()) > 0
    assert len({trip.fleet_id for trip in trips}) == 8
    assert all(
        len(trip.trip_id) <= TEXT_LIMIT and trip.payee_id and trip.vehicle_id and trip.route_id for trip in trips
    )
    assert not any(trip.failed and trip.method == "cash" for trip in trips)
    assert all(0 <= trip.fee < trip.amount or not trip.amount for trip in trips)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_even_a_short_day_has_a_failure_a_free_ride_and_a_high_value(seed: int) -> None:
    expected = Expected(high_value_from("KES", 2))
    expected.add_all(GeneratedTrips(seed=seed, count=10))
    assert expected.failed
    assert expected.nothing_due
    assert expected.high_value
