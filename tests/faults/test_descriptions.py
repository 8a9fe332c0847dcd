"""What the OpenAPI descriptions promise, held against the services by Schemathesis, in every role.

No 5xx, and no answer whose status, media type or form the description does not have. The calls are made as they are
described and as they must not be; half of them name things that are there. In half of the bodies stands what a description
cannot say: else hardly any would come past the first look at it.
"""

import asyncio
from collections import Counter, defaultdict
from contextlib import nullcontext, suppress
from random import Random
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shared import health
from shared.auth import Role
from tests.conftest import Running
from tests.faults.seeds import seeded
from tests.faults.sizes import LONG, size
from tests.faults.victims import IN_SERVICE, VICTIM, Found
from tests.payments.conftest import new_request
from tests.shared.sockets import listening

EXAMPLES = size(short=2, long=60)  # of each operation, right and wrong ones, each sent in every role
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Lists of names, and limits of time, that no pattern has.
SENSIBLE = {"currency": "KES", "time_zone": "Africa/Nairobi", "occurred_at": "2026-03-01T08:00:00Z",
            "paid_at": "2026-03-01T08:00:00Z", "partial": True}  # fmt: skip
# What no generated call gets a yes from, and why.
NEVER_2XX = {"POST /api/v1/webhooks/standard/{account_id}": "nothing generated is signed"}


class Caller:
    """Sends generated cases to a service in every role, and keeps what is wrong with the answers."""

    def __init__(self, running: Running, found: Found, port: int, chance: Random, session: requests.Session) -> None:
        self._found, self._chance = found, chance
        self._sensible = SENSIBLE | {name: value for name, value in found.items() if name != "tenant_id"}
        self._base_url = f"http://127.0.0.1:{port}"
        self._session = session
        claims = {"driver_id": "d1", "client_id": "c1", "fleet_ids": ["f1"]}
        self._headers = {
            role: running.as_(role, tenant=None if role is Role.OPERATOR else VICTIM, **claims) for role in Role
        }
        self.wrong: dict[str, str] = {}
        self.statuses: defaultdict[str, Counter[int]] = defaultdict(Counter)  # by operation

    def send(self, case: Any) -> None:
        """The case in every role."""
        self._name_what_is_there(case)
        for role, headers in self._headers.items():
            response = case.call(base_url=self._base_url, session=self._session, headers=headers, timeout=30)
            self.statuses[case.operation.label][response.status_code] += 1
            try:
                case.validate_response(response, checks=CHECKS)
            except (Failure, FailureGroup) as error:
                failures = error.exceptions if isinstance(error, FailureGroup) else [error]
                for failure in failures:
                    what = f"{case.operation.label}: {response.status_code} {failure.title}"
                    self.wrong.setdefault(
                        what, f"{role}: {failure}\n{case.as_curl_command()[:2_000]}\n{response.text[:500]}"
                    )

    def _name_what_is_there(self, case: Any) -> None:
        for given_values in (case.path_parameters, case.query):
            for name in given_values or {}:
                if name in self._found and self._chance.random() < 0.5:
                    given_values[name] = self._found[name]
        if self._chance.random() < 0.5:
            case.body = self._made_sensible(case.body)

    def _made_sensible(self, body: Any) -> Any:
        if isinstance(body, list):
            return [self._made_sensible(each) for each in body]
        if isinstance(body, float) and body.is_integer():  # one number to the description, and not to us
            return int(body)
        if isinstance(body, dict):
            return {name: self._sensible.get(name) or self._made_sensible(value) for name, value in body.items()}
        return body


def call_all(caller: Caller, description: dict[str, Any], number: int) -> None:
    """Generate right and wrong cases of every operation and send them."""
    for result in schemathesis.openapi.from_dict(description).get_all_operations():
        operation = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(number)
            @settings(
                max_examples=EXAMPLES,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(mode))
            def send(case: Any) -> None:
                caller.send(case)

            # Nothing can be wrong in a call that takes nothing.
            with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
                send()


@pytest.mark.timeout(size(short=300, long=3_600))
@pytest.mark.parametrize("service", IN_SERVICE)
async def test_every_answer_is_one_that_the_description_has(run: Any, monkeypatch, service: str):
    # Nothing publishes here: the events of this test wait for ever, and no health need be red for that.
    monkeypatch.setattr(health, "ALARM_AFTER_S", dict.fromkeys(health.ALARM_AFTER_S, float("inf")))
    chance = seeded(f"descriptions of {service}")
    running, found = await IN_SERVICE[service](run)
    if service == "payments":
        found["request_id"] = await _much_is_due(running)
    description = running.service.api.openapi()
    with requests.Session() as session:
        async with listening(running.service.app) as port:
            caller = Caller(running, found, port, chance, session)
            await asyncio.to_thread(call_all, caller, description, chance.randrange(2**32))
    statuses = sum(caller.statuses.values(), Counter())
    print(dict(statuses))
    assert caller.wrong == {}
    assert {200, 403} <= statuses.keys()
    described = {f"{method.upper()} {path}" for path, methods in description["paths"].items() for method in methods}
    assert caller.statuses.keys() == described
    refused = {label for label, seen in caller.statuses.items() if not any(200 <= status < 300 for status in seen)}
    print("never told yes:", sorted(refused))
    assert not LONG or refused <= NEVER_2XX.keys()


async def _much_is_due(running: Running) -> str:
    """A request that many payments find room in."""
    body = new_request(id="trip-3", amount=10**12)
    answer = await running.http.post("/api/v1/requests", json=body, headers=running.as_("system", tenant=VICTIM))
    assert answer.status_code == 201, answer.text
    return body["id"]
