"""The DDL of the tables that several services have, for their migrations.

Migrations are history: a function here is never edited once released; a change is a new function.
"""

# IS TRUE keeps the policy out of the choice of an index: each query names its tenant itself, and an index chosen for the
# policy's unknown number of tenants is a bad one. The sub-select is evaluated once a statement, not once a row.
VISIBLE = "(tenant_id = ANY ((SELECT string_to_array(current_setting('app.tenant', true), ','))::text[])) IS TRUE"


def protect(table: str, service: str, *, grants: str = "SELECT, INSERT, UPDATE") -> str:
    """Row-level security on `table`, also for its owner, and the application role's rights."""
    return f"""
    ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON {table} USING ({VISIBLE}) WITH CHECK ({VISIBLE});
    GRANT {grants} ON {table} TO {service}_app;
    """


def across_tenants(table: str, service: str, *, grants: str) -> str:
    """Let the service's system role, which only its relay and sweeps use, see `table` of all tenants with just `grants`."""
    return f"""
    CREATE POLICY system ON {table} TO {service}_system USING (true) WITH CHECK (true);
    GRANT {grants} ON {table} TO {service}_system;
    """


def tenants(service: str) -> str:
    """The tenants (payments) or a service's copy of them."""
    return f"""
    CREATE TABLE tenants (
        tenant_id  text PRIMARY KEY,
        name       text NOT NULL,
        time_zone  text NOT NULL,
        currency   text NOT NULL CHECK (currency ~ '^[A-Z]{{3}}$'),
        version    bigint NOT NULL,
        updated_at timestamptz NOT NULL
    );
    {protect("tenants", service)}
    """


def outbox(service: str) -> str:
    """Events written in the transaction of their effect; the rows stay as the service's event log."""
    return f"""
    CREATE TABLE outbox (
        tenant_id    text NOT NULL,
        id           bigint GENERATED ALWAYS AS IDENTITY,
        event_id     uuid NOT NULL,
        topic        text NOT NULL,
        key          text NOT NULL,
        event        json NOT NULL,
        created_at   timestamptz NOT NULL,
        published_at timestamptz,
        PRIMARY KEY (tenant_id, id)
    );
    CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
    {protect("outbox", service, grants="SELECT, INSERT")}
    {across_tenants("outbox", service, grants="SELECT, UPDATE (published_at)")}
    """


def inbox(service: str) -> str:
    """Event ids that have had their effect."""
    return f"""
    CREATE TABLE inbox (
        tenant_id  text NOT NULL,
        event_id   uuid NOT NULL,
        claimed_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, event_id)
    );
    {protect("inbox", service, grants="SELECT, INSERT")}
    """


def idempotency_keys(service: str) -> str:
    """First answers to requests that carried an Idempotency-Key."""
    return f"""
    CREATE TABLE idempotency_keys (
        tenant_id    text NOT NULL,
        caller       text NOT NULL,
        key          text NOT NULL,
        request_hash bytea NOT NULL,
        status       integer,
        body         bytea,
        created_at   timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, caller, key)
    );
    CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
    {protect("idempotency_keys", service)}
    {across_tenants("idempotency_keys", service, grants="SELECT (tenant_id, caller, key, created_at), DELETE")}
    """


def audit(service: str) -> str:
    """Who changed money or a rule, when, from which request; rows are only ever added."""
    return f"""
    CREATE TABLE audit (
        tenant_id  text NOT NULL,
        audit_id   uuid NOT NULL,
        at         timestamptz NOT NULL,
        actor      text NOT NULL,
        request_id text,
        action     text NOT NULL,
        subject    text NOT NULL,
        before     jsonb,
        after      jsonb,
        PRIMARY KEY (tenant_id, audit_id)
    );
    CREATE INDEX audit_subject ON audit (tenant_id, subject, at);
    {protect("audit", service, grants="SELECT, INSERT")}
    """


def numbered_audit(service: str) -> str:
    """Number audit rows as they are written, under the lock of what changes. Those from before have no number: no rewrite."""
    return f"""
    ALTER TABLE audit ADD COLUMN number bigint;
    CREATE SEQUENCE audit_number OWNED BY audit.number;
    ALTER TABLE audit ALTER COLUMN number SET DEFAULT nextval('audit_number');
    GRANT USAGE ON SEQUENCE audit_number TO {service}_app;
    """


def audited(table: str, service: str, *, columns: str | None = None) -> str:
    """Let the service's auditor role read `table` of all tenants, or just `columns` of it, and write nothing."""
    only = f" ({columns})" if columns else ""
    return f"""
    CREATE POLICY auditor ON {table} FOR SELECT TO {service}_auditor USING (true);
    GRANT SELECT{only} ON {table} TO {service}_auditor;
    """


def audited_answers(service: str) -> str:
    """Let the auditor see which ids the kept answers name, and not the answers: people are in them.

    The function runs as its owner, whom row-level security shows the tenants of `app.tenant` only.
    """
    return f"""
    {audited("idempotency_keys", service, columns="tenant_id, caller, key, request_hash, status, created_at")}
    CREATE FUNCTION answered_ids() RETURNS TABLE (tenant_id text, caller text, key text, id text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT tenant_id, caller, key, named.id
        FROM idempotency_keys, LATERAL (
            SELECT CASE substring(body FROM 1 FOR 1) WHEN '{{' THEN convert_from(body, 'UTF8')::jsonb
                                                     ELSE '{{"id": "unreadable"}}' END AS answer
        ) AS kept, LATERAL (
            SELECT answer ->> 'id' AS id
            UNION ALL
            SELECT item ->> 'id'
            FROM jsonb_array_elements(CASE WHEN answer ? 'results' THEN answer -> 'results' ELSE '[]' END) AS item
        ) AS named
        WHERE status < 300 AND named.id IS NOT NULL
    $$;
    REVOKE ALL ON FUNCTION answered_ids() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION answered_ids() TO {service}_auditor;
    """  # noqa: S608 - DDL; the service is a migration's constant


def shown_to_auditor(table: str, service: str) -> str:
    """Let the auditor's sessions see `table` of all tenants through what runs as its owner: views and functions.

    Also rows of a tenant that is missing, and without holding each row against the list of all tenants.
    """
    return f"""
    CREATE POLICY auditing ON {table} FOR SELECT TO CURRENT_USER
    USING ((SELECT session_user) = '{service}_auditor');
    """


def audited_answers_without_hashes(service: str) -> str:
    """The auditor sees of a request how long its hash is: of names and phones that are in it, a hash could be guessed."""
    return f"""
    REVOKE SELECT (request_hash) ON idempotency_keys FROM {service}_auditor;
    {shown_to_auditor("idempotency_keys", service)}
    CREATE VIEW audited_answers AS
    SELECT tenant_id, caller, key, status, created_at, octet_length(request_hash) AS hash_bytes FROM idempotency_keys;
    GRANT SELECT ON audited_answers TO {service}_auditor;
    """  # noqa: S608 - DDL; the service is a migration's constant


def audited_numbers(service: str) -> str:
    """Let the auditor see which number was given last."""
    return f"GRANT SELECT ON SEQUENCE audit_number TO {service}_auditor"


def cleaned(table: str, statement: str) -> str:
    """Let the owner, whom row-level security shows nothing, run `statement` on `table` of all tenants."""
    return f"""
    CREATE POLICY cleaning ON {table} TO CURRENT_USER USING (true) WITH CHECK (true);
    {statement};
    DROP POLICY cleaning ON {table};
    """
