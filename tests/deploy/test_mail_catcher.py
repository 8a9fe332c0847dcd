"""The mail catcher: what is sent by SMTP is shown over HTTP, also after a restart, and never without bound."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import httpx

from deploy import mail
from deploy.ports import free_port
from deploy.processes import Command, spawn, stop

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@contextmanager
def _catcher(folder: Path) -> Iterator[tuple[int, str]]:
    smtp, http = free_port(), free_port()
    options = ("--smtp-port", str(smtp), "--http-port", str(http), "--folder", str(folder))
    command = Command("mail", (sys.executable, "-m", "deploy.mail", *options), folder / "mail.log")
    process = spawn(command)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{http}/messages")
                break
            except httpx.ConnectError:
                assert process.poll() is None, (folder / "mail.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield smtp, f"http://127.0.0.1:{http}"
    finally:
        stop(process, command, grace_seconds=3)
    assert process.returncode == 0, (folder / "mail.log").read_text()


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url)


async def test_shows_what_it_got_also_after_a_restart(tmp_path: Path) -> None:
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = "alerts@takings.local", "finance@a.example", "Zahlung über <5 €>"
    letter.set_content("A payment failed: ünbekannt & <b>bold</b>\n")
    with _catcher(tmp_path) as (smtp, _):
        await aiosmtplib.send(letter, hostname="127.0.0.1", port=smtp)
        letter.replace_header("To", "manager@b.example")
        await aiosmtplib.send(letter, hostname="127.0.0.1", port=smtp)
    with _catcher(tmp_path) as (_, url):
        answer = (await _get(f"{url}/messages")).json()
        assert answer["total"] == 2
        assert [item["to"] for item in answer["items"]] == [["manager@b.example"], ["finance@a.example"]]
        newest = answer["items"][0]
        assert (newest["from"], newest["subject"]) == ("alerts@takings.local", "Zahlung über <5 €>")
        assert newest["text"].strip() == "A payment failed: ünbekannt & <b>bold</b>"
        assert datetime.fromisoformat(newest["at"]).tzinfo is not None
        one = (await _get(f"{url}/messages?to=finance@a.example&limit=1")).json()
        assert (one["total"], len(one["items"])) == (1, 1)
        assert (await _get(f"{url}/messages?limit=x")).status_code == 400
        page = (await _get(url)).text
        assert "&lt;b&gt;bold&lt;/b&gt;" in page
        assert "<b>bold" not in page


def test_keeps_the_newest_only(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(mail, "KEPT_MESSAGES", 3)
    mailbox = mail.Mailbox(tmp_path)
    for number in range(10):
        mailbox.add("a@x", ["b@x"], f"Subject: {number}\r\n\r\nbody".encode(), at=AT)
    with (tmp_path / "messages.jsonl").open("a") as file:
        file.write('{"id": 11, "cut short')
    messages, total = mail.Mailbox(tmp_path).find(None, 100)
    assert ([message.subject for message in messages], total) == (["9", "8", "7"], 3)
    assert len((tmp_path / "messages.jsonl").read_text().splitlines()) == 3


def test_a_mail_that_cannot_be_read_is_kept_all_the_same(tmp_path: Path) -> None:
    mailbox = mail.Mailbox(tmp_path)
    mailbox.add("a@x", ["b@x"], b"Content-Type: text/plain; charset=no-such\r\nSubject: odd\r\n\r\n\xff\xfe", at=AT)
    mailbox.add("a@x", ["b@x"], b"\xff\x00 no header at all", at=AT)
    assert mailbox.find("b@x", 10)[1] == 2
