"""SMTP: hands a mail to the server within a time limit."""

import asyncio
from dataclasses import dataclass
from email.message import EmailMessage

import aiosmtplib

from services.alerts.models import MailNotSent

STEP_LIMIT_S = 5.0
SEND_LIMIT_S = 15.0


@dataclass(frozen=True, slots=True)
class Smtp:
    """A server that takes our mails; STARTTLS is used where it offers it."""

    host: str
    port: int

    async def send(self, mail: EmailMessage) -> None:
        """Return when the server has taken it. Raises MailNotSent."""
        try:
            async with asyncio.timeout(SEND_LIMIT_S):
                await aiosmtplib.send(mail, hostname=self.host, port=self.port, timeout=STEP_LIMIT_S)
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            raise MailNotSent(f"{type(error).__name__}: {error}", permanent=_is_permanent(error)) from error


def _is_permanent(error: Exception) -> bool:
    # A refused connection, login or sender is for the operator to mend, and then the mails still want to go.
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(refused.code >= 500 for refused in error.recipients)
    return isinstance(error, aiosmtplib.SMTPDataError) and error.code >= 500
