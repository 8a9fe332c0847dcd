"""Kafka edge of payouts: payments become earnings; the outbox is published."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from services.payouts.accrue_earnings import accrue_earnings
from services.payouts.settings import Settings
from shared.events import Decoder, Received
from shared.events.payments import PaymentCompleted, PaymentMatched
from shared.kafka import Consumer
from shared.process import Service, Task, outbox_tasks, tenants_consumer
from shared.tenants import TenantCopy

EVENTS = (PaymentCompleted, PaymentMatched)


def worker_tasks(service: Service, settings: Settings) -> dict[str, Task]:
    """The background tasks of the worker role."""
    wake_relay = asyncio.Event()
    copy = TenantCopy(service.db, wait_s=settings.tenant_wait_s)

    async def on_payments(events: Sequence[Received]) -> None:
        await service.db.run(
            lambda conn: accrue_earnings(conn, events, now=datetime.now(UTC)), *{event.tenant_id for event in events}
        )
        wake_relay.set()

    consumer = Consumer(
        settings.kafka_bootstrap,
        topics=["payments"],
        group_id="payouts",
        decoder=Decoder(EVENTS),
        apply=on_payments,
        missing_tenants=copy.missing,
        publisher=service.publisher,
    )
    return {
        **outbox_tasks(service, settings, wake_relay),
        "consume-payments": consumer.run,
        "consume-tenants": tenants_consumer(service, settings, copy).run,
    }
