"""Backlogs: the relay with a full outbox, and each consumer with a topic full of events that it has not seen."""

import asyncio
import time
from collections.abc import Iterable, Sequence

import httpx

from bench.options import Options
from bench.place import TENANT, Place, Running
from bench.processes import Round, cpu_seconds, middle
from bench.result import Result, at_least
from bench.trips import DRIVERS, FLEETS, ROUTES, VEHICLES, amount_of, batches, moment
from shared.events import encode
from shared.events.payments import PaymentCompleted, Share
from shared.ids import new_id
from shared.outbox import BATCH_LIMIT
from shared.publisher import Message, Publisher

EVENTS = 60_000  # a round
OUTBOX = 100_000
AT_ONCE = 2_000
TIME_LIMIT_S = 180.0
POLL_S = 0.05
WANTED_PER_S = {"payouts": 4_000, "reporting": 8_000, "alerts": 8_000}
CONSUMED = "takings_events_consumed_total{"
FILL_OUTBOX = """
INSERT INTO outbox (tenant_id, event_id, topic, key, event, created_at)
SELECT 'bench', gen_random_uuid(), 'payments', gen_random_uuid()::text, $1::json, now() FROM generate_series(1, $2)
"""
PUBLISHED_IN_S = "SELECT extract(epoch FROM max(published_at) - min(published_at))::float8 FROM outbox"
UNPUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
TENANT_ROW = """
INSERT INTO tenants (tenant_id, name, time_zone, currency, version, updated_at)
VALUES ('bench', 'Bench', 'Africa/Nairobi', 'KES', 1, now())
"""
RULES = """
INSERT INTO alert_rules (tenant_id, rule_id, kind, thresholds, recipients, cooldown_seconds, enabled, created_at, updated_at)
SELECT 'bench', gen_random_uuid(), kind, thresholds::jsonb, '{{}}', 60, true, now(), now()
FROM (VALUES ('payment_failed', '{{}}'), ('payout_failed', '{{}}'), ('high_value', '{{"KES": {high}}}')) AS r (kind, thresholds)
"""


def relay(place: Place, options: Options) -> list[Result]:
    """Row `relay`: a worker of payments that finds OUTBOX unpublished events."""
    rates: list[float] = []
    used: list[dict[str, int]] = []
    for _ in range(options.rounds):
        event = completed(0)[2].decode()
        place.execute(
            "payments", FILL_OUTBOX.replace("$1", f"'{event}'").replace("$2", str(OUTBOX)), "VACUUM ANALYZE outbox"
        )
        with place.service("payments", "worker") as payments:
            with cpu_seconds(service=payments.pid, postgres=place.postgres_pid, broker=place.kafka_pid) as cpu:
                _until_published(place, "payments")
            rates.append((OUTBOX - BATCH_LIMIT) / float(str(place.value("payments", PUBLISHED_IN_S))))
            used.append(cpu.per_item_us(OUTBOX))
        place.execute("payments", "TRUNCATE outbox")
    return [at_least("relay", rates, 10_000, "events/s", cpu_us_per_event=middle(used))]


def consumers(place: Place, options: Options) -> list[Result]:
    """Rows `payouts`, `reporting` and `alerts`: payments become earnings, both become reports, and rules look at them."""
    prepare(place)
    rounds = [drain(place) for _ in range(options.rounds)]
    return [
        at_least(
            name,
            [each[name].per_s for each in rounds],
            per_s,
            "events/s",
            cpu_us_per_event=middle([each[name].cpu_us for each in rounds]),
        )
        for name, per_s in WANTED_PER_S.items()
    ]


def prepare(place: Place) -> None:
    """The tenant and its rules: one payment of a hundred is an alert."""
    for name in WANTED_PER_S:
        place.execute(name, TENANT_ROW)
    place.execute("alerts", RULES.format(high=94_100))


def drain(
    place: Place, names: Iterable[str] = WANTED_PER_S, *, events: int = EVENTS, databases: str = "{}"
) -> dict[str, Round]:
    """A round of each consumer; reporting also gets the earnings that payouts has just published."""
    publish(place, [completed(number) for number in range(events)])
    return {
        name: _drain(place, name, databases.format(name), 2 * events if name == "reporting" else events)
        for name in names
    }


def completed(number: int) -> tuple[str, bytes, bytes]:
    """Topic, key and value of a payment-completed event, always the same but for its ids."""
    amount, payment_id = amount_of(number), str(new_id())
    event = PaymentCompleted(
        payment_id=payment_id,
        account_id=f"{TENANT}.0123456789abcdef",
        transaction_id=f"tx-{number}",
        request_id=f"trip-{number}",
        amount=amount,
        currency="KES",
        method="mpesa",
        paid_at=moment(number),
        client_id=f"client-{number % 997}",
        fleet_id=f"fleet-{number % FLEETS}",
        route_id=f"route-{number % ROUTES}",
        vehicle_id=f"vehicle-{number % VEHICLES}",
        payees=(Share(f"driver-{number % DRIVERS}", 10_000),),
        applied=amount,
        fee=25,
    )
    text = encode(
        event,
        event_id=new_id(),
        service="payments",
        subject=payment_id,
        time=moment(number),
        tenant_id=TENANT,
        traceparent=None,
    )
    return event.TOPIC, payment_id.encode(), text.encode()


def publish(place: Place, events: Sequence[tuple[str, bytes, bytes]]) -> None:
    """Put events on their topic, as a relay would."""

    async def work() -> None:
        publisher = Publisher(place.kafka_bootstrap, ["payments", "payouts", "tenants"])
        messages = [Message(*event) for event in events]
        try:
            for some in batches(messages, AT_ONCE):
                if not await publisher.send_all(some):
                    raise RuntimeError("the broker does not take the events")
        finally:
            await publisher.close()

    asyncio.run(work())


def _drain(place: Place, name: str, database: str, events: int) -> Round:
    # From the first effect to the last one: the time of the start is not the consumer's.
    with place.service(name, "worker", database=database) as service:
        with cpu_seconds(service=service.pid, postgres=place.postgres_pid, broker=place.kafka_pid) as cpu:
            first_at, first = _until_consumed(service, 1)
            last_at, last = _until_consumed(service, events)
        if name == "payouts":
            _until_published(place, database)
        return Round((last - first) / (last_at - first_at), cpu.per_item_us(events))


def _until_consumed(service: Running, events: int) -> tuple[float, int]:
    deadline = time.perf_counter() + TIME_LIMIT_S
    while True:
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        done = sum(float(line.split()[-1]) for line in lines if line.startswith(CONSUMED))
        if done >= events:
            return time.perf_counter(), int(done)
        if time.perf_counter() > deadline:
            raise RuntimeError(f"{done} of {events} events after {TIME_LIMIT_S} s")
        time.sleep(POLL_S)


def _until_published(place: Place, database: str) -> None:
    deadline = time.perf_counter() + TIME_LIMIT_S
    while place.value(database, UNPUBLISHED) != 0:
        if time.perf_counter() > deadline:
            raise RuntimeError(f"{database} has not published its outbox after {TIME_LIMIT_S} s")
        time.sleep(4 * POLL_S)
