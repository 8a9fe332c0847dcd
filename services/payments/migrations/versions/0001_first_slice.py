"""Tenants, gateway accounts, requests, payments, callbacks, and the tables every service has."""

from alembic import op

from shared import tables

revision = "0001"
down_revision = None
SERVICE = "payments"
DUE_COLUMNS = (
    "tenant_id, callback_id, account_id, received_at, handled_at, retry_at"  # not the bodies: people are in them
)


def upgrade() -> None:
    """Create everything."""
    op.execute("SET lock_timeout = '5s'")
    op.execute(tables.tenants(SERVICE))
    op.execute(tables.outbox(SERVICE))
    op.execute(tables.idempotency_keys(SERVICE))
    op.execute(tables.audit(SERVICE))
    op.execute(f"""
    CREATE TABLE gateway_accounts (
        tenant_id  text NOT NULL,
        account_id text NOT NULL,
        gateway    text NOT NULL,
        name       text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, account_id)
    );
    {tables.protect("gateway_accounts", SERVICE)}

    CREATE TABLE gateway_secrets (
        tenant_id  text NOT NULL,
        account_id text NOT NULL,
        secret_id  uuid NOT NULL,
        encrypted  bytea NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz,
        PRIMARY KEY (tenant_id, account_id, secret_id),
        FOREIGN KEY (tenant_id, account_id) REFERENCES gateway_accounts
    );
    {tables.protect("gateway_secrets", SERVICE)}

    -- A request that money has named before it was registered stands here as 'awaited': whoever comes second,
    -- the money or the request, meets the other at this row's key.
    CREATE TABLE requests (
        tenant_id    text NOT NULL,
        request_id   text NOT NULL,
        status       text NOT NULL
                     CHECK (status IN ('awaited', 'pending_payment', 'partially_paid', 'completed', 'canceled')),
        flags        text[] NOT NULL DEFAULT '{{}}',
        kind         text,
        amount       bigint CHECK (amount >= 0),
        paid         bigint NOT NULL DEFAULT 0 CHECK (paid >= 0),
        currency     text,
        occurred_at  timestamptz,
        client_id    text,
        client_name  text,
        client_phone text,
        fleet_id     text,
        route_id     text,
        vehicle_id   text,
        platform     text,
        payees       jsonb,
        reference    text,
        content_hash bytea,
        created_at   timestamptz NOT NULL,
        updated_at   timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, request_id),
        CHECK (status = 'awaited' OR (kind IS NOT NULL AND amount IS NOT NULL AND currency IS NOT NULL
               AND occurred_at IS NOT NULL AND client_id IS NOT NULL AND fleet_id IS NOT NULL
               AND payees IS NOT NULL AND content_hash IS NOT NULL))
    );
    {tables.protect("requests", SERVICE)}

    CREATE TABLE payments (
        tenant_id      text NOT NULL,
        payment_id     uuid NOT NULL,
        account_id     text NOT NULL,
        transaction_id text NOT NULL,
        request_id     text,
        status         text NOT NULL CHECK (status IN ('pending', 'completed', 'failed')),
        flags          text[] NOT NULL DEFAULT '{{}}',
        amount         bigint NOT NULL CHECK (amount > 0),
        applied        bigint NOT NULL DEFAULT 0 CHECK (applied BETWEEN 0 AND amount),
        fee            bigint NOT NULL DEFAULT 0 CHECK (fee >= 0),
        currency       text NOT NULL,
        method         text NOT NULL,
        paid_at        timestamptz NOT NULL,
        reference      text,
        payer_name     text,
        payer_phone    text,
        failure_code   text,
        failure_text   text,
        client_id      text,
        fleet_id       text,
        route_id       text,
        vehicle_id     text,
        platform       text,
        payees         jsonb NOT NULL DEFAULT '[]',
        recorded_at    timestamptz NOT NULL,
        updated_at     timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, payment_id),
        UNIQUE (tenant_id, account_id, transaction_id)
    );
    CREATE INDEX payments_time ON payments (tenant_id, paid_at DESC, payment_id DESC);
    CREATE INDEX payments_fleet ON payments (tenant_id, fleet_id, paid_at DESC, payment_id DESC);
    CREATE INDEX payments_vehicle ON payments (tenant_id, vehicle_id, paid_at DESC, payment_id DESC);
    CREATE INDEX payments_route ON payments (tenant_id, route_id, paid_at DESC, payment_id DESC);
    CREATE INDEX payments_open ON payments (tenant_id, status, paid_at DESC, payment_id DESC)
        WHERE status <> 'completed';
    CREATE INDEX payments_client ON payments (tenant_id, client_id, paid_at DESC, payment_id DESC);
    CREATE INDEX payments_unmatched ON payments (tenant_id, request_id) WHERE flags @> '{{unmatched}}';
    {tables.protect("payments", SERVICE)}

    -- What gateways sent, byte for byte, each delivery a row; handled_at is empty while its effect is missing.
    CREATE TABLE callbacks (
        tenant_id   text NOT NULL,
        callback_id uuid NOT NULL,
        account_id  text NOT NULL,
        webhook_id  text NOT NULL,
        body        bytea NOT NULL,
        received_at timestamptz NOT NULL,
        payment_id  uuid,
        handled_at  timestamptz,
        attempts    integer NOT NULL DEFAULT 0,
        retry_at    timestamptz,
        error       text,
        PRIMARY KEY (tenant_id, callback_id)
    );
    CREATE INDEX callbacks_unhandled ON callbacks (retry_at) WHERE handled_at IS NULL;
    {tables.protect("callbacks", SERVICE)}
    {tables.across_tenants("callbacks", SERVICE, grants=f"SELECT ({DUE_COLUMNS})")}
    """)


def downgrade() -> None:
    """There is no way back from the first version but dropping the database."""
    raise RuntimeError("drop the database instead")
