"""Kafka edge and sweeps of payments: it consumes nothing yet; it publishes its outbox and retries callbacks."""

import asyncio

from services.payments.callbacks import retry_due
from services.payments.models import Receipt
from services.payments.record_payments import Recorded
from services.payments.settings import Settings
from shared.batch import Gather
from shared.clocks import utc_now
from shared.errors import DomainError
from shared.process import Service, outbox_tasks
from shared.tasks import Task, every


def worker_tasks(
    service: Service, settings: Settings, gather: Gather[Receipt, Recorded | DomainError], wake: asyncio.Event
) -> dict[str, Task]:
    """The background tasks of the worker role."""

    async def retry_callbacks() -> None:
        await retry_due(service.db, service.system_db, gather.submit, now=utc_now())

    return {
        **outbox_tasks(service, settings, wake),
        "retry-callbacks": every(settings.sweep_every_s, retry_callbacks),
    }
