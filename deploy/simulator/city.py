"""The synthetic Nairobi of the generator: saccos, routes, vehicles and drivers, invented from a seed."""

import random
from dataclasses import dataclass

CURRENCY = "KES"
TIME_ZONE = "Africa/Nairobi"

# Invented saccos (no real company) on streets and estates that exist.
FLEETS = (
    "Umoja Express Sacco",
    "Ngong Hills Shuttle",
    "Mto Safi Travellers",
    "Jamhuri Link Sacco",
    "Tausi Metro Line",
    "Kilele Riders Sacco",
    "Eastway Pamoja",
    "Simba Ring Shuttle",
)

# (route, usual fare in KES off the peak)
ROUTES = (
    ("CBD→Rongai", 100),
    ("CBD→Kawangware", 60),
    ("CBD→Ngong", 100),
    ("CBD→Githurai 45", 70),
    ("CBD→Buruburu", 60),
    ("CBD→Embakasi", 80),
    ("CBD→Kikuyu", 100),
    ("CBD→Kangemi", 50),
    ("CBD→Thika", 150),
    ("CBD→Kitengela", 130),
    ("CBD→Ruaka", 80),
    ("CBD→Utawala", 100),
    ("CBD→JKIA", 150),
    ("Westlands→Eastleigh", 70),
    ("Rongai→Kiserian", 60),
    ("CBD→Kariobangi", 60),
)

FIRST_NAMES = (
    "Achieng", "Akinyi", "Amina", "Anyango", "Atieno", "Barasa", "Chebet", "Cherono", "Fatuma", "Gathoni", "Halima",
    "Jepkosgei", "Juma", "Kamau", "Kariuki", "Kiprop", "Kipchoge", "Makena", "Mumbi", "Mutua", "Mwende", "Naliaka",
    "Njeri", "Ochieng", "Odhiambo", "Otieno", "Rotich", "Salim", "Wafula", "Wambui", "Wanjiru", "Zawadi",
)  # fmt: skip
LAST_NAMES = (
    "Abdi", "Chege", "Githinji", "Hassan", "Kamande", "Karanja", "Kimani", "Kiplagat", "Koech", "Maina", "Mbugua",
    "Muriithi", "Musyoka", "Mutiso", "Mwangi", "Ndungu", "Njoroge", "Nyambura", "Nzomo", "Oduor", "Okoth", "Omondi",
    "Onyango", "Owino", "Simiyu", "Wanyama", "Wekesa", "Were",
)  # fmt: skip
CASH_ONLY_EVERY = 16  # vehicles
PLATE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A matatu of one fleet on one route, with a driver for each of the day's two shifts; `fare` in whole KES.

    One that takes only cash has drivers who hold their whole fares, and so owe the commission in the evening.
    """

    plate: str
    fleet: str
    route: str
    fare: int
    drivers: tuple[str, str]
    cash_only: bool


def build_vehicles(rng: random.Random, *, count: int) -> tuple[Vehicle, ...]:
    """`count` vehicles with plates and drivers of their own, over all fleets; the first fleets are the larger."""
    plates: dict[str, None] = {}
    while len(plates) < count:
        letters = [rng.choice(PLATE_LETTERS) for _ in range(2)]
        plates[f"KD{letters[0]} {rng.randrange(1, 1000):03d}{letters[1]}"] = None
    weights = [len(FLEETS) + 2 - place for place in range(len(FLEETS))]
    vehicles = []
    for number, plate in enumerate(plates):
        fleet = FLEETS[number] if number < len(FLEETS) else rng.choices(FLEETS, weights)[0]
        route, fare = rng.choice(ROUTES)
        drivers = (f"driver-{2 * number + 1:04d}", f"driver-{2 * number + 2:04d}")
        vehicles.append(Vehicle(plate, fleet, route, fare, drivers, number % CASH_ONLY_EVERY == CASH_ONLY_EVERY - 1))
    return tuple(vehicles)
