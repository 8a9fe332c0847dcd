"""Kafka edge and mail sweep of alerts: events raise alerts, the sweep tells of them."""

import asyncio
from collections.abc import Sequence

from services.alerts.raise_alerts import raise_alerts
from services.alerts.send_mails import send_mails
from services.alerts.settings import Settings
from services.alerts.smtp import Smtp
from shared import telemetry
from shared.clocks import utc_now
from shared.events import Received
from shared.events.payments import PaymentCompleted, PaymentFailed, PaymentMatched
from shared.events.payouts import PayoutFailed
from shared.process import Service, consumers
from shared.tasks import Task

EVENTS = (PaymentCompleted, PaymentFailed, PaymentMatched, PayoutFailed)


def worker_tasks(service: Service, settings: Settings) -> dict[str, Task]:
    """The background tasks of the worker role."""
    wake = asyncio.Event()
    smtp = Smtp(settings.smtp_host, settings.smtp_port)

    async def on_events(events: Sequence[Received]) -> None:
        tenants = {event.tenant_id for event in events}
        alerts = await service.db.run(lambda conn: raise_alerts(conn, events, now=utc_now()), *tenants)
        for alert in alerts:
            telemetry.ALERTS_RAISED.labels(alert.kind).inc()
        if alerts:
            wake.set()

    async def sweep_mails() -> None:
        while True:
            sweep = await send_mails(service.db, service.system_db, smtp.send, sender=settings.mail_from, now=utc_now())
            for result in ("sent", "put_off", "given_up"):
                telemetry.MAILS.labels(result).inc(getattr(sweep, result))
            if not sweep.found:
                await _wait(wake, settings.sweep_every_s)

    return {**consumers(service, settings, events=EVENTS, apply=on_events), "mails": sweep_mails}


async def _wait(wake: asyncio.Event, longest_s: float) -> None:
    try:
        async with asyncio.timeout(longest_s):
            await wake.wait()
    except TimeoutError:
        return
    wake.clear()
