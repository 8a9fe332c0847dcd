"""Trips that are paid in every way, and what they must leave in all books; worked out apart from the product's own rules."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Africa/Nairobi")
CURRENCY = "KES"
HIGH_VALUE = 900_000
DRIVERS, FLEETS = 20, 3
WAYS = {"webhook": 67, "twice": 10, "early": 4, "overpaid": 5, "failed": 5, "cash": 4, "collected": 5}


@dataclass(frozen=True)
class Trip:
    """What must be paid, and what is paid for it; `reference` names the request, and the transaction with a prefix."""

    reference: str
    way: str
    due: int
    amount: int
    fee: int
    shares: tuple[tuple[str, int], ...]
    fleet: str
    paid_at: datetime

    @property
    def transaction(self) -> str:
        return f"tx-{self.reference}"

    @property
    def status(self) -> str:
        return "failed" if self.way == "failed" else "completed"

    @property
    def is_cash(self) -> bool:
        return self.way in {"cash", "collected"}

    @property
    def method(self) -> str:
        return "cash" if self.is_cash else "mobile"

    def request(self) -> dict[str, Any]:
        """The body of its registration."""
        return {
            "id": self.reference,
            "kind": "trip",
            "amount": self.due,
            "currency": CURRENCY,
            "occurred_at": self.paid_at.isoformat(),
            "client_id": "c1",
            "fleet_id": self.fleet,
            "payees": [{"payee_id": payee, "share_bp": share} for payee, share in self.shares],
        }

    def receipt(self) -> dict[str, Any]:
        """What the gateway, or who took the cash, tells of its payment."""
        told = {
            "transaction_id": self.transaction,
            "request_id": self.reference,
            "amount": self.amount,
            "currency": CURRENCY,
            "method": self.method,
            "paid_at": self.paid_at.isoformat(),
        }
        return told if self.is_cash else told | {"fee": self.fee}


def new_trip(chance: random.Random, reference: str) -> Trip:
    """A trip like any other, and now and then one that is not."""
    way = chance.choices(list(WAYS), list(WAYS.values()))[0]
    due = chance.randrange(100, 1_000_000)
    drivers = chance.sample(range(DRIVERS), chance.choices([1, 2], [4, 1])[0])
    shares = [10_000] if len(drivers) == 1 else [share := chance.randrange(1, 10_000), 10_000 - share]
    return Trip(
        reference=reference,
        way=way,
        due=due,
        amount=due + chance.randrange(1, 5_000) if way == "overpaid" else due,
        fee=0 if way in {"cash", "collected", "failed"} else chance.randrange(0, 99),
        shares=tuple((f"driver-{driver}", share) for driver, share in zip(drivers, shares, strict=True)),
        fleet=f"fleet-{chance.randrange(FLEETS)}",
        paid_at=datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=chance.randrange(1, 3_000)),
    )


@dataclass(frozen=True)
class Payout:
    """A payout as its client saw it in the end."""

    payee: str
    amount: int
    status: str


@dataclass
class Books:
    """What the four services know of one tenant, in shapes that can be compared."""

    payments: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    requests: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    earnings: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    wallets: dict[str, tuple[int, ...]] = field(default_factory=dict)
    accounts: dict[str, int] = field(default_factory=dict)
    payouts: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    facts: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    days: dict[tuple[str, date, str], tuple[int, ...]] = field(default_factory=dict)
    balances: dict[str, tuple[int, ...]] = field(default_factory=dict)
    alerts: dict[tuple[str, str], int] = field(default_factory=dict)


def expected_books(trips: Iterable[Trip], payouts: Mapping[str, Payout]) -> Books:
    """The books after these trips and payouts, each of them once."""
    books = Books()
    wallets: defaultdict[str, Counter[str]] = defaultdict(Counter)
    accounts: Counter[str] = Counter()
    days: defaultdict[tuple[str, date, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for trip in trips:
        paid = trip.status == "completed"
        applied = min(trip.amount, trip.due) if paid else 0
        books.payments[trip.transaction] = (trip.reference, trip.status, trip.amount, applied, trip.fee)
        books.facts[trip.transaction] = (trip.status, trip.amount, applied, trip.fee, _day(trip))
        books.requests[trip.reference] = ("completed", trip.amount) if paid else ("pending_payment", 0)
        if not paid:
            books.alerts["payment_failed", trip.transaction] = 1
            continue
        if trip.amount >= HIGH_VALUE:
            books.alerts["high_value", trip.transaction] = 1
        _count_days(days, trip)
        accounts["suspense"] += trip.amount - applied
        accounts["gateway"] -= 0 if trip.is_cash else trip.amount
        for payee, gross, commission, net, held in _earned(trip, applied):
            books.earnings[trip.transaction, payee] = (gross, commission, net, held)
            wallets[payee].update(earned=net, commission=commission, held=held)
            accounts["commission"] += commission
            accounts["wallet"] += net - held
    _count_payouts(books, payouts, wallets, accounts)
    books.accounts = {account: amount for account, amount in accounts.items() if amount}
    books.days = {key: tuple(sums) for key, sums in days.items()}
    return books


def _earned(trip: Trip, applied: int) -> list[tuple[str, int, int, int, int]]:
    parts = _split(applied, trip.shares)
    rows = []
    for (payee, _), gross in zip(trip.shares, parts, strict=True):
        commission = int((Decimal(gross) / 10).quantize(Decimal(1), ROUND_HALF_UP))
        rows.append((payee, gross, commission, gross - commission, gross if trip.is_cash else 0))
    return rows


def _split(amount: int, shares: tuple[tuple[str, int], ...]) -> list[int]:
    exact = [Decimal(amount) * share / 10_000 for _, share in shares]
    parts = [int(part) for part in exact]
    if (left := amount - sum(parts)) > 0:  # at most one unit between two
        first_is_nearer = exact[0] - parts[0] >= exact[-1] - parts[-1]
        parts[0 if first_is_nearer else -1] += left
    return parts


def _count_days(days: defaultdict[tuple[str, date, str], list[int]], trip: Trip) -> None:
    fees = _split(trip.fee, trip.shares)
    members = [("total", "", trip.amount, trip.fee), ("method", trip.method, trip.amount, trip.fee)]
    members.append(("fleet", trip.fleet, trip.amount, trip.fee))
    parts = _split(trip.amount, trip.shares)
    members += [("payee", payee, part, fee) for (payee, _), part, fee in zip(trip.shares, parts, fees, strict=True)]
    for dimension, member, revenue, fee in members:
        sums = days[dimension, _day(trip), member]
        sums[0] += revenue
        sums[1] += 1
        sums[2] += fee


def _count_payouts(
    books: Books, payouts: Mapping[str, Payout], wallets: Mapping[str, Counter[str]], accounts: Counter[str]
) -> None:
    paid: Counter[str] = Counter()
    locked: Counter[str] = Counter()
    for payout_id, payout in payouts.items():
        books.payouts[payout_id] = (payout.payee, payout.amount, payout.status)
        if payout.status == "disbursed":
            paid[payout.payee] += payout.amount
        elif payout.status in {"requested", "approved"}:
            locked[payout.payee] += payout.amount
        elif payout.status == "failed":
            books.alerts["payout_failed", payout_id] = 1
    accounts["wallet"] -= paid.total() + locked.total()
    accounts["locked"] += locked.total()
    accounts["disbursed"] += paid.total()
    for payee, sums in wallets.items():
        balance = sums["earned"] - sums["held"] - paid[payee] - locked[payee]
        books.wallets[payee] = (
            sums["earned"], sums["commission"], sums["held"], paid[payee], locked[payee], balance
        )  # fmt: skip
        books.balances[payee] = (sums["earned"], sums["held"], paid[payee])


def _day(trip: Trip) -> date:
    return trip.paid_at.astimezone(ZONE).date()
