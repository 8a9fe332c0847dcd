"""The gateway: its signatures are Standard Webhooks, and its misbehaviour adds up."""

import base64
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from deploy.simulator.gateway import FORGERIES, MANNERS_OF, Script, decode_secret, sign, transaction_id, write_script
from deploy.simulator.generator import GeneratedTrips
from deploy.simulator.trips import Trip

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()
TRIP = next(trip for trip in GeneratedTrips(seed=5, count=50) if trip.fee and not trip.failed)


def kinds(script: Script) -> list[list[str]]:
    return [[json.loads(body)["type"].removeprefix("payment.") for body in wave] for wave in script.waves]


def scripts(trip: Trip, count: int = 2 * MANNERS_OF) -> list[Script]:
    return [write_script(trip, ordinal, "KES") for ordinal in range(count)]


def test_the_signature_is_that_of_the_reference_library() -> None:
    body = b'{"amount": 1, "text": "\xe2\x86\x92"}'
    now = datetime.now(UTC)
    signature = sign(decode_secret(SECRET), "msg_1", int(now.timestamp()), body)
    assert signature == Webhook(SECRET).sign("msg_1", now, body.decode())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    Webhook(SECRET).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers | {"webhook-id": "msg_2"})


def test_a_callback_says_what_the_trip_is() -> None:
    event = json.loads(write_script(TRIP, 40, "KES").waves[0][0])
    assert event["type"] == "payment.completed"
    data = event["data"]
    assert data["transaction_id"] == transaction_id(TRIP.trip_id)
    assert (data["request_id"], data["amount"], data["currency"]) == (TRIP.trip_id, TRIP.amount, "KES")
    assert (data["method"], data["fee"]) == (TRIP.method, TRIP.fee)
    assert datetime.fromisoformat(data["paid_at"]) == TRIP.occurred_at
    assert data["payer"].keys() == {"name", "phone"}
    assert "failure" not in data


def test_every_kind_of_misbehaviour_is_played_and_ends_completed() -> None:
    shapes = Counter(json.dumps(kinds(script)) for script in scripts(TRIP))
    assert shapes.keys() == {
        '[["completed"]]',
        '[["completed", "completed"]]',
        '[["completed", "completed"], ["completed"]]',
        '[["completed"], ["pending"]]',
        '[["completed"], ["failed"]]',
        '[["pending"], ["completed"]]',
    }
    assert shapes['[["completed"]]'] > len(scripts(TRIP)) / 2
    assert any(script.early for script in scripts(TRIP))
    assert {script.forgery for script in scripts(TRIP, 1000)} == {None, *FORGERIES}


def test_a_failed_payment_is_never_followed_by_another_state() -> None:
    for script in scripts(replace(TRIP, failed=True, fee=0)):
        assert kinds(script)[-1][-1] == "failed"
        assert "completed" not in str(kinds(script))
        assert str(kinds(script)).count("failed") + str(kinds(script)).count("pending") == script.repeats + len(
            {kind for wave in kinds(script) for kind in wave}
        )


def test_repeats_are_the_callbacks_that_must_change_nothing() -> None:
    for script in scripts(TRIP):
        sent = [kind for wave in kinds(script) for kind in wave]
        effective = 2 if sent == ["pending", "completed"] else 1
        assert len(sent) == script.repeats + effective


def test_transaction_ids_follow_from_trip_ids() -> None:
    assert transaction_id("T1") == transaction_id("T1") != transaction_id("T2")
    assert len(transaction_id("T" * 200)) < 64
