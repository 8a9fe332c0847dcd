"""Which events fire which rules, and how alerts and mails read."""

from datetime import timedelta
from email import message_from_bytes, policy
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.alerts import match_rules
from services.alerts.match_rules import one_line
from services.alerts.models import Rule, Waiting
from services.alerts.write_mail import LISTED, write_mail
from tests.alerts.calls import BOSS, NOW, completed, failed, matched, payout_failed, terms

NAIROBI = ZoneInfo("Africa/Nairobi")


def rule(kind, **more):
    return Rule("acme", uuid4(), terms(kind, **more))


def match(of, event):
    return match_rules.match(of, event, handled_at=NOW)


@pytest.mark.parametrize(
    ("kind", "event", "summary"),
    [
        ("payment_failed", failed(), "Payment of KES 1,250.00 by mobile failed (no_funds): fleet f1, payment p1"),
        (
            "payment_failed",
            failed(failure_code=None, fleet_id=None),
            "Payment of KES 1,250.00 by mobile failed: no fleet known, payment p1",
        ),
        ("payout_failed", payout_failed(), "Payout of KES 90.00 failed (closed): payee d1, payout o1"),
    ],
)
def test_a_failure_fires_its_rule(kind, event, summary):
    alert = match(rule(kind), event)
    assert alert is not None
    assert (alert.kind, alert.summary, alert.subject) == (kind, summary, event.subject)


@pytest.mark.parametrize(("amount", "fires"), [(124_999, False), (125_000, True), (125_001, True)])
def test_high_value_fires_from_the_threshold_on(amount, fires):
    alert = match(rule("high_value", KES=125_000), completed(amount=amount))
    assert (alert is not None) == fires


def test_what_fires_nothing():
    assert match(rule("high_value", USD=1), completed()) is None  # no threshold in its currency
    assert match(rule("high_value", KES=1), failed()) is None
    assert match(rule("high_value", KES=1), matched()) is None
    assert match(rule("payment_failed"), completed()) is None
    assert match(rule("payment_failed"), payout_failed()) is None
    assert match(rule("payment_failed", enabled=False), failed()) is None
    assert match(rule("payment_failed"), failed(tenant="other")) is None


def test_one_alert_is_its_own_mail():
    waiting = [Waiting(uuid4(), "payment_failed", "Payment failed", NOW)]
    mail = write_mail(waiting, sender="a@b.example", recipient=BOSS, zone=NAIROBI, now=NOW)
    assert (mail["subject"], mail["to"]) == ("Payment failed", BOSS)
    assert "2026-03-02 15:00  Payment failed" in mail.get_content()


def test_many_alerts_are_one_digest_that_lists_the_first_hundred():
    waiting = [Waiting(uuid4(), "high_value", f"no {n}.", NOW + timedelta(minutes=n)) for n in range(LISTED + 3)]
    mail = write_mail(waiting, sender="a@b.example", recipient=BOSS, zone=NAIROBI, now=NOW)
    text = mail.get_content()
    assert mail["subject"] == "103 alerts: high value payments"
    assert ("no 99." in text, "no 100." in text, "and 3 more" in text) == (True, False, True)
    again = write_mail(waiting, sender="a@b.example", recipient=BOSS, zone=NAIROBI, now=NOW + timedelta(minutes=1))
    assert again["message-id"] == mail["message-id"]


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_text_adds_a_header_or_breaks_the_mail(text):
    waiting = [Waiting(uuid4(), "payment_failed", f"x{text}\r\nBcc: thief@evil.example", NOW)]
    mail = write_mail(waiting, sender="a@b.example", recipient=BOSS, zone=NAIROBI, now=NOW)
    read = message_from_bytes(mail.as_bytes(), policy=policy.default)
    assert read["bcc"] is None
    assert read["to"] == BOSS
    assert {name.lower() for name in read.keys()} == {  # noqa: SIM118
        "from", "to", "subject", "date", "message-id", "auto-submitted", "content-type",
        "content-transfer-encoding", "mime-version",
    }  # fmt: skip


@given(st.text())
def test_one_line_is_one_short_printable_line(text):
    line = one_line(text)
    assert len(line) <= 200
    assert line.isprintable()
