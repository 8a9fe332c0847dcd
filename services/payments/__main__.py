"""Composition root of payments: `python -m services.payments [all|api|worker|migrate]`."""

import asyncio
from collections.abc import Sequence
from functools import partial

from services.payments.api import gateway_accounts as account_routes
from services.payments.api import payments as payment_routes
from services.payments.api import requests as request_routes
from services.payments.api import tenants as tenant_routes
from services.payments.callbacks import measure_unhandled
from services.payments.describe_webhooks import describe_webhooks
from services.payments.gateway_accounts import Accounts, Vault
from services.payments.models import Receipt
from services.payments.record_payments import Recorded, record_payments
from services.payments.settings import Settings
from services.payments.webhooks import Webhooks
from services.payments.worker import worker_tasks
from shared.batch import Gather
from shared.clocks import utc_now
from shared.errors import DomainError
from shared.http import Edge
from shared.process import Role, Service, foundation, main
from shared.tasks import every

# Whoever waits for a row that somebody holds keeps all waiting who share the transaction. Of bulk, one in flight may
# have to wait for the other.
SHARED_LOCK_LIMIT_MS = 500
BULK_LOCK_LIMIT_MS = 750


def build(settings: Settings, role: Role) -> Service:
    """The service as `role` runs it."""
    service = foundation(
        "payments", "Requests, payments, gateways and tenants", settings, publishes=("payments", "tenants")
    )
    wake_relay = asyncio.Event()

    async def record(
        receipts: Sequence[Receipt], lock_limit_ms: int = SHARED_LOCK_LIMIT_MS
    ) -> list[Recorded | DomainError]:
        recorded = await service.db.run(
            lambda conn: record_payments(conn, receipts, now=utc_now()),
            *{r.tenant_id for r in receipts},
            lock_limit_ms=lock_limit_ms,
        )
        wake_relay.set()
        return recorded

    gather = Gather("receipts", record)
    # Its own, so that no callback waits behind thousands of payments. While PostgreSQL writes some, the next are worked out.
    bulk = Gather("bulk", partial(record, lock_limit_ms=BULK_LOCK_LIMIT_MS), in_flight=2, queue_limit=20_000)
    vault = Vault(settings.secrets_keys.get_secret_value())
    if role in {"all", "api"}:
        service.api.include_router(tenant_routes.router(service.db))
        service.api.include_router(account_routes.router(service.db, vault))
        service.api.include_router(request_routes.router(service.db))
        service.api.include_router(payment_routes.router(service.db, bulk))
        describe_webhooks(service.api)
        webhooks = Webhooks(service.db, Accounts(service.db, vault), gather)
        service.app = Edge(service.api, webhooks=webhooks)

    async def measure() -> None:
        await measure_unhandled(service.system_db, now=utc_now())

    service.tasks |= {
        "gather": gather.run,
        "bulk": bulk.run,
        "measure-callbacks": every(settings.sweep_every_s, measure),
    }
    if role in {"all", "worker"}:
        service.tasks |= worker_tasks(service, settings, gather, wake_relay)
    return service


if __name__ == "__main__":
    main("services.payments", Settings, build)
