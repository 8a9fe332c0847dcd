"""What each fact contributes to the daily roll-ups and to its payee's balance; pure sums, added and taken back alike."""

from datetime import date
from typing import Any

import msgspec

from services.reporting.facts import COMPLETED, DISBURSED, EarningFact, PaymentFact, PayoutFact
from shared.money import split

TOTAL, FLEET, ROUTE, VEHICLE, PAYEE, METHOD = "total", "fleet", "route", "vehicle", "payee", "method"
NONE = ""  # the member of payments that name none; ids are never empty

DayKey = tuple[str, str, str, date, str]  # tenant, currency, dimension, day, member
PayeeKey = tuple[str, str, str]  # tenant, currency, payee


class DaySums(msgspec.Struct):
    """Sums of one day and member; minor units, `payments` is a number of payments."""

    tenant_id: str
    currency: str
    dimension: str
    day: date
    member: str
    revenue: int = 0
    payments: int = 0
    fees: int = 0
    earnings: int = 0
    commission: int = 0
    cash_held: int = 0
    payouts: int = 0

    @property
    def amounts(self) -> tuple[int, ...]:
        """The sums."""
        return (self.revenue, self.payments, self.fees, self.earnings, self.commission, self.cash_held, self.payouts)


class PayeeSums(msgspec.Struct):
    """All-time sums of one payee in minor units; earned - cash_held - disbursed is what is due to the payee."""

    tenant_id: str
    currency: str
    payee_id: str
    earned: int = 0
    cash_held: int = 0
    disbursed: int = 0

    @property
    def amounts(self) -> tuple[int, ...]:
        """The sums."""
        return (self.earned, self.cash_held, self.disbursed)


class _ByKey(dict[Any, Any]):
    """Sums by their keys, zero at first."""

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind

    def __missing__(self, key: tuple[Any, ...]) -> Any:
        sums = self[key] = self._kind(*key)
        return sums


class Deltas:
    """By how much the roll-ups change, by their keys."""

    def __init__(self) -> None:
        """Nothing changes."""
        self.days: dict[DayKey, DaySums] = _ByKey(DaySums)
        self.payees: dict[PayeeKey, PayeeSums] = _ByKey(PayeeSums)

    def add_payment(self, fact: PaymentFact | None, sign: int) -> None:
        """Add (`sign` 1) or take back (-1) a payment; only a completed one counts.

        Each payee gets a share of the revenue and of the fee, and counts the payment as one.
        """
        if fact is None or fact.status != COMPLETED:
            return
        tenant_id, currency, day = fact.tenant_id, fact.currency, fact.day
        members = (
            (TOTAL, NONE),
            (METHOD, fact.method),
            (FLEET, fact.fleet_id or NONE),
            (ROUTE, fact.route_id or NONE),
            (VEHICLE, fact.vehicle_id or NONE),
        )
        for dimension, member in members:
            _count(self.days[tenant_id, currency, dimension, day, member], sign, fact.amount, fact.fee)
        for payee_id, revenue, fee in _parts(fact):
            _count(self.days[tenant_id, currency, PAYEE, day, payee_id], sign, revenue, fee)

    def add_earning(self, fact: EarningFact) -> None:
        """Add an earning, on the day of its payment."""
        sums = self.days[fact.tenant_id, fact.currency, TOTAL, fact.day, NONE]
        sums.earnings += fact.amount
        sums.commission += fact.commission
        sums.cash_held += fact.cash_held
        balance = self.payees[fact.tenant_id, fact.currency, fact.payee_id]
        balance.earned += fact.amount
        balance.cash_held += fact.cash_held

    def add_payout(self, fact: PayoutFact | None, sign: int) -> None:
        """Add or take back a payout, on the day of its disbursement; only a disbursed one counts."""
        if fact is None or fact.status != DISBURSED or fact.disbursed_on is None:
            return
        self.days[fact.tenant_id, fact.currency, TOTAL, fact.disbursed_on, NONE].payouts += sign * fact.amount
        self.payees[fact.tenant_id, fact.currency, fact.payee_id].disbursed += sign * fact.amount


def _count(sums: DaySums, sign: int, revenue: int, fee: int) -> None:
    sums.revenue += sign * revenue
    sums.payments += sign
    sums.fees += sign * fee


def _parts(fact: PaymentFact) -> list[tuple[str, int, int]]:
    if len(fact.payees) <= 1:
        return [(fact.payees[0].payee_id if fact.payees else NONE, fact.amount, fact.fee)]
    shares = [share.share_bp for share in fact.payees]
    parts = zip(split(fact.amount, shares), split(fact.fee, shares), strict=True)
    return [(share.payee_id, revenue, fee) for share, (revenue, fee) in zip(fact.payees, parts, strict=True)]
