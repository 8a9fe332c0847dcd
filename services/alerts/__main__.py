"""Composition root of alerts: `python -m services.alerts [all|api|worker|migrate]`."""

from services.alerts.api import alerts, rules
from services.alerts.settings import Settings
from services.alerts.worker import worker_tasks
from shared.process import Role, Service, foundation, main


def build(settings: Settings, role: Role) -> Service:
    """The service as `role` runs it."""
    service = foundation("alerts", "Rules, alerts and the mails that tell of them", settings)
    if role in {"all", "api"}:
        for module in (rules, alerts):
            service.api.include_router(module.router(service.db))
    if role in {"all", "worker"}:
        service.tasks |= worker_tasks(service, settings)
    return service


if __name__ == "__main__":
    main("services.alerts", Settings, build)
