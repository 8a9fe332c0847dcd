"""Composition root of payouts: `python -m services.payouts [all|api|worker|migrate]`."""

from services.payouts.api import balances, commission_plans, decisions, payout_requests, payouts
from services.payouts.settings import Settings
from services.payouts.worker import worker_tasks
from shared.process import Role, Service, foundation, main


def build(settings: Settings, role: Role) -> Service:
    """The service as `role` runs it."""
    service = foundation("payouts", "Earnings, balances and payouts", settings, publishes=["payouts"])
    if role in {"all", "api"}:
        for module in (balances, commission_plans, decisions, payout_requests, payouts):
            service.api.include_router(module.router(service.db))
    if role in {"all", "worker"}:
        service.tasks |= worker_tasks(service, settings)
    return service


if __name__ == "__main__":
    main("services.payouts", Settings, build)
