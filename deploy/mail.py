"""A mail catcher: takes every mail over SMTP, sends none on, and shows what it got over HTTP.

`GET /messages?to=&limit=` answers `{"items": [{"id", "at", "from", "to": [], "subject", "text"}], "total"}`, newest
first (`total` counts all that match); `GET /` is the same as a page to look at.
"""

import argparse
import asyncio
import html
import json
import signal
from collections import deque
from dataclasses import asdict, dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from shared.clocks import utc_now

KEPT_MESSAGES = 10_000
MESSAGE_LIMIT_BYTES = 1024 * 1024
DEFAULT_PAGE, LARGEST_PAGE = 100, 10_000
STYLE = (
    "body{font:15px system-ui;margin:2em auto;max-width:60em}pre{white-space:pre-wrap;background:#f6f6f6;padding:1em}"
)


@dataclass(frozen=True)
class Message:
    """One mail as it was taken; `at` is the time of receipt in ISO 8601, UTC."""

    id: int
    at: str
    sender: str
    to: list[str]
    subject: str
    text: str

    def as_json(self) -> dict[str, Any]:
        """The message under the names of the HTTP answer."""
        return {"from" if name == "sender" else name: value for name, value in asdict(self).items()}


class Mailbox:
    """The last KEPT_MESSAGES messages, in memory and as lines of a file, from which a restart reads them back."""

    def __init__(self, folder: Path) -> None:
        """Read what an earlier run kept; a last line cut short by a kill is dropped."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "messages.jsonl"
        self._messages: deque[Message] = deque(maxlen=KEPT_MESSAGES)
        self._lines = 0
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                try:
                    self._messages.append(Message(**json.loads(line)))
                except (ValueError, TypeError):
                    continue
        self._rewrite()

    def add(self, sender: str, recipients: list[str], content: bytes, *, at: datetime) -> Message:
        """Keep a mail; it is in the file when this returns."""
        mail = message_from_bytes(content, policy=policy.default)
        number = self._messages[-1].id + 1 if self._messages else 1
        message = Message(number, at.isoformat(), sender, list(recipients), str(mail["subject"] or ""), _text(mail))
        self._messages.append(message)
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(message)) + "\n")
        self._lines += 1
        if self._lines > 2 * KEPT_MESSAGES:
            self._rewrite()
        return message

    def find(self, to: str | None, limit: int) -> tuple[list[Message], int]:
        """The newest `limit` messages to an address (None: all), and how many there are."""
        found = [message for message in reversed(self._messages) if to is None or to in message.to]
        return found[:limit], len(found)

    def _rewrite(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text("".join(json.dumps(asdict(message)) + "\n" for message in self._messages))
        fresh.replace(self._file)
        self._lines = len(self._messages)


class Receiver:
    """The SMTP side: aiosmtpd calls it once per mail."""

    def __init__(self, mailbox: Mailbox) -> None:
        """Put what arrives into `mailbox`."""
        self._mailbox = mailbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        """Keep the mail, then say so."""
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        self._mailbox.add(envelope.mail_from or "", envelope.rcpt_tos, content, at=utc_now())
        return "250 OK"


def http_app(mailbox: Mailbox) -> web.Application:
    """The HTTP side."""

    async def messages(request: web.Request) -> web.Response:
        try:
            limit = int(request.query.get("limit", DEFAULT_PAGE))
        except ValueError:
            raise web.HTTPBadRequest(text="limit must be a number") from None
        found, total = mailbox.find(request.query.get("to"), min(max(limit, 1), LARGEST_PAGE))
        return web.json_response({"items": [message.as_json() for message in found], "total": total})

    async def page(_request: web.Request) -> web.Response:
        found, total = mailbox.find(None, DEFAULT_PAGE)
        return web.Response(text=_page(found, total), content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/messages", messages), web.get("/", page)])
    return app


async def serve(folder: Path, *, host: str, smtp_port: int, http_port: int) -> None:
    """Catch mail until SIGTERM or SIGINT."""
    mailbox = Mailbox(folder)
    loop = asyncio.get_running_loop()
    smtp = await loop.create_server(
        lambda: SMTP(Receiver(mailbox), hostname="mail.takings.local", data_size_limit=MESSAGE_LIMIT_BYTES, loop=loop),
        host,
        smtp_port,
    )
    runner = web.AppRunner(http_app(mailbox), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, http_port, shutdown_timeout=0.2).start()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
    smtp.close()
    await runner.cleanup()


def _text(mail: EmailMessage) -> str:
    body = mail.get_body(preferencelist=("plain", "html"))
    if body is None:
        return ""
    try:
        return str(body.get_content())
    except (LookupError, ValueError):  # a character set that nobody knows
        content = body.get_payload(decode=True)
        return content.decode(errors="replace") if isinstance(content, bytes) else ""


def _page(messages: list[Message], total: int) -> str:
    shown = "".join(
        f"<h3>{html.escape(message.subject)}</h3><p>{html.escape(message.at)}, from {html.escape(message.sender)} "
        f"to {html.escape(', '.join(message.to))}</p><pre>{html.escape(message.text)}</pre>"
        for message in messages
    )
    title = f"{total} mails caught"
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{shown}"


def main() -> None:
    """Run the catcher from the command line."""
    parser = argparse.ArgumentParser(description="Catch mail and show it.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the mails are kept")
    options = parser.parse_args()
    asyncio.run(serve(options.folder, host=options.host, smtp_port=options.smtp_port, http_port=options.http_port))


if __name__ == "__main__":
    main()
