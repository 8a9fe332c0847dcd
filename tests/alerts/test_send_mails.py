"""Mails through a real SMTP server: at once, then held for the cooldown; tried again, given up, never blocking others."""

import asyncio
from dataclasses import replace
from email.message import EmailMessage

import pytest

from deploy.ports import free_port
from services.alerts import send_mails as module
from services.alerts.models import MailNotSent
from services.alerts.send_mails import Sweep
from services.alerts.smtp import Smtp
from tests.alerts.calls import BOSS, failed, payout_failed, terms

OTHER = "second@acme.example"
STATES = "SELECT recipient, status, count(*) FROM deliveries GROUP BY 1, 2 ORDER BY 1, 2"


async def test_the_first_alert_is_mailed_at_once(alerts, mail_server):
    await alerts.rule(recipients=[BOSS, OTHER])
    await alerts.raised(failed())
    assert await alerts.sweep() == Sweep(sent=2)
    for recipient in (BOSS, OTHER):
        ((subject, text),) = mail_server.to(recipient)
        assert subject == "Payment of KES 1,250.00 by mobile failed (no_funds)"
        assert f"2026-03-02 15:00  {subject}: fleet f1, payment p1" in " ".join(text.splitlines())
    assert await alerts.rows(STATES) == [(BOSS, "sent", 1), (OTHER, "sent", 1)]
    assert not (await alerts.sweep(after_s=1000)).found


async def test_what_comes_within_the_cooldown_is_one_digest_after_it(alerts, mail_server):
    await alerts.rule(cooldown=300)
    await alerts.raised(failed("p1"))
    await alerts.sweep()
    for number in (2, 3, 4):
        await alerts.raised(failed(f"p{number}"), after_s=number)
    assert not (await alerts.sweep(after_s=299)).found
    assert await alerts.sweep(after_s=300) == Sweep(sent=1)
    assert [subject for subject, _ in mail_server.to(BOSS)][1:] == ["3 alerts: payments failed"]
    assert all(f"payment p{n}" in mail_server.to(BOSS)[1][1] for n in (2, 3, 4))
    assert not (await alerts.sweep(after_s=601)).found


async def test_without_cooldown_nothing_is_held(alerts, mail_server):
    await alerts.rule(cooldown=0)
    for number in (1, 2):
        await alerts.raised(failed(f"p{number}"))
        assert await alerts.sweep() == Sweep(sent=1)
    assert len(mail_server.mails) == 2


async def test_without_cooldown_each_alert_has_its_own_mail(alerts, mail_server):
    await alerts.rule(cooldown=0)
    await alerts.raised(*(failed(f"p{number}") for number in range(3)))
    assert [await alerts.sweep() for _ in range(4)] == [Sweep(sent=1)] * 3 + [Sweep()]
    assert len(mail_server.mails) == 3


async def test_a_shorter_cooldown_counts_at_once(alerts):
    rule_id = await alerts.rule(cooldown=3600)
    await alerts.raised(failed("p1"))
    await alerts.sweep()
    await alerts.raised(failed("p2"))
    assert not (await alerts.sweep(after_s=60)).found
    await alerts.change(rule_id, terms(cooldown=60))
    assert await alerts.sweep(after_s=60) == Sweep(sent=1)


async def test_rules_and_tenants_have_their_own_cooldown(alerts, mail_server):
    await alerts.rule("payment_failed")
    await alerts.rule("payout_failed")
    await alerts.rule("payment_failed", tenant="other")
    await alerts.raised(failed("p1"))
    await alerts.sweep()
    await alerts.raised(payout_failed(), failed("p1", tenant="other"))
    assert await alerts.sweep(after_s=1) == Sweep(sent=2)
    assert "Times are those of America/Chicago" in "".join(text for _, text in mail_server.to(BOSS))


async def test_a_server_that_is_down_is_tried_again_with_growing_pauses(alerts, mail_server, unused_port):
    down = Smtp("127.0.0.1", unused_port).send
    await alerts.rule()
    await alerts.raised(failed())
    at = 0.0
    for pause in (1, 5, 30, 120, 300, 900, 900):
        assert await alerts.sweep(after_s=at, send=down) == Sweep(put_off=1)
        assert not (await alerts.sweep(after_s=at + pause - 0.1, send=down)).found
        at += pause
    ((attempts, error),) = await alerts.rows("SELECT attempts, last_error FROM mail_queues")
    assert (attempts, "SMTPConnectError" in error) == (7, True)
    assert await alerts.sweep(after_s=at) == Sweep(sent=1)
    assert len(mail_server.mails) == 1
    assert await alerts.rows("SELECT attempts, last_error FROM mail_queues") == [(0, None)]


async def test_a_refused_recipient_is_given_up_and_blocks_nobody(alerts, mail_server):
    mail_server.answers[BOSS] = [
        "550 No such user",
        f"550 <{BOSS.upper()}>: no such user",
        f"550 {BOSS},also;b@[127.0.0.1]",
    ]
    await alerts.rule(recipients=[BOSS, OTHER])
    await alerts.raised(failed("p1"))
    assert await alerts.sweep() == Sweep(sent=1, put_off=1)
    assert await alerts.sweep(after_s=1) == Sweep(put_off=1)
    assert await alerts.sweep(after_s=6) == Sweep(given_up=1)
    assert await alerts.rows(STATES) == [(BOSS, "failed", 1), (OTHER, "sent", 1)]
    assert not (await alerts.sweep(after_s=1000)).found
    ((error,),) = await alerts.rows("SELECT error FROM deliveries WHERE status = 'failed'")
    assert "550" in error
    assert "@" not in error
    await alerts.raised(failed("p2"), after_s=1000)  # the next alert is tried afresh
    assert await alerts.sweep(after_s=1000) == Sweep(sent=2)


async def test_a_busy_mailbox_is_not_given_up(alerts, mail_server):
    mail_server.answers[BOSS] = ["450 Busy"] * 4
    await alerts.rule()
    await alerts.raised(failed())
    for at in (0, 1, 6, 36):
        assert await alerts.sweep(after_s=at) == Sweep(put_off=1)
    assert await alerts.sweep(after_s=156) == Sweep(sent=1)


async def test_who_is_no_longer_a_recipient_gets_nothing_that_waits(alerts, mail_server):
    rule_id = await alerts.rule(recipients=[BOSS, OTHER])
    await alerts.raised(failed())
    await alerts.change(rule_id, terms(recipients=[OTHER]))
    assert await alerts.sweep() == Sweep(sent=1)
    assert mail_server.to(BOSS) == []
    assert await alerts.rows(STATES) == [(BOSS, "canceled", 1), (OTHER, "sent", 1)]


async def test_a_disabled_rule_sends_nothing_that_waits_and_enabled_again_only_what_is_new(alerts, mail_server):
    rule_id = await alerts.rule(recipients=[BOSS, OTHER])
    await alerts.rule("payout_failed")
    await alerts.raised(failed("p1"), payout_failed())
    await alerts.change(rule_id, terms(recipients=[BOSS, OTHER], enabled=False))
    assert await alerts.sweep() == Sweep(sent=1)
    by_kind = "SELECT kind, status, count(*) FROM deliveries JOIN alert_rules USING (tenant_id, rule_id) GROUP BY 1, 2"
    assert sorted(await alerts.rows(by_kind)) == [("payment_failed", "canceled", 2), ("payout_failed", "sent", 1)]
    assert await alerts.rows("SELECT DISTINCT waiting_since FROM mail_queues") == [(None,)]
    await alerts.change(rule_id, terms(recipients=[BOSS, OTHER]))
    assert not (await alerts.sweep(after_s=1000)).found
    await alerts.raised(failed("p2"), after_s=1000)
    assert await alerts.sweep(after_s=1000) == Sweep(sent=2)
    ((_, text),) = mail_server.to(OTHER)
    assert ("payment p1" in text, "payment p2" in text) == (False, True)


async def test_what_is_being_sent_when_its_rule_is_disabled_is_the_last_of_it(alerts, mail_server):
    rule_id = await alerts.rule(cooldown=0)
    await alerts.raised(failed("p1"), failed("p2"))

    async def send(mail):
        await alerts.change(rule_id, terms(cooldown=0, enabled=False))
        await alerts.smtp.send(mail)

    assert await alerts.sweep(send=send) == Sweep(sent=1)
    assert not (await alerts.sweep(after_s=1000)).found
    assert len(mail_server.mails) == 1
    assert await alerts.rows(STATES) == [(BOSS, "canceled", 1), (BOSS, "sent", 1)]
    (sent_at,) = await alerts.rows("SELECT max(sent_at) FROM deliveries")
    assert await alerts.rows("SELECT last_sent_at FROM mail_queues") == [sent_at]


async def test_an_alert_raised_while_a_mail_is_sent_is_mailed_next(alerts, mail_server):
    await alerts.rule(cooldown=60)
    await alerts.raised(failed("p1"))

    async def send(mail):
        await alerts.raised(failed("p2"))
        await alerts.smtp.send(mail)

    assert await alerts.sweep(send=send) == Sweep(sent=1)
    assert await alerts.sweep(after_s=60) == Sweep(sent=1)
    assert [f"payment p{n}" in text for n, (_, text) in enumerate(mail_server.to(BOSS), 1)] == [True, True]


async def test_a_sender_that_dies_leaves_its_claim_to_the_next(alerts, mail_server):
    await alerts.rule()
    await alerts.raised(failed())

    async def die(_mail):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await alerts.sweep(send=die)
    assert not (await alerts.sweep(after_s=1)).found
    assert await alerts.sweep(after_s=module.CLAIM_FOR.total_seconds()) == Sweep(sent=1)
    assert len(mail_server.mails) == 1


async def test_two_sweepers_send_each_mail_once(alerts, mail_server):
    second = replace(alerts)
    for number in range(12):
        await alerts.rule(recipients=[f"r{number}@acme.example"])
    await alerts.raised(failed())
    first = await asyncio.gather(alerts.sweep(), second.sweep())
    await alerts.sweep()
    assert sum(sweep.sent for sweep in first) >= module.AT_ONCE
    assert len({mail["to"] for mail in mail_server.mails}) == len(mail_server.mails) == 12


async def test_a_server_that_says_nothing_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr("services.alerts.smtp.SEND_LIMIT_S", 0.2)
    hung_up = asyncio.Event()

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()
        hung_up.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        with pytest.raises(MailNotSent) as caught:
            await Smtp("127.0.0.1", silent.sockets[0].getsockname()[1]).send(a_mail())
        await hung_up.wait()
    assert not caught.value.permanent


def a_mail():
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@b.example", BOSS, "x"
    mail.set_content("x")
    return mail


@pytest.fixture
def unused_port():
    return free_port()
