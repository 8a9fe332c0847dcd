"""The events in words that other programs read: JSON Schema per event, AsyncAPI per service."""

from importlib import import_module
from typing import Any

import msgspec

from shared.events import Event
from shared.events.catalogue import PUBLISHED_BY
from shared.events.tenants import TenantConfigured


def event_schema(event: type[Event]) -> dict[str, Any]:
    """The JSON Schema of an event's `data`."""
    schema = msgspec.json.schema(event)
    return {"$id": f"urn:takings:event:{event.TYPE}", "title": event.TYPE, "x-topic": event.TOPIC, **schema}


def breaking_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What a reader of `before` could stumble over in `after`: fields removed, retyped, or newly optional."""
    found = []
    known, now = before.get("$defs", {}), after.get("$defs", {})
    for name, definition in known.items():
        old, new = definition.get("properties", {}), now.get(name, {}).get("properties", {})
        for field, shape in old.items():
            if field not in new:
                found.append(f"{name}.{field} was removed")
            elif _type(shape) != _type(new[field]):
                found.append(f"{name}.{field} was retyped")
        loosened = set(definition.get("required", [])) - set(now.get(name, {}).get("required", []))
        found += [f"{name}.{field} became optional" for field in sorted(loosened & new.keys())]
    return found


def _type(shape: dict[str, Any]) -> Any:
    return {key: value for key, value in shape.items() if key not in {"description", "title", "default"}}


def consumed_by(service: str) -> tuple[type[Event], ...]:
    """The events that a service's worker declares to handle."""
    worker: Any = import_module(f"services.{service}.worker")
    events: tuple[type[Event], ...] = getattr(worker, "EVENTS", ())
    return (*events, TenantConfigured) if events else ()


def asyncapi(service: str) -> dict[str, Any]:
    """The AsyncAPI 3.0 description of what a service sends and receives."""
    sent, received = PUBLISHED_BY.get(service, ()), consumed_by(service)
    topics = sorted({event.TOPIC for event in (*sent, *received)})
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"Takings {service}",
            "version": "1",
            "description": "CloudEvents 1.0 in structured JSON on Kafka, keyed by the aggregate's id.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {
            topic: {
                "address": topic,
                "messages": {e.TYPE: _message(e) for e in (*sent, *received) if topic == e.TOPIC},
            }
            for topic in topics
        },
        "operations": {
            **{f"send-{topic}": _operation("send", topic, sent) for topic in topics if _of(topic, sent)},
            **{f"receive-{topic}": _operation("receive", topic, received) for topic in topics if _of(topic, received)},
        },
    }


def _of(topic: str, events: tuple[type[Event], ...]) -> list[type[Event]]:
    return [event for event in events if topic == event.TOPIC]


def _operation(action: str, topic: str, events: tuple[type[Event], ...]) -> dict[str, Any]:
    messages = [{"$ref": f"#/channels/{topic}/messages/{event.TYPE}"} for event in _of(topic, events)]
    return {"action": action, "channel": {"$ref": f"#/channels/{topic}"}, "messages": messages}


def _message(event: type[Event]) -> dict[str, Any]:
    envelope = {"specversion": {"const": "1.0"}, "type": {"const": event.TYPE}, "time": {"format": "date-time"}}
    texts = {name: {"type": "string"} for name in ("id", "source", "subject", "tenantid", "datacontenttype")}
    return {
        "name": event.TYPE,
        "summary": (event.__doc__ or "").strip(),
        "payload": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "subject", "time", "tenantid", "data"],
            "properties": {
                **envelope,
                **texts,
                "traceparent": {"type": ["string", "null"]},
                "data": {"$ref": f"../events/{event.TYPE}.json"},
            },
        },
    }
