"""Composition root of reporting: `python -m services.reporting [all|api|worker|migrate]`."""

from services.reporting.api import history, profits, revenue
from services.reporting.settings import Settings
from services.reporting.worker import worker_tasks
from shared.process import Role, Service, foundation, main


def build(settings: Settings, role: Role) -> Service:
    """The service as `role` runs it."""
    service = foundation("reporting", "Revenue, profits and history, read from the events.", settings)
    if role in {"all", "api"}:
        for module in (revenue, profits, history):
            service.api.include_router(module.router(service.db))
    if role in {"all", "worker"}:
        service.tasks |= worker_tasks(service, settings)
    return service


if __name__ == "__main__":
    main("services.reporting", Settings, build)
