"""Made-up trips: the request and the callback of each, always the same for the same number."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx

from bench.place import TENANT, Place, Running

FLEETS, ROUTES, VEHICLES, DRIVERS = 5, 20, 200, 400
REQUESTS_AT_ONCE = 1000
Item = TypeVar("Item")
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def amount_of(number: int) -> int:
    """In minor units; different from trip to trip."""
    return 5_000 + number * 37 % 90_000


def request_of(name: str, number: int) -> dict[str, Any]:
    """The service request of trip `number` of the run `name`."""
    return {
        "id": f"{name}-{number}",
        "kind": "trip",
        "amount": amount_of(number),
        "currency": "KES",
        "occurred_at": moment(number).isoformat(),
        "client_id": f"client-{number % 997}",
        "client": {"name": f"Client {number % 997}", "phone": f"+2547{number % 997:08d}"},
        "fleet_id": f"fleet-{number % FLEETS}",
        "route_id": f"route-{number % ROUTES}",
        "vehicle_id": f"vehicle-{number % VEHICLES}",
        "payees": [{"payee_id": f"driver-{number % DRIVERS}"}],
    }


def callback_of(name: str, number: int) -> bytes:
    """The body of the callback that completes its payment."""
    data = {
        "transaction_id": f"tx-{name}-{number}",
        "request_id": f"{name}-{number}",
        "amount": amount_of(number),
        "currency": "KES",
        "method": "mpesa",
        "paid_at": moment(number).isoformat(),
        "fee": 25,
        "payer": {"name": f"Client {number % 997}", "phone": f"+2547{number % 997:08d}"},
    }
    return json.dumps({"type": "payment.completed", "timestamp": data["paid_at"], "data": data}).encode()


def payment_of(name: str, number: int) -> dict[str, Any]:
    """The same payment as an internal system records it."""
    return {
        "transaction_id": f"tx-{name}-{number}",
        "request_id": f"{name}-{number}",
        "amount": amount_of(number),
        "currency": "KES",
        "method": "cash",
        "paid_at": moment(number).isoformat(),
    }


def register(place: Place, payments: Running, name: str, numbers: Sequence[int], *, tenant: str = TENANT) -> None:
    """Register the requests of trips through the API."""
    with httpx.Client(
        base_url=f"{payments.url}/api/v1", headers=place.headers("system", tenant=tenant), timeout=30
    ) as http:
        for some in batches(numbers, REQUESTS_AT_ONCE):
            answer = http.post("/requests/batch", json={"items": [request_of(name, number) for number in some]})
            refused = [item for item in answer.raise_for_status().json()["results"] if item["status"] >= 300]
            if refused:
                raise RuntimeError(f"a request was refused: {refused[0]}")


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Parts of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def moment(number: int) -> datetime:
    """When trip `number` was paid."""
    return FIRST + timedelta(seconds=number % 8_000_000)
