"""`takings lag` says what waits, how long it has waited, and is red when that is more than a minute."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from deploy.cli import app
from deploy.operations import measure_lag
from deploy.operations.measure_lag import consumer_groups, consumer_lag
from shared import outbox
from shared.db import Database
from shared.events.tenants import TenantConfigured
from shared.publisher import Message, Publisher
from shared.writes import write
from tests.conftest import connected
from tests.operations.access import access_environment
from tests.shared.topics import new_topic

SET_ASIDE = """
INSERT INTO callbacks (tenant_id, callback_id, account_id, webhook_id, body, received_at, attempts, retry_at, error)
VALUES ('t1', gen_random_uuid(), 't1.a', 'm', 'x', $1, 1, $1, 'PaymentsClosed()')
"""
ADD_RULE = """
INSERT INTO alert_rules VALUES ('t1', $1, 'payment_failed', '{}', '{a@b.c}', $2, true, now(), now())
"""
ADD_QUEUE = """
INSERT INTO mail_queues (tenant_id, rule_id, recipient, waiting_since, not_before, last_sent_at, last_error)
VALUES ('t1', $1, 'a@b.c', $2::timestamptz, $2, $2, 'refused')
"""


@pytest.fixture
async def measured(database, kafka, monkeypatch):
    """`await measured(now)`, and the databases."""
    urls = {service: await database(service) for service in ("payments", "payouts", "alerts")}
    for name, value in access_environment(kafka, **urls).items():
        monkeypatch.setenv(name, value)

    async def no_consumers(_bootstrap, *, now):
        return []

    async def measure(now):
        return await measure_lag.measure_lag(now=now)

    # Other tests leave groups behind on the shared broker; the consumers have a test of their own.
    monkeypatch.setattr(measure_lag, "consumer_lag", no_consumers)
    measure.urls = urls
    return measure


async def test_nothing_waits_and_nothing_is_late(measured):
    lag = await measured(datetime.now(UTC))
    assert {name: queue.waiting for name, queue in lag.outbox.items()} == {"payments": 0, "payouts": 0}
    assert (lag.callbacks.waiting, lag.mails.waiting, lag.late) == (0, 0, [])


async def test_each_queue_is_late_after_a_minute(measured):
    now = datetime.now(UTC)
    db = Database(measured.urls["payouts"].app, "test")
    async with db.transaction("t1") as conn:
        event = TenantConfigured(name="t", time_zone="UTC", currency="KES", version=1)
        await write(conn, outbox.add("payouts", [outbox.Outgoing("t1", "t1", event)] * 3, now=now))
    await db.close()
    async with connected(measured.urls["payments"].owner, "t1") as conn:
        await conn.execute(SET_ASIDE, now)
    async with connected(measured.urls["alerts"].owner, "t1") as conn:
        rule = secrets.token_hex(16)
        await conn.execute(ADD_RULE, rule, 30)
        await conn.execute(ADD_QUEUE, rule, now)
    lag = await measured(now + timedelta(seconds=59))
    assert (lag.outbox["payouts"].waiting, lag.callbacks.last_error) == (3, "PaymentsClosed()")
    assert (lag.mails.waiting, lag.mails.oldest_s, lag.mails.last_error) == (1, 29.0, "refused")  # after its cooldown
    assert lag.late == []
    lag = await measured(now + timedelta(seconds=91))
    assert lag.late == ["outbox of payouts: 3 waiting", "callbacks: 1 waiting", "mails: 1 waiting"]
    assert any("last error: PaymentsClosed()" in line for line in measure_lag.lines_of(lag))


async def test_a_broker_that_is_down_hides_nothing_else(database, monkeypatch):
    urls = {service: await database(service) for service in ("payments", "payouts", "alerts")}
    for name, value in access_environment("127.0.0.1:1", **urls).items():
        monkeypatch.setenv(name, value)
    lag = await measure_lag.measure_lag(now=datetime.now(UTC))
    assert (lag.consumers, lag.late) == (None, ["the broker does not answer"])
    assert lag.outbox["payments"].waiting == 0


async def test_what_a_group_has_not_committed_is_its_lag(kafka, monkeypatch):
    topic, group = new_topic(), f"group-{secrets.token_hex(4)}"
    monkeypatch.setattr(measure_lag, "consumer_groups", lambda: {group: (topic,)})
    publisher = Publisher(kafka, [topic])
    sent_at = datetime.now(UTC)
    assert await publisher.send_all([Message(topic, b"k", b"v")] * 5)
    found = await consumer_lag(kafka, now=sent_at + timedelta(seconds=120))
    behind = [partition for partition in found if partition.lag]
    assert [(p.group, p.topic, p.lag, p.committed) for p in behind] == [(group, topic, 5, 0)]
    assert 110 < behind[0].oldest_s < 121
    consumer = measure_lag.AIOKafkaConsumer(topic, bootstrap_servers=kafka, group_id=group, enable_auto_commit=False,
                                            auto_offset_reset="earliest")  # fmt: skip
    await consumer.start()
    seen = 0
    while seen < 5:
        seen += sum(len(records) for records in (await consumer.getmany(timeout_ms=200)).values())
    await consumer.commit()
    await consumer.stop()
    found = await consumer_lag(kafka, now=sent_at)
    assert [(p.lag, p.oldest_s) for p in found] == [(0, 0.0)] * 4
    await publisher.close()


async def test_an_age_that_could_not_be_read_is_unknown_and_no_good_news(measured, kafka, monkeypatch):
    topic, group = new_topic(), f"group-{secrets.token_hex(4)}"
    monkeypatch.setattr(measure_lag, "consumer_groups", lambda: {group: (topic,)})
    monkeypatch.setattr(measure_lag, "consumer_lag", consumer_lag)
    publisher = Publisher(kafka, [topic])
    assert await publisher.send_all([Message(topic, b"k", b"v")] * 5)
    await publisher.close()

    async def none_came(*_arguments):
        return {}

    monkeypatch.setattr(measure_lag, "_ages", none_came)
    lag = await measured(datetime.now(UTC))
    assert [(p.lag, p.oldest_s) for p in lag.consumers if p.lag] == [(5, None)]
    assert [p.oldest_s for p in lag.consumers if not p.lag] == [0.0] * 3
    assert [line.endswith(", age unknown") for line in lag.late] == [True]
    assert f"{group} reads {topic}" in measure_lag.lines_of(lag)[-2]
    assert measure_lag.lines_of(lag)[-2].endswith("  oldest unknown")


def test_the_groups_are_those_of_the_services():
    assert consumer_groups() == {
        "payouts": ("payments",),
        "payouts-tenants": ("tenants",),
        "reporting": ("payments", "payouts"),
        "reporting-tenants": ("tenants",),
        "alerts": ("payments", "payouts"),
        "alerts-tenants": ("tenants",),
    }


def test_without_a_stack_the_command_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("TAKINGS_STATE", str(tmp_path))
    result = CliRunner().invoke(app, ["lag", "--json"])
    assert result.exit_code == 1
    assert result.stderr.startswith("takings: no stack is running")
