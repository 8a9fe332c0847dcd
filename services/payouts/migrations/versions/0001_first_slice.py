"""Commission plans, earnings, the double-entry ledger, wallets, payouts, and the tables every service has."""

from alembic import op

from shared import tables

revision = "0001"
down_revision = None
SERVICE = "payouts"


def upgrade() -> None:
    """Create everything."""
    op.execute("SET lock_timeout = '5s'")
    op.execute(tables.tenants(SERVICE))
    op.execute(tables.outbox(SERVICE))
    op.execute(tables.idempotency_keys(SERVICE))
    op.execute(tables.audit(SERVICE))
    op.execute(f"""
    CREATE TABLE commission_plans (
        tenant_id     text NOT NULL,
        plan_id       uuid NOT NULL,
        fleet_id      text,
        payee_id      text,
        commission_bp integer NOT NULL CHECK (commission_bp BETWEEN 0 AND 10000),
        delay_days    integer NOT NULL CHECK (delay_days BETWEEN 0 AND 365),
        valid_from    date NOT NULL,
        created_at    timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, plan_id),
        UNIQUE NULLS NOT DISTINCT (tenant_id, fleet_id, payee_id, valid_from),
        CHECK (fleet_id IS NULL OR payee_id IS NULL)
    );
    {tables.protect("commission_plans", SERVICE, grants="SELECT, INSERT")}

    -- A payee's money in one currency, kept beside the entries it is the sum of; also the row that a payout locks.
    CREATE TABLE wallets (
        tenant_id  text NOT NULL,
        payee_id   text NOT NULL,
        currency   text NOT NULL,
        balance    bigint NOT NULL DEFAULT 0,
        locked     bigint NOT NULL DEFAULT 0 CHECK (locked >= 0),
        earned     bigint NOT NULL DEFAULT 0,
        commission bigint NOT NULL DEFAULT 0,
        cash_held  bigint NOT NULL DEFAULT 0,
        paid       bigint NOT NULL DEFAULT 0 CHECK (paid >= 0),
        PRIMARY KEY (tenant_id, payee_id, currency)
    );
    {tables.protect("wallets", SERVICE)}

    CREATE TABLE payouts (
        tenant_id    text NOT NULL,
        payout_id    uuid NOT NULL,
        payee_id     text NOT NULL,
        currency     text NOT NULL,
        amount       bigint NOT NULL CHECK (amount > 0),
        status       text NOT NULL CHECK (status IN ('requested', 'approved', 'rejected', 'disbursed', 'failed')),
        reason       text,
        method       text,
        reference    text,
        requested_by text NOT NULL,
        requested_at timestamptz NOT NULL,
        updated_at   timestamptz NOT NULL,
        disbursed_at timestamptz,
        PRIMARY KEY (tenant_id, payout_id)
    );
    CREATE INDEX payouts_time ON payouts (tenant_id, requested_at DESC, payout_id DESC);
    CREATE INDEX payouts_payee ON payouts (tenant_id, payee_id, requested_at DESC, payout_id DESC);
    {tables.protect("payouts", SERVICE)}

    -- gross = commission + net, and what the payee may still be paid for it is net - cash_held. A payout of less than
    -- all that is available splits one earning in two parts, so that every part is locked by at most one payout.
    CREATE TABLE earnings (
        tenant_id     text NOT NULL,
        earning_id    uuid NOT NULL,
        payment_id    uuid NOT NULL,
        payee_id      text NOT NULL,
        part          integer NOT NULL DEFAULT 1,
        fleet_id      text,
        currency      text NOT NULL,
        gross         bigint NOT NULL CHECK (gross >= 0),
        commission    bigint NOT NULL CHECK (commission >= 0),
        commission_bp integer NOT NULL,
        net           bigint NOT NULL,
        cash_held     bigint NOT NULL CHECK (cash_held >= 0),
        payable       bigint GENERATED ALWAYS AS (net - cash_held) STORED,
        paid_at       timestamptz NOT NULL,
        accrued_at    timestamptz NOT NULL,
        available_at  timestamptz NOT NULL,
        payout_id     uuid,
        PRIMARY KEY (tenant_id, earning_id),
        UNIQUE (tenant_id, payment_id, payee_id, part),
        CHECK (gross = commission + net)
    );
    CREATE INDEX earnings_free ON earnings (tenant_id, payee_id, currency) WHERE payout_id IS NULL;
    CREATE INDEX earnings_payout ON earnings (tenant_id, payout_id) WHERE payout_id IS NOT NULL;
    {tables.protect("earnings", SERVICE)}

    -- A journal moves money between accounts: amount > 0 into the account, < 0 out of it; each sums to zero per currency.
    CREATE TABLE journals (
        tenant_id  text NOT NULL,
        journal_id uuid NOT NULL,
        kind       text NOT NULL,
        source_id  uuid NOT NULL,
        posted_at  timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, journal_id),
        UNIQUE (tenant_id, kind, source_id)
    );
    {tables.protect("journals", SERVICE, grants="SELECT, INSERT")}

    CREATE TABLE entries (
        tenant_id  text NOT NULL,
        journal_id uuid NOT NULL,
        line       integer NOT NULL,
        account    text NOT NULL,
        payee_id   text,
        currency   text NOT NULL,
        amount     bigint NOT NULL,
        PRIMARY KEY (tenant_id, journal_id, line),
        CHECK (account IN ('gateway', 'suspense', 'operator', 'commission', 'wallet', 'locked', 'disbursed')),
        CHECK ((payee_id IS NOT NULL) = (account IN ('wallet', 'locked', 'disbursed')))
    );
    CREATE INDEX entries_payee ON entries (tenant_id, payee_id, currency, account) INCLUDE (amount)
        WHERE payee_id IS NOT NULL;
    {tables.protect("entries", SERVICE, grants="SELECT, INSERT")}

    -- The entries of a journal are inserted by one statement, so the statement is where its balance is checked.
    CREATE FUNCTION refuse_unbalanced_journals() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM added GROUP BY tenant_id, journal_id, currency HAVING sum(amount) <> 0) THEN
            RAISE EXCEPTION 'a journal does not sum to zero' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER entries_balance AFTER INSERT ON entries REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_unbalanced_journals();
    """)


def downgrade() -> None:
    """There is no way back from the first version but dropping the database."""
    raise RuntimeError("drop the database instead")
