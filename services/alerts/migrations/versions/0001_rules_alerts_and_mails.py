"""Rules, the alerts that they raised, and the mails that tell of them."""

from alembic import op

from shared import tables

revision = "0001"
down_revision = None

SERVICE = "alerts"
RULES = """
CREATE TABLE alert_rules (
    tenant_id        text NOT NULL,
    rule_id          uuid NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('payment_failed', 'high_value', 'payout_failed')),
    thresholds       jsonb NOT NULL,   -- currency → minor units; high_value only
    recipients       text[] NOT NULL,  -- e-mail addresses
    cooldown_seconds integer NOT NULL CHECK (cooldown_seconds >= 0),
    enabled          boolean NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, rule_id)
);
"""
ALERTS = """
CREATE TABLE alerts (
    tenant_id       text NOT NULL,
    alert_id        uuid NOT NULL,
    rule_id         uuid NOT NULL,
    kind            text NOT NULL,
    subject         text NOT NULL,  -- the payment or payout
    fleet_id        text,
    summary         text NOT NULL,
    status          text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'acknowledged')),
    raised_at       timestamptz NOT NULL,
    acknowledged_at timestamptz CHECK ((acknowledged_at IS NOT NULL) = (status = 'acknowledged')),
    acknowledged_by text,
    PRIMARY KEY (tenant_id, alert_id),
    UNIQUE (tenant_id, rule_id, subject),
    FOREIGN KEY (tenant_id, rule_id) REFERENCES alert_rules
);
CREATE INDEX alerts_newest ON alerts (tenant_id, raised_at, alert_id);
CREATE INDEX alerts_without_fleet ON alerts (tenant_id, subject) WHERE fleet_id IS NULL;
"""
# What is known of a subject's fleet, whichever of its events came first; null: an alert without fleet asked for it.
SUBJECT_FLEETS = """
CREATE TABLE subject_fleets (
    tenant_id text NOT NULL,
    subject   text NOT NULL,  -- the payment
    fleet_id  text,
    PRIMARY KEY (tenant_id, subject)
);
"""
# No foreign key to alerts: checking it costs four times the insert, of up to a hundred thousand rows at once. An alert and
# its deliveries are inserted in one transaction, and neither is ever deleted.
DELIVERIES = """
CREATE TABLE deliveries (
    tenant_id  text NOT NULL,
    alert_id   uuid NOT NULL,
    recipient  text NOT NULL,
    rule_id    uuid NOT NULL,
    status     text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'failed', 'canceled')),
    created_at timestamptz NOT NULL,
    sent_at    timestamptz CHECK ((sent_at IS NOT NULL) = (status = 'sent')),
    error      text,
    PRIMARY KEY (tenant_id, alert_id, recipient)
);
CREATE INDEX deliveries_pending ON deliveries (tenant_id, rule_id, recipient, alert_id) WHERE status = 'pending';
"""
# One row per rule and recipient: what the sweep claims, and since when the cooldown runs.
MAIL_QUEUES = """
CREATE TABLE mail_queues (
    tenant_id     text NOT NULL,
    rule_id       uuid NOT NULL,
    recipient     text NOT NULL,
    waiting_since timestamptz,           -- null: no delivery is pending
    not_before    timestamptz NOT NULL,  -- end of the claim or of the back-off
    last_sent_at  timestamptz,
    attempts      integer NOT NULL DEFAULT 0,
    last_error    text,
    PRIMARY KEY (tenant_id, rule_id, recipient),
    FOREIGN KEY (tenant_id, rule_id) REFERENCES alert_rules
);
CREATE INDEX mail_queues_waiting ON mail_queues (waiting_since) WHERE waiting_since IS NOT NULL;
"""


def upgrade() -> None:
    """Create every table."""
    op.execute("SET lock_timeout = '5s'")
    op.execute(tables.tenants(SERVICE))
    op.execute(tables.inbox(SERVICE))
    op.execute(tables.audit(SERVICE))
    for table, ddl in (
        ("alert_rules", RULES),
        ("alerts", ALERTS),
        ("subject_fleets", SUBJECT_FLEETS),
        ("deliveries", DELIVERIES),
        ("mail_queues", MAIL_QUEUES),
    ):
        op.execute(ddl)
        op.execute(tables.protect(table, SERVICE))
    # The sweep finds which mails are due, of all tenants, and nothing of what is in them.
    op.execute(
        tables.across_tenants("mail_queues", SERVICE, grants="SELECT, UPDATE (not_before)")
        + tables.across_tenants("alert_rules", SERVICE, grants="SELECT (tenant_id, rule_id, cooldown_seconds)")
    )
