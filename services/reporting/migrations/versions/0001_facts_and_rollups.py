"""Facts of payments, earnings and payouts, and the daily roll-ups derived from them."""

from alembic import op

from shared import tables

revision = "0001"
down_revision = None

SERVICE = "reporting"
PAYMENTS = """
CREATE TABLE payments (
    tenant_id      text NOT NULL,
    payment_id     text NOT NULL,
    rank           smallint NOT NULL,  -- with event_id: which event the fact shows; a higher one replaces it
    event_id       uuid NOT NULL,
    status         text NOT NULL CHECK (status IN ('pending', 'failed', 'completed')),
    request_id     text,
    transaction_id text NOT NULL,
    client_id      text,
    amount         bigint NOT NULL CHECK (amount >= 0),
    applied        bigint NOT NULL CHECK (applied BETWEEN 0 AND amount),
    fee            bigint NOT NULL,
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    method         text NOT NULL,
    at             timestamptz NOT NULL,
    day            date NOT NULL,
    fleet_id       text,
    route_id       text,
    vehicle_id     text,
    platform       text,
    payees         jsonb NOT NULL,
    flags          jsonb NOT NULL,
    PRIMARY KEY (tenant_id, payment_id)
);
CREATE INDEX payments_history ON payments (tenant_id, at, payment_id);
"""
EARNINGS = """
CREATE TABLE earnings (
    tenant_id  text NOT NULL,
    earning_id text NOT NULL,
    payment_id text NOT NULL,
    payee_id   text NOT NULL,
    fleet_id   text,
    currency   text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    gross      bigint NOT NULL,
    commission bigint NOT NULL,
    amount     bigint NOT NULL CHECK (amount + commission = gross),
    cash_held  bigint NOT NULL,
    at         timestamptz NOT NULL,
    day        date NOT NULL,
    PRIMARY KEY (tenant_id, earning_id)
);
"""
PAYOUTS = """
CREATE TABLE payouts (
    tenant_id    text NOT NULL,
    payout_id    text NOT NULL,
    rank         smallint NOT NULL,
    event_id     uuid NOT NULL,
    status       text NOT NULL CHECK (status IN ('requested', 'approved', 'disbursed', 'rejected', 'failed')),
    payee_id     text NOT NULL,
    amount       bigint NOT NULL CHECK (amount >= 0),
    currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    at           timestamptz NOT NULL,
    disbursed_on date CHECK ((disbursed_on IS NOT NULL) = (status = 'disbursed')),
    method       text,
    reference    text,
    reason       text,
    PRIMARY KEY (tenant_id, payout_id)
);
CREATE INDEX payouts_history ON payouts (tenant_id, at, payout_id);
"""
ROLLUPS = """
CREATE TABLE daily_rollups (
    tenant_id  text NOT NULL,
    currency   text NOT NULL,
    dimension  text NOT NULL CHECK (dimension IN ('total', 'fleet', 'route', 'vehicle', 'payee', 'method')),
    day        date NOT NULL,
    member     text NOT NULL,  -- '' is none
    revenue    bigint NOT NULL,
    payments   bigint NOT NULL,
    fees       bigint NOT NULL,
    earnings   bigint NOT NULL,
    commission bigint NOT NULL,
    cash_held  bigint NOT NULL,
    payouts    bigint NOT NULL,
    refunds    bigint NOT NULL DEFAULT 0,
    costs      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, currency, dimension, day, member)
);
CREATE TABLE payee_balances (
    tenant_id text NOT NULL,
    currency  text NOT NULL,
    payee_id  text NOT NULL,
    earned    bigint NOT NULL,
    cash_held bigint NOT NULL,
    disbursed bigint NOT NULL,
    PRIMARY KEY (tenant_id, currency, payee_id)
);
"""


def upgrade() -> None:
    """Create every table."""
    op.execute("SET lock_timeout = '5s'")
    op.execute(tables.tenants(SERVICE))
    for table, ddl in (("payments", PAYMENTS), ("earnings", EARNINGS), ("payouts", PAYOUTS)):
        op.execute(ddl)
        op.execute(tables.protect(table, SERVICE))
    op.execute(ROLLUPS)
    for table in ("daily_rollups", "payee_balances"):
        # DELETE: a row whose sums are all zero again goes, so that a rebuilt table is identical.
        op.execute(tables.protect(table, SERVICE, grants="SELECT, INSERT, UPDATE, DELETE"))
