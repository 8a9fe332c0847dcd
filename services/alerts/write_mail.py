"""Write the mail that tells of one or of several alerts; pure."""

from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from uuid import uuid5
from zoneinfo import ZoneInfo

from services.alerts.match_rules import one_line
from services.alerts.models import Kind, Waiting

LISTED = 100
SUBJECT_LIMIT = 69  # a longer one would be folded, and some readers show the fold
PLURALS = {
    Kind.PAYMENT_FAILED: "payments failed",
    Kind.HIGH_VALUE: "high value payments",
    Kind.PAYOUT_FAILED: "payouts failed",
}


def write_mail(
    alerts: Sequence[Waiting], *, sender: str, recipient: str, zone: ZoneInfo, now: datetime
) -> EmailMessage:
    """A plain text mail about `alerts` of one rule, oldest first, at least one; the first LISTED are listed.

    Sent again, it has the same Message-ID, by which the recipient's server can tell.
    """
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = recipient
    mail["Subject"] = _subject(alerts)
    mail["Date"] = format_datetime(now)
    unique = uuid5(alerts[0].alert_id, f"{alerts[-1].alert_id} {len(alerts)} {recipient}")
    mail["Message-ID"] = f"<{unique}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_text(alerts, zone))
    return mail


def _subject(alerts: Sequence[Waiting]) -> str:
    if len(alerts) == 1:
        return one_line(alerts[0].summary).partition(": ")[0][:SUBJECT_LIMIT]  # what happened; where is in the text
    return f"{len(alerts)} alerts: {PLURALS[Kind(alerts[0].kind)]}"


def _text(alerts: Sequence[Waiting], zone: ZoneInfo) -> str:
    lines = [
        f"{alert.raised_at.astimezone(zone):%Y-%m-%d %H:%M}  {one_line(alert.summary)}" for alert in alerts[:LISTED]
    ]
    if len(alerts) > LISTED:
        lines.append(f"... and {len(alerts) - LISTED} more")
    return "\n".join([*lines, "", f"Times are those of {zone.key}. All alerts: GET /api/v1/alerts", ""])
