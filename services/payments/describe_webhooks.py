"""The webhook route in the OpenAPI description; it is served before FastAPI, which therefore knows nothing of it."""

from typing import Any

import msgspec
from fastapi import FastAPI

from services.payments.gateways.standard import StandardCallback
from shared.problems import PROBLEMS

PATH = "/api/v1/webhooks/standard/{account_id}"
HEADERS = {
    "webhook-id": "The delivery's id, the same when it is sent again",
    "webhook-timestamp": "Seconds since 1970; 300 s of tolerance both ways",
    "webhook-signature": "Space-separated `v1,<base64 of HMAC-SHA256>` over `{id}.{timestamp}.{raw body}`",
}
EXAMPLE = {
    "type": "payment.completed",
    "timestamp": "2026-03-01T08:00:05Z",
    "data": {
        "transaction_id": "QFT4X8K2LM",
        "request_id": "trip-1",
        "amount": 25000,
        "currency": "KES",
        "method": "mobile",
        "paid_at": "2026-03-01T08:00:00+03:00",
        "fee": 138,
    },
}


def describe_webhooks(api: FastAPI) -> None:
    """Add the route to what `api` says of itself."""
    own = api.openapi

    def openapi() -> dict[str, Any]:
        described = own()
        if PATH not in described["paths"]:
            (schema,), components = msgspec.json.schema_components(
                [StandardCallback], ref_template="#/components/schemas/{name}"
            )
            described["components"]["schemas"] |= components
            described["paths"][PATH] = {"post": _operation(schema)}
        return described

    api.openapi = openapi  # type: ignore[method-assign]


def _operation(schema: dict[str, Any]) -> dict[str, Any]:
    path = {"name": "account_id", "in": "path", "required": True, "schema": {"type": "string"}}
    headers = [
        {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in HEADERS.items()
    ]
    result = {
        "type": "object",
        "required": ["result"],
        "properties": {"result": {"enum": ["recorded", "duplicate", "stored"]}},
    }
    answer = {"description": "Committed", "content": {"application/json": {"schema": result}}}
    problem = {"$ref": "#/components/schemas/Problem"}
    refusals = {
        str(status): {
            "description": PROBLEMS[status]["description"],
            "content": {"application/problem+json": {"schema": problem}},
        }
        for status in (400, 401, 404, 413, 503)
    }
    return {
        "tags": ["webhooks"],
        "summary": "A gateway's callback in the Standard Webhooks format",
        "operationId": "standard_webhook",
        "parameters": [path, *headers],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": EXAMPLE}}},
        "responses": {"200": answer, **refusals},
    }
