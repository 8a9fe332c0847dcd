"""What an operator sees: metrics under their names, traces through the outbox and Kafka, logs without personal data."""

import asyncio
import json
import logging
from contextlib import contextmanager

import pytest
import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import log as logs
from shared import outbox, telemetry
from shared.db import Database
from shared.events import Decoder
from shared.kafka import Consumer
from shared.outbox import Outgoing, Relay
from shared.publisher import Publisher
from shared.tenants import AnyTenant
from shared.writes import write
from tests.conftest import until
from tests.payments.conftest import create_tenant, new_request
from tests.shared.topics import NOW, new_topic, ping_of, read

NAMED = [
    "takings_http_requests_total",
    "takings_http_request_seconds_bucket",
    "takings_batch_size_bucket",
    "takings_outbox_backlog",
    "takings_outbox_oldest_seconds",
    "takings_events_published_total",
    "takings_events_consumed_total",
    "takings_consumer_lag",
    "takings_dead_letters_total",
    "takings_unhandled_callbacks",
    "takings_unhandled_callback_oldest_seconds",
]


async def test_the_metrics_are_there_and_count(run):
    running = await run("payments")
    await create_tenant(running)

    async def counted(route, status):
        text = (await running.http.get("/metrics")).text
        prefix = f'takings_http_requests_total{{method="POST",route="{route}",status="{status}"}}'
        lines = [line for line in text.splitlines() if line.startswith(prefix)]
        return float(lines[0].split()[-1]) if lines else 0

    before = await counted("/api/v1/requests", 201), await counted("/api/v1/webhooks", 401)
    created = await running.http.post("/api/v1/requests", json=new_request(), headers=running.as_("system"))
    assert created.status_code == 201
    await running.http.post("/api/v1/webhooks/standard/t1.x", content=b"{}")
    after = await counted("/api/v1/requests", 201), await counted("/api/v1/webhooks", 401)
    assert after == (before[0] + 1, before[1] + 1)
    answer = await running.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for name in NAMED:
        assert f"# TYPE {name.removesuffix('_bucket').removesuffix('_total')}" in answer.text, name


async def test_the_label_of_an_unknown_address_is_no_caller_s_choice(run):
    running = await run("payments")
    for path in ("/api/v1/invented-by-caller", "/api/v1/requests/invented-by-caller"):
        await running.http.get(path)
    assert "invented-by-caller" not in (await running.http.get("/metrics")).text


@pytest.fixture
def exporter(monkeypatch):
    """The spans of this test, exported as `configure_traces` sets it up, without touching the whole process's provider."""
    made, providers = InMemorySpanExporter(), []
    monkeypatch.setattr(telemetry.trace, "set_tracer_provider", providers.append)
    telemetry.configure_traces("tests", None, made)
    (provider,) = providers
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("takings"))
    made.finished = lambda: provider.force_flush() and made.get_finished_spans()
    yield made
    provider.shutdown()


async def test_a_trace_goes_through_the_outbox_into_the_event_and_on_into_the_consumer(exporter, database, kafka):
    urls, topic = await database("payouts"), new_topic()
    ping, applied = ping_of(topic), []
    db, publisher = Database(urls.app, "test"), Publisher(kafka, [topic])

    async def apply(events):
        applied.append((events, telemetry.traceparent()))

    with telemetry.span("request"):
        outer = telemetry.traceparent()
        await db.run(lambda conn: write(conn, outbox.add("tests", [Outgoing("t1", "k", ping(n=1))], now=NOW)), "t1")
    consumer = Consumer(
        kafka, topics=[topic], group_id=f"of-{topic}", decoder=Decoder([ping]), apply=apply,
        tenants=AnyTenant(), publisher=publisher,
    )  # fmt: skip
    relay = Relay(urls.system, publisher, asyncio.Event())
    tasks = [asyncio.create_task(relay.run()), asyncio.create_task(consumer.run())]

    async def is_applied():
        return applied

    await until(is_applied)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await publisher.close()
    await db.close()
    (record,) = await read(kafka, topic, 1)
    assert json.loads(record.value)["traceparent"] == outer
    ((event,), inner) = applied[0]
    assert event.traceparent == outer
    spans = {span.name: span for span in exporter.finished()}
    request, consume = spans["request"], spans["consume"]
    assert consume.context.trace_id == request.context.trace_id
    assert consume.parent.span_id == request.context.span_id
    assert inner.split("-")[1] == outer.split("-")[1]  # what the effect writes carries the trace on


async def test_an_http_request_continues_its_callers_trace(exporter, run):
    running = await run("payments")
    trace = "0af7651916cd43dd8448eb211c80319c"
    await running.http.get("/health/live", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    (span,) = [span for span in exporter.finished() if span.name == "GET api"]
    assert f"{span.context.trace_id:032x}" == trace


def test_without_an_exporter_nothing_is_traced():
    with telemetry.span("request"):
        assert telemetry.traceparent() is None


@contextmanager
def log_lines(capsys):
    """The JSON lines that the block logs, as the service's own configuration writes them."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    lines = []
    logs.configure("under-test", "INFO")
    try:
        yield lines
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        structlog.contextvars.clear_contextvars()
    lines += [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_logs_are_json_with_their_context_and_without_personal_data(capsys):
    with log_lines(capsys) as lines:
        structlog.contextvars.bind_contextvars(request_id="r1", tenant_id="t1")
        logs.logger("ours").info("paid", phone="+254700000001", payer={"name": "Amina"}, amount=5)
        logging.getLogger("theirs").warning("library says %s", "hello")
        try:
            raise ValueError("broken")
        except ValueError as error:
            logs.logger("ours").error("failed", exc_info=error)
    ours, theirs, failed = lines
    assert (ours["event"], ours["amount"], ours["request_id"], ours["tenant_id"]) == ("paid", 5, "r1", "t1")
    assert (ours["service"], ours["level"], ours["phone"], ours["payer"]) == (
        "under-test",
        "info",
        "[removed]",
        "[removed]",
    )
    assert (theirs["event"], theirs["level"]) == ("library says hello", "warning")
    assert "ValueError: broken" in failed["exception"]
    assert "Amina" not in json.dumps(lines)
