"""What the books must show, added up from the trips that were sent, independently of any code of the services."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from deploy.simulator.trips import Trip

COMMISSION_BP = 1000  # a new tenant's plan: 10 %
GROUPINGS = ("method", "fleet", "route", "vehicle", "payee")
NOBODY = "(null)"  # the key of what names no vehicle, route or payee
HIGH_VALUE_MAJOR = {"KES": 10_000}  # whole units from which a payment raises an alert
HIGH_VALUE_MAJOR_ELSE = 1_000


@dataclass(frozen=True, slots=True)
class Line:
    """A sum in minor units and how many payments it is of."""

    amount: int = 0
    count: int = 0


@dataclass(slots=True)
class PayeeAccount:
    """One payee's sums in minor units; `cash` is what the payee collected and holds."""

    earned: int = 0
    commission: int = 0
    cash: int = 0

    @property
    def net(self) -> int:
        """What is due to the payee; negative when the payee owes."""
        return self.earned - self.cash


@dataclass(slots=True)
class Expected:
    """The sums over the trips added so far, money in minor units of one currency; `high_value_from` is inclusive."""

    high_value_from: int
    requests: int = 0
    nothing_due: int = 0
    failed: int = 0
    high_value: int = 0
    cash_held: int = 0
    fees: int = 0
    revenue: Line = field(default_factory=Line)
    by_day: dict[str, Line] = field(default_factory=dict)
    by: dict[str, dict[str, Line]] = field(default_factory=lambda: {grouping: {} for grouping in GROUPINGS})
    payees: dict[str, PayeeAccount] = field(default_factory=dict)

    @property
    def earned(self) -> int:
        """The sum of all payees' earnings."""
        return sum(payee.earned for payee in self.payees.values())

    @property
    def commission(self) -> int:
        """The sum of the commissions kept from them."""
        return sum(payee.commission for payee in self.payees.values())

    def due(self) -> dict[str, int]:
        """What is to be paid out, by payee; those with nothing due are left out."""
        return {payee_id: payee.net for payee_id, payee in self.payees.items() if payee.net > 0}

    def owing(self) -> dict[str, int]:
        """What is owed by payees who collected more than they earned."""
        return {payee_id: -payee.net for payee_id, payee in self.payees.items() if payee.net < 0}

    def add(self, trip: Trip) -> None:
        """Count one trip that is being sent."""
        self.requests += 1
        if not trip.amount:
            self.nothing_due += 1
        elif trip.failed:
            self.failed += 1
        else:
            self._add_payment(trip)

    def add_all(self, trips: Iterable[Trip]) -> None:
        """Count many."""
        for trip in trips:
            self.add(trip)

    def _add_payment(self, trip: Trip) -> None:
        amount = trip.amount
        self.high_value += amount >= self.high_value_from
        self.fees += trip.fee
        self.revenue = Line(self.revenue.amount + amount, self.revenue.count + 1)
        _add(self.by_day, trip.day.isoformat(), amount)
        _add(self.by["method"], trip.method, amount)
        _add(self.by["fleet"], trip.fleet_id, amount)
        _add(self.by["route"], trip.route_id or NOBODY, amount)
        _add(self.by["vehicle"], trip.vehicle_id or NOBODY, amount)
        _add(self.by["payee"], trip.payee_id or NOBODY, amount)
        if trip.payee_id is None:
            return
        payee = self.payees.setdefault(trip.payee_id, PayeeAccount())
        commission = commission_on(amount)
        payee.commission += commission
        payee.earned += amount - commission
        if trip.method == "cash":
            payee.cash += amount
            self.cash_held += amount


def commission_on(amount: int) -> int:
    """The commission on one trip in minor units, rounded half up."""
    return (amount * COMMISSION_BP + 5_000) // 10_000


def high_value_from(currency: str, decimals: int) -> int:
    """From which amount, in minor units, a payment raises a high-value alert."""
    return int(HIGH_VALUE_MAJOR.get(currency, HIGH_VALUE_MAJOR_ELSE) * 10**decimals)


def _add(lines: dict[str, Line], key: str, amount: int) -> None:
    line = lines.get(key, Line())
    lines[key] = Line(line.amount + amount, line.count + 1)
