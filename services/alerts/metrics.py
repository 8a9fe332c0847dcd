"""Metrics that only alerts has."""

from prometheus_client import Counter

RAISED = Counter("takings_alerts_raised", "Alerts raised", ["kind"])
MAILS = Counter("takings_mails", "Attempts to send a mail: sent, put_off (tried again later), given_up", ["result"])
