"""Alerts on a database of its own with two tenants, and a mail server that can be told to refuse."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from aiosmtpd.smtp import SMTP

from services.alerts.smtp import Smtp
from shared.db import Database
from tests.alerts.calls import Alerts
from tests.conftest import add_tenants


@dataclass
class MailServer:
    """A real SMTP server: keeps what it took, answers a recipient with the codes told, in turn, then with 250."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    answers: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - aiosmtpd's name
        if self.answers[address]:
            return self.answers[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    def to(self, recipient):
        """Subject and text of each mail to `recipient`."""
        return [(mail["subject"], mail.get_content()) for mail in self.mails if mail["to"] == recipient]


@pytest.fixture
async def mail_server():
    handler = MailServer()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(handler, hostname="test"), "127.0.0.1", 0)
    handler.port = server.sockets[0].getsockname()[1]
    yield handler
    server.close()
    await server.wait_closed()


@pytest.fixture
async def running(run):
    running = await run("alerts")
    await add_tenants(running.service.db)
    return running


@pytest.fixture
async def alerts(database, mail_server):
    urls = await database("alerts")
    smtp = Smtp("127.0.0.1", mail_server.port)
    made = Alerts(Database(urls.app, "test"), Database(urls.system, "test"), smtp, urls.owner)
    await add_tenants(made.db)
    yield made
    await made.db.close()
    await made.system_db.close()
