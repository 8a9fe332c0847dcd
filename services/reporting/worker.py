"""Kafka edge of reporting: what payments and payouts tell goes into the read models."""

from collections.abc import Sequence

from services.reporting.project_events import project_events
from services.reporting.settings import Settings
from shared.events import Received, payments, payouts
from shared.process import Service, consumers
from shared.tasks import Task

EVENTS = (*payments.EVENTS, *payouts.EVENTS)


def worker_tasks(service: Service, settings: Settings) -> dict[str, Task]:
    """The background tasks of the worker role."""

    async def on_events(events: Sequence[Received]) -> None:
        tenants = {event.tenant_id for event in events}
        await service.db.run(lambda conn: project_events(conn, events), *tenants)

    return consumers(service, settings, events=EVENTS, apply=on_events)
