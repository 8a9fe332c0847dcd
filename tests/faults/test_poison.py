"""Poison at 1 % on each topic, in every form: all of it set aside with its reason, the rest unharmed, a mend replayed."""

import asyncio
import json
from collections import defaultdict
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from deploy.cli import app
from deploy.kafka import running_kafka
from deploy.operations.dead_letters import open_letters
from shared.events.payments import PaymentCompleted, Share
from shared.events.payouts import PayoutFailed
from shared.events.tenants import TenantConfigured
from shared.ids import new_id
from shared.publisher import ensure_topics
from tests.conftest import connected, until
from tests.faults.seeds import seeded
from tests.faults.sizes import size
from tests.shared.topics import NOW, producing, send_nothing, wire

RECORDS = size(short=1_500, long=20_000)  # on each topic
EACH = RECORDS // 100 // 7  # of each of the seven kinds
SOUND = RECORDS - 7 * EACH
LATE = "late"  # a tenant whose events come before it
READERS = {
    "payments": {"payouts", "reporting", "alerts"},
    "payouts": {"reporting", "alerts"},
    "tenants": {"payouts-tenants", "reporting-tenants", "alerts-tenants"},
}
REASONS = {
    "bad json": "undecodable: ",
    "wrong schema": "undecodable: ",
    "unknown type": "unknown type 'payment-invented'",
    "a megabyte": "too large: 1048000 bytes",
    "null key": "no key",
    "null value": "no value",
    "unknown tenant": "unknown tenant",
}
TOTALS = {
    "payouts": ("SELECT count(*), sum(gross)::bigint FROM earnings", "SELECT count(*) FROM journals"),
    "reporting": ("SELECT count(*), sum(amount)::bigint FROM payments", "SELECT count(*) FROM payouts"),
    "alerts": (
        "SELECT count(*) FROM alerts WHERE kind = 'high_value'",
        "SELECT count(*) FROM alerts WHERE kind = 'payout_failed'",
    ),
}


class Sent(NamedTuple):
    """A record as it goes out; `kind` says what is wrong with it."""

    key: bytes | None
    value: bytes | None
    kind: str | None = None


@pytest.fixture
def broker(tmp_path):
    """A broker of its own: other tests' records are no business of this one."""
    with running_kafka(tmp_path) as broker:
        yield broker.bootstrap


def good(topic, n, tenant="t1"):
    """The n-th event of a topic: a payment of n + 1 minor units, a failed payout, a tenant of its own."""
    subject = str(new_id())
    match topic:
        case "payments":
            event = PaymentCompleted(
                payment_id=subject, account_id="a", transaction_id=subject, request_id=None, amount=n + 1, applied=n + 1,
                fee=0, currency="KES", method="mobile", paid_at=NOW, payees=(Share("d1", 10_000),),
            )  # fmt: skip
        case "payouts":
            event = PayoutFailed(payout_id=subject, payee_id="d1", amount=n + 1, currency="KES", at=NOW, reason="x")
        case _:
            tenant = subject = f"tenant-{subject}"
            event = TenantConfigured(name="T", time_zone="Africa/Nairobi", currency="KES", version=1)
    return Sent(subject.encode(), wire(event, tenant=tenant, subject=subject))


def spoilt(topic, n, kind):
    """The n-th event of a topic with something wrong."""
    key, value, _ = sound = good(topic, n, LATE if kind == "unknown tenant" else "t1")
    match kind:
        case "bad json":
            value = value[:-7]
        case "wrong schema":
            value = value.replace(b'"currency":"KES"', b'"currency":7')
        case "unknown type":
            value = json.dumps(json.loads(value) | {"type": "payment-invented"}).encode()
        case "a megabyte":
            value = value.ljust(1_048_000)
        case "null key":
            key = None
        case "null value":
            key, value = sound.key if n % 2 else None, None
        case "unknown tenant" if topic == "tenants":  # they bring their tenant; these have a zone that is none
            value = value.replace(b"Africa/Nairobi", (b"Mars/Olympus", b"Africa", b"x" * 300)[n % 3])
    return Sent(key, value, kind)


async def send(bootstrap, records):
    """Send {topic: [Sent]}; answers the kind of each poison record by its source."""
    kinds = {}
    async with producing(bootstrap, max_request_size=2_000_000) as producer:
        for topic, of_topic in records.items():
            for record in of_topic:
                if record.key is None and record.value is None:
                    await send_nothing(producer, topic)
                    continue
                future = await producer.send(topic, record.value, key=record.key)
                if record.kind:
                    place = await future
                    kinds[f"{topic}/{place.partition}/{place.offset}"] = record.kind
        await producer.flush()
    return kinds


class Consumers:
    """The three services that consume, with the tenant t1 and an alert for every payment and failed payout."""

    def __init__(self, running):
        self.running = running

    async def reach(self, tenant, *, payments, failed_payouts, tenants):
        """Wait until each service has exactly these: (count, sum) of payments, numbers of the others."""
        expected = {
            "payouts": [payments, payments[0]],
            "reporting": [payments, failed_payouts],
            "alerts": [payments[0], failed_payouts],
        }
        for service, totals in expected.items():
            await until(
                lambda s=service, t=[*totals, tenants]: self._has(s, tenant, t), within_s=size(short=90, long=900)
            )

    async def _has(self, service, tenant, totals):
        urls = self.running[service].urls
        async with connected(urls.app, tenant) as conn, connected(urls.superuser) as superuser:
            found = [
                tuple(row) if len(row) > 1 else row[0] for row in [await conn.fetchrow(sql) for sql in TOTALS[service]]
            ]
            return [*found, await superuser.fetchval("SELECT count(*) FROM tenants")] == totals

    async def add_tenant(self, bootstrap, tenant):
        configured = TenantConfigured(name="T", time_zone="Africa/Nairobi", currency="KES", version=1)
        await send(bootstrap, {"tenants": [Sent(tenant.encode(), wire(configured, tenant=tenant, subject=tenant))]})
        alerts = self.running["alerts"]
        for kind, thresholds in (("high_value", {"KES": 1}), ("payout_failed", {})):
            rule = {"kind": kind, "thresholds": thresholds, "recipients": ["x@example.com"]}

            async def created(rule=rule):
                headers = alerts.as_("admin", tenant=tenant)
                answer = await alerts.http.post("/api/v1/payments/alerts", json=rule, headers=headers)
                return answer.status_code == 201

            await until(created, within_s=60)


@pytest.fixture
async def consumers(run, broker):
    await ensure_topics(broker, list(READERS))
    running = {name: await run(name, role="all", kafka=broker) for name in ("payouts", "reporting", "alerts")}
    made = Consumers(running)
    await made.add_tenant(broker, "t1")
    return made


async def takings(broker, *arguments):
    command = ["dlq", *arguments]
    done = await asyncio.to_thread(CliRunner().invoke, app, command, env={"TAKINGS_KAFKA_BOOTSTRAP": broker})
    assert done.exit_code == 0, done.output
    return done.stdout


async def letters_when(broker, count, *, but=""):
    """The open letters, once there are as many, leaving out those whose reason is `but`."""

    async def there():
        letters = [letter for letter in await open_letters(broker) if letter.reason != but]
        return letters if len(letters) >= count else None

    letters = await until(there, within_s=60)
    assert len(letters) == count
    return letters


def check_reasons(letters, kinds):
    """Each poison record has been set aside by each consumer of its topic, with the reason that it has, and nothing else."""
    by_source = defaultdict(dict)
    for letter in letters:
        by_source[letter.source][letter.consumer] = letter.reason
    nothings = by_source.keys() - kinds.keys()  # the client tells no place of a record without key and value
    assert len(nothings) == len(READERS) * (EACH // 2 + EACH % 2)
    for source, reasons in by_source.items():
        kind, topic = kinds.get(source, "null value"), source.split("/")[0]
        assert reasons.keys() == READERS[topic], source
        expected = REASONS[kind] if (kind, topic) != ("unknown tenant", "tenants") else "not applicable: ValueError"
        assert all(reason.startswith(expected) for reason in reasons.values()), (kind, reasons)


@pytest.mark.timeout(size(short=240, long=1_800))
async def test_poison_on_each_topic_is_set_aside_and_a_mend_is_replayed(consumers, broker):
    chance = seeded("poison")
    records = {}
    for topic in READERS:
        all_of_it = [spoilt(topic, n, kind) for kind in REASONS for n in range(EACH)]
        all_of_it += [good(topic, n) for n in range(SOUND)]
        records[topic] = chance.sample(all_of_it, len(all_of_it))
    kinds = await send(broker, records)
    await consumers.reach("t1", payments=(SOUND, sum(range(SOUND + 1))), failed_payouts=SOUND, tenants=SOUND + 1)
    readers = sum(map(len, READERS.values()))
    check_reasons(await letters_when(broker, 7 * EACH * readers), kinds)

    # The mend: the tenant is created, and records without a key get their subject. All others are as bad as before.
    await consumers.add_tenant(broker, LATE)
    whole = sum(kind != "null value" for kind in kinds.values())
    assert (await takings(broker, "replay", "--all")).startswith(f"{whole} records sent again, ")
    few = (EACH, sum(range(EACH + 1)))
    payments = (SOUND + few[0], sum(range(SOUND + 1)) + few[1])
    await consumers.reach("t1", payments=payments, failed_payouts=SOUND + EACH, tenants=SOUND + EACH + 2)
    await consumers.reach(LATE, payments=few, failed_payouts=EACH, tenants=SOUND + EACH + 2)
    still_bad = 4 * EACH * readers + EACH * len(READERS["tenants"])
    letters = await letters_when(broker, still_bad, but="no value")
    assert not [letter for letter in letters if letter.reason in {"no key", "unknown tenant"}]
    await takings(broker, "drop", "--all", "--why", "poison")
    assert await open_letters(broker) == []
