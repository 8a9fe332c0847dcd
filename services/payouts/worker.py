"""Kafka edge of payouts: payments become earnings; the outbox is published."""

import asyncio
from collections.abc import Sequence

from services.payouts.accrue_earnings import accrue_earnings
from services.payouts.settings import Settings
from shared.clocks import utc_now
from shared.events import Received
from shared.events.payments import PaymentCompleted, PaymentMatched
from shared.process import Service, consumers, outbox_tasks
from shared.tasks import Task

EVENTS = (PaymentCompleted, PaymentMatched)


def worker_tasks(service: Service, settings: Settings) -> dict[str, Task]:
    """The background tasks of the worker role."""
    wake_relay = asyncio.Event()

    async def on_payments(events: Sequence[Received]) -> None:
        tenants = {event.tenant_id for event in events}
        await service.db.run(lambda conn: accrue_earnings(conn, events, now=utc_now()), *tenants)
        wake_relay.set()

    return {
        **outbox_tasks(service, settings, wake_relay),
        **consumers(service, settings, events=EVENTS, apply=on_payments),
    }
