"""Metrics (Prometheus) and traces (OpenTelemetry, when an exporter is set)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

REQUESTS = Counter("takings_http_requests", "Requests answered", ["route", "method", "status"])
REQUEST_SECONDS = Histogram("takings_http_request_seconds", "Time to answer", ["route"])
BATCH_SIZE = Histogram(
    "takings_batch_size", "Items in one flush", ["batch"], buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
OUTBOX_BACKLOG = Gauge("takings_outbox_backlog", "Events written and not yet published")
OUTBOX_AGE = Gauge("takings_outbox_oldest_seconds", "Age of the oldest event not yet published")
PUBLISHED = Counter("takings_events_published", "Events published", ["topic"])
CONSUMED = Counter("takings_events_consumed", "Events whose effect is committed", ["topic"])
CONSUMER_LAG = Gauge("takings_consumer_lag", "Records not yet consumed", ["topic", "partition"])
DEAD_LETTERS = Counter("takings_dead_letters", "Records sent to a dead-letter topic", ["topic"])
TOPICS_MISSING = Gauge(
    "takings_topics_missing", "1 for a topic that was never there since the start and could not be made", ["topic"]
)
UNHANDLED_CALLBACKS = Gauge("takings_unhandled_callbacks", "Stored callbacks whose effect is still missing")
UNHANDLED_AGE = Gauge("takings_unhandled_callback_oldest_seconds", "Age of the oldest unhandled callback")
ALERTS_RAISED = Counter("takings_alerts_raised", "Alerts raised", ["kind"])
MAILS = Counter("takings_mails", "Attempts to send a mail: sent, put_off (tried again later), given_up", ["result"])

_tracer = trace.get_tracer("takings")
_tracing = Event()  # set once an exporter is; a span that nobody records still costs a few per cent of a request


def configure_traces(service: str, endpoint: str | None, exporter: "SpanExporter | None" = None) -> None:
    """Export spans to the OTLP `endpoint` (or `exporter`); with neither, tracing costs next to nothing."""
    if endpoint is None and exporter is None:
        return
    # Imported where they are used: they take their time, and most starts are without them.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource.create({"service.name": f"takings-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint)))
    trace.set_tracer_provider(provider)
    _tracing.set()


def missing_topics() -> list[str]:
    """The topics that this process has asked for, and that were never there since its start."""
    samples = (sample for metric in TOPICS_MISSING.collect() for sample in metric.samples)
    return sorted(sample.labels["topic"] for sample in samples if sample.value)


@contextmanager
def span(name: str, carrier: Mapping[str, str] | None = None) -> Iterator[None]:
    """A span around the block, continuing the trace in `carrier` (a mapping with `traceparent`) when there is one."""
    if not _tracing.is_set():
        yield
        return
    parent = propagate.extract(carrier) if carrier else None
    with _tracer.start_as_current_span(name, context=parent):
        yield


def traceparent() -> str | None:
    """The W3C trace context of now, to be carried by an event; None when nothing is traced."""
    if not _tracing.is_set():
        return None
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")
