"""How a payment is shared: pure, and the only place that says who gets what of it."""

from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from services.payouts.models import DEFAULT_PLAN, Account, Earning, Entry, Plan
from shared.events.payments import PaymentCompleted, PaymentMatched
from shared.ids import new_id
from shared.money import commission, split

CASH = "cash"


def plan_in_force(plans: Sequence[Plan], *, payee_id: str, fleet_id: str | None, on: date) -> Plan:
    """The newest plan valid on that day: the payee's own before the fleet's before the tenant's; 10 % when there is none."""

    def rank(plan: Plan) -> tuple[int, date]:
        return (2 if plan.payee_id else 1 if plan.fleet_id else 0), plan.valid_from

    fitting = (
        plan
        for plan in plans
        if plan.valid_from <= on and plan.payee_id in {None, payee_id} and plan.fleet_id in {None, fleet_id}
    )
    return max(fitting, key=rank, default=DEFAULT_PLAN)


def earnings_of(tenant_id: str, payment: PaymentCompleted, plans: Sequence[Plan], zone: ZoneInfo) -> list[Earning]:
    """One earning per payee of what was applied; a cash fare is in the payees' hands already, by the same shares."""
    shares = [share.share_bp for share in payment.payees]
    in_cash = payment.method == CASH
    if not shares or (payment.applied == 0 and not in_cash):
        return []
    grosses = split(payment.applied, shares)
    # What was applied and what came beyond it are split apart, so that nobody holds less cash than was applied to them.
    beyond = split(payment.amount - payment.applied, shares)
    held = [gross + more if in_cash else 0 for gross, more in zip(grosses, beyond, strict=True)]
    on = payment.paid_at.astimezone(zone).date()
    earnings = []
    for share, gross, cash in zip(payment.payees, grosses, held, strict=True):
        plan = plan_in_force(plans, payee_id=share.payee_id, fleet_id=payment.fleet_id, on=on)
        taken = commission(gross, plan.commission_bp)
        earnings.append(
            Earning(
                tenant_id=tenant_id,
                earning_id=new_id(),
                payment_id=UUID(payment.payment_id),
                payee_id=share.payee_id,
                fleet_id=payment.fleet_id,
                currency=payment.currency,
                gross=gross,
                commission=taken,
                commission_bp=plan.commission_bp,
                net=gross - taken,
                cash_held=cash,
                paid_at=payment.paid_at,
                available_at=payment.paid_at + timedelta(days=plan.delay_days),
            )
        )
    return earnings


def entries_of(
    tenant_id: str, payment: PaymentCompleted, earnings: Sequence[Earning], *, journal_id: UUID
) -> list[Entry]:
    """The journal of a payment; sums to zero. A match takes the money out of suspense, where its receipt had put it."""
    sums: dict[tuple[Account, str | None], int] = {}

    def post(account: Account, amount: int, payee_id: str | None = None) -> None:
        sums[account, payee_id] = sums.get((account, payee_id), 0) + amount

    held = sum(earning.cash_held for earning in earnings)
    post(Account.GATEWAY, held - payment.amount)
    post(Account.SUSPENSE, payment.amount - payment.applied)
    if isinstance(payment, PaymentMatched):
        post(Account.GATEWAY, payment.amount)
        post(Account.SUSPENSE, -payment.amount)
    if not earnings:
        post(Account.OPERATOR, payment.applied)
    lines = [Entry(tenant_id, journal_id, a, p, payment.currency, amount) for (a, p), amount in sums.items() if amount]
    for earning in earnings:
        parts = (
            (Account.WALLET, earning.payee_id, earning.net),
            (Account.WALLET, earning.payee_id, -earning.cash_held),
            (Account.COMMISSION, None, earning.commission),
        )
        lines += [Entry(tenant_id, journal_id, a, p, payment.currency, amount) for a, p, amount in parts if amount]
    return lines
