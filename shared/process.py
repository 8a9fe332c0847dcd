"""One service as a process: its HTTP edge, its background tasks, its health, and an orderly end."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import uvicorn
import uvloop
from fastapi import FastAPI

from shared import idempotency, outbox, telemetry
from shared.auth import Keys, Verifier
from shared.clocks import utc_now
from shared.db import Database, UnsafeServer
from shared.events import Apply, Decoder, Event
from shared.events.catalogue import ALL_EVENTS
from shared.events.tenants import TenantConfigured
from shared.health import add_health
from shared.http import ASGIApp, Edge, create_api
from shared.log import configure, logger
from shared.publisher import Publisher
from shared.settings import MigrationSettings, ServiceSettings, read_settings
from shared.tasks import Task, every, keep_running
from shared.tenants import AnyTenant, TenantCopy

if TYPE_CHECKING:
    from shared.kafka import Consumer

log = logger(__name__)

Role = Literal["all", "api", "worker"]
ASK_AGAIN_S = 0.5
STOP_LIMIT_S = 3.0
MEASURE_EVERY_S = 2.0
CONSUME_AFTER_S = 1.0
FORGET_EVERY_S = 600.0
GARBAGE_AT = 100_000  # more objects than any batch holds at once: a count that high is cycles, not work under way


@dataclass(slots=True)
class Service:
    """What a service's composition root has put together."""

    name: str
    api: FastAPI
    app: ASGIApp  # the API inside its edge
    db: Database
    system_db: Database
    probe_db: Database
    publisher: Publisher
    tenants: TenantCopy
    tasks: dict[str, Task] = field(default_factory=dict)
    consume_after_s: float = 0.0


def foundation(name: str, summary: str, settings: ServiceSettings, *, publishes: Sequence[str] = ()) -> Service:
    """The parts that every service has: API with health and metrics, in its edge, three ways to its database, publisher."""
    keys = Keys(pem=settings.auth_public_key, jwks_url=settings.auth_jwks_url, key_id=settings.auth_key_id)
    verifier = Verifier(keys, settings.auth_issuer, settings.auth_audience)
    api = create_api(name, summary=summary, verifier=verifier)
    url = settings.database_url.get_secret_value()
    db = Database(url, name, settings.pool_size)
    system_db = Database(settings.system_database_url.get_secret_value(), f"{name} system", 2)
    # Of its own: callers who wait for a connection, say all at once after a restart, make no service unready.
    probe_db = Database(url, f"{name} probe", 1)
    publisher = Publisher(settings.kafka_bootstrap, publishes)
    api.state.tenants = tenants = TenantCopy(db, wait_s=settings.tenant_wait_s)
    service = Service(name, api, Edge(api), db, system_db, probe_db, publisher, tenants)
    add_health(api, probe_db)

    async def measure() -> None:
        await outbox.measure_backlog(system_db, now=utc_now())

    if publishes:  # in every role: whichever process is asked, `/health` knows
        service.tasks["measure-outbox"] = every(MEASURE_EVERY_S, measure)
    return service


def main(package: str, kind: type[ServiceSettings], build: Callable[[Any, Role], Service]) -> None:
    """`python -m services.<name> [all|api|worker|migrate]`."""
    role: Any = sys.argv[1] if len(sys.argv) > 1 else "all"
    name, prefix = package.rpartition(".")[2], kind.model_config.get("env_prefix", "")
    if role == "migrate":
        from shared.migrations import upgrade  # noqa: PLC0415 - a fifth of a service's start, which never migrates

        upgrade(package, str(read_settings(MigrationSettings, prefix).owner_database_url))
        return
    if role not in {"all", "api", "worker"}:
        sys.exit(f"usage: python -m {package} [all|api|worker|migrate]")
    settings = read_settings(kind, prefix)
    configure(name, settings.log_level)
    telemetry.configure_traces(name, settings.otlp_endpoint)
    service = build(settings, role)
    if role == "all":  # callers may wait since a crash: loading what consumers need would hold up their answers
        service.consume_after_s = CONSUME_AFTER_S
    gc.freeze()  # what was made until here stays for ever: no need to look at it again and again
    gc.set_threshold(GARBAGE_AT, 20, 20)
    gc.enable()  # `services` has disabled it
    uvloop.run(_serve(service, settings))


class _Server(uvicorn.Server):
    """Leaves signals to this process: uvicorn lets them end it at once, and what follows the answers would never be done."""

    def leave(self) -> None:
        """Come to an end; the second time without waiting for callers."""
        self.force_exit, self.should_exit = self.should_exit, True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not here."""
        yield


async def _serve(service: Service, settings: ServiceSettings) -> None:
    if not settings.unsafe_durability_for_tests and not await _server_is_safe(service):
        return
    server = _Server(
        uvicorn.Config(
            service.app,
            host=settings.http_host,
            port=settings.http_port,
            http="httptools",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # nothing asks for the caller's address
            timeout_keep_alive=65,
            timeout_graceful_shutdown=2,
            backlog=1024,
        )
    )
    _on_signals(server.leave)
    serving = asyncio.create_task(server.serve(), name="http")  # first: what consumers load would keep callers waiting
    background = [asyncio.create_task(keep_running(name, task), name=name) for name, task in service.tasks.items()]
    log.info("started", tasks=sorted(service.tasks), port=settings.http_port)
    try:
        await serving
    finally:
        await stop(service, background)
        log.info("stopped")


def _on_signals(leave: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leave)


async def _server_is_safe(service: Service) -> bool:
    """Wait until the database says so; false when this process is told to end before that. Ends it if the server is not."""
    asking = asyncio.create_task(_refuse_unsafe_server(service.db), name="refuse-unsafe-server")
    told_to_end = asyncio.Event()

    def leave() -> None:
        told_to_end.set()
        asking.cancel()

    _on_signals(leave)
    try:
        await asking
    except UnsafeServer as error:
        sys.exit(f"cannot start: {error}")
    except asyncio.CancelledError:
        if not told_to_end.is_set():
            raise
    if told_to_end.is_set():
        await stop(service, [])
        log.info("stopped")
    return not told_to_end.is_set()


async def _refuse_unsafe_server(db: Database) -> None:
    while True:
        try:
            await db.refuse_unsafe_server()
        except UnsafeServer:
            raise
        except Exception as error:  # noqa: BLE001 - not reachable yet; nothing is acknowledged before it is checked
            log.warning("database not reached", error=repr(error))
            await asyncio.sleep(ASK_AGAIN_S)
        else:
            return


async def stop(service: Service, background: list[asyncio.Task[None]]) -> None:
    """End the background tasks, then let go of what they used."""
    for task in background:
        task.cancel()
    if background:
        await asyncio.wait(background, timeout=STOP_LIMIT_S)
    await asyncio.gather(
        service.publisher.close(), service.db.close(), service.system_db.close(), service.probe_db.close()
    )


def outbox_tasks(service: Service, settings: ServiceSettings, wake: asyncio.Event) -> dict[str, Task]:
    """The relay of the service's outbox, and the forgetting of old idempotency keys."""
    relay = outbox.Relay(settings.system_database_url.get_secret_value(), service.publisher, wake)

    async def forget() -> None:
        before, done = utc_now() - timedelta(days=idempotency.KEEP_FOR_DAYS), ""
        while done != "DELETE 0":
            async with service.system_db.transaction() as conn:
                done = await conn.execute(idempotency.FORGET, before)

    return {
        "relay": relay.run,
        "forget-keys": every(FORGET_EVERY_S, forget),
    }


def consumers(
    service: Service, settings: ServiceSettings, *, events: Sequence[type[Event]], apply: Apply
) -> dict[str, Task]:
    """Consume `events` from their topics with `apply`, and keep the copy of the tenants that they wait for."""

    async def consume(
        group_id: str, events: Sequence[type[Event]], apply: Apply, tenants: TenantCopy | AnyTenant
    ) -> None:
        await asyncio.sleep(service.consume_after_s)
        consumer = await asyncio.to_thread(_load_consumer)
        await consumer(
            settings.kafka_bootstrap,
            topics=sorted({event.TOPIC for event in events}),
            group_id=group_id,
            decoder=Decoder(events, known=ALL_EVENTS),
            apply=apply,
            tenants=tenants,
            publisher=service.publisher,
        ).run()

    return {
        "consume-events": lambda: consume(service.name, events, apply, service.tenants),
        "consume-tenants": lambda: consume(
            f"{service.name}-tenants", [TenantConfigured], service.tenants.keep, AnyTenant()
        ),
    }


def _load_consumer() -> "type[Consumer]":
    from shared.kafka import Consumer  # noqa: PLC0415 - a tenth of a service's start, and no request needs it

    return Consumer
