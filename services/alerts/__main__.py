"""Composition root of alerts: `python -m services.alerts [all|api|worker|migrate]`."""

from services.alerts.api import alerts as alert_routes
from services.alerts.api import rules as rule_routes
from services.alerts.settings import Settings
from services.alerts.worker import worker_tasks
from shared.http import Edge
from shared.process import Role, Service, foundation, main


def build(settings: Settings, role: Role) -> Service:
    """The service as `role` runs it."""
    service = foundation("alerts", "Rules, alerts and the mails that tell of them", settings)
    if role in {"all", "api"}:
        service.api.include_router(rule_routes.router(service.db))
        service.api.include_router(alert_routes.router(service.db))
    if role in {"all", "worker"}:
        service.tasks |= worker_tasks(service, settings)
    service.app = Edge(service.api)
    return service


if __name__ == "__main__":
    main("services.alerts", Settings, build)
