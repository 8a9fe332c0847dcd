-- Generated from the migrations by `make generate`; never edited.
CREATE FUNCTION public.answered_ids() RETURNS TABLE(tenant_id text, caller text, key text, id text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
        SELECT tenant_id, caller, key, named.id
        FROM idempotency_keys, LATERAL (
            SELECT CASE substring(body FROM 1 FOR 1) WHEN '{' THEN convert_from(body, 'UTF8')::jsonb
                                                     ELSE '{"id": "unreadable"}' END AS answer
        ) AS kept, LATERAL (
            SELECT answer ->> 'id' AS id
            UNION ALL
            SELECT item ->> 'id'
            FROM jsonb_array_elements(CASE WHEN answer ? 'results' THEN answer -> 'results' ELSE '[]' END) AS item
        ) AS named
        WHERE status < 300 AND named.id IS NOT NULL
    $$;

CREATE TABLE public.audit (
    tenant_id text NOT NULL,
    audit_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    request_id text,
    action text NOT NULL,
    subject text NOT NULL,
    before jsonb,
    after jsonb,
    number bigint
);

ALTER TABLE ONLY public.audit FORCE ROW LEVEL SECURITY;

CREATE SEQUENCE public.audit_number
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.audit_number OWNED BY public.audit.number;

CREATE TABLE public.idempotency_keys (
    tenant_id text NOT NULL,
    caller text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    status integer,
    body bytea,
    created_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY public.idempotency_keys FORCE ROW LEVEL SECURITY;

CREATE VIEW public.audited_answers AS
 SELECT tenant_id,
    caller,
    key,
    status,
    created_at,
    octet_length(request_hash) AS hash_bytes
   FROM public.idempotency_keys;

CREATE TABLE public.callbacks (
    tenant_id text NOT NULL,
    callback_id uuid NOT NULL,
    account_id text NOT NULL,
    webhook_id text NOT NULL,
    body bytea NOT NULL,
    received_at timestamp with time zone NOT NULL,
    payment_id uuid,
    handled_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    retry_at timestamp with time zone,
    error text
);

ALTER TABLE ONLY public.callbacks FORCE ROW LEVEL SECURITY;

CREATE TABLE public.gateway_accounts (
    tenant_id text NOT NULL,
    account_id text NOT NULL,
    gateway text NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY public.gateway_accounts FORCE ROW LEVEL SECURITY;

CREATE TABLE public.gateway_secrets (
    tenant_id text NOT NULL,
    account_id text NOT NULL,
    secret_id uuid NOT NULL,
    encrypted bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone
);

ALTER TABLE ONLY public.gateway_secrets FORCE ROW LEVEL SECURITY;

CREATE TABLE public.outbox (
    tenant_id text NOT NULL,
    id bigint NOT NULL,
    event_id uuid NOT NULL,
    topic text NOT NULL,
    key text NOT NULL,
    event json NOT NULL,
    created_at timestamp with time zone NOT NULL,
    published_at timestamp with time zone
);

ALTER TABLE ONLY public.outbox FORCE ROW LEVEL SECURITY;

ALTER TABLE public.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.payments (
    tenant_id text NOT NULL,
    payment_id uuid NOT NULL,
    account_id text NOT NULL,
    transaction_id text NOT NULL,
    request_id text,
    status text NOT NULL,
    flags text[] DEFAULT '{}'::text[] NOT NULL,
    amount bigint NOT NULL,
    applied bigint DEFAULT 0 NOT NULL,
    fee bigint DEFAULT 0 NOT NULL,
    currency text NOT NULL,
    method text NOT NULL,
    paid_at timestamp with time zone NOT NULL,
    reference text,
    payer_name text,
    payer_phone text,
    failure_code text,
    failure_text text,
    client_id text,
    fleet_id text,
    route_id text,
    vehicle_id text,
    platform text,
    payees jsonb DEFAULT '[]'::jsonb NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT payments_amount_check CHECK ((amount > 0)),
    CONSTRAINT payments_check CHECK (((applied >= 0) AND (applied <= amount))),
    CONSTRAINT payments_failure_check CHECK (((status = 'failed'::text) OR ((failure_code IS NULL) AND (failure_text IS NULL)))),
    CONSTRAINT payments_fee_check CHECK ((fee >= 0)),
    CONSTRAINT payments_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'completed'::text, 'failed'::text])))
);

ALTER TABLE ONLY public.payments FORCE ROW LEVEL SECURITY;

CREATE TABLE public.requests (
    tenant_id text NOT NULL,
    request_id text NOT NULL,
    status text NOT NULL,
    flags text[] DEFAULT '{}'::text[] NOT NULL,
    kind text,
    amount bigint,
    paid bigint DEFAULT 0 NOT NULL,
    currency text,
    occurred_at timestamp with time zone,
    client_id text,
    client_name text,
    client_phone text,
    fleet_id text,
    route_id text,
    vehicle_id text,
    platform text,
    payees jsonb,
    reference text,
    content_hash bytea,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT requests_amount_check CHECK ((amount >= 0)),
    CONSTRAINT requests_check CHECK (((status = 'awaited'::text) OR ((kind IS NOT NULL) AND (amount IS NOT NULL) AND (currency IS NOT NULL) AND (occurred_at IS NOT NULL) AND (client_id IS NOT NULL) AND (fleet_id IS NOT NULL) AND (payees IS NOT NULL) AND (content_hash IS NOT NULL)))),
    CONSTRAINT requests_paid_check CHECK ((paid >= 0)),
    CONSTRAINT requests_status_check CHECK ((status = ANY (ARRAY['awaited'::text, 'pending_payment'::text, 'partially_paid'::text, 'completed'::text, 'canceled'::text])))
)
WITH (fillfactor='70');

ALTER TABLE ONLY public.requests FORCE ROW LEVEL SECURITY;

CREATE TABLE public.tenants (
    tenant_id text NOT NULL,
    name text NOT NULL,
    time_zone text NOT NULL,
    currency text NOT NULL,
    version bigint NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT tenants_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
);

ALTER TABLE ONLY public.tenants FORCE ROW LEVEL SECURITY;

ALTER TABLE ONLY public.audit ALTER COLUMN number SET DEFAULT nextval('public.audit_number'::regclass);

ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (tenant_id, audit_id);

ALTER TABLE ONLY public.callbacks
    ADD CONSTRAINT callbacks_pkey PRIMARY KEY (tenant_id, callback_id);

ALTER TABLE ONLY public.gateway_accounts
    ADD CONSTRAINT gateway_accounts_pkey PRIMARY KEY (tenant_id, account_id);

ALTER TABLE ONLY public.gateway_secrets
    ADD CONSTRAINT gateway_secrets_pkey PRIMARY KEY (tenant_id, account_id, secret_id);

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant_id, caller, key);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (tenant_id, id);

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (tenant_id, payment_id);

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_tenant_id_account_id_transaction_id_key UNIQUE (tenant_id, account_id, transaction_id);

ALTER TABLE ONLY public.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (tenant_id, request_id);

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);

CREATE INDEX audit_subject ON public.audit USING btree (tenant_id, subject, at);

CREATE INDEX callbacks_unhandled ON public.callbacks USING btree (retry_at) WHERE (handled_at IS NULL);

CREATE INDEX idempotency_keys_age ON public.idempotency_keys USING btree (created_at);

CREATE INDEX outbox_unpublished ON public.outbox USING btree (id) WHERE (published_at IS NULL);

CREATE INDEX payments_client ON public.payments USING btree (tenant_id, client_id, paid_at DESC, payment_id DESC);

CREATE INDEX payments_fleet ON public.payments USING btree (tenant_id, fleet_id, paid_at DESC, payment_id DESC);

CREATE INDEX payments_open ON public.payments USING btree (tenant_id, status, paid_at DESC, payment_id DESC) WHERE (status <> 'completed'::text);

CREATE INDEX payments_route ON public.payments USING btree (tenant_id, route_id, paid_at DESC, payment_id DESC);

CREATE INDEX payments_time ON public.payments USING btree (tenant_id, paid_at DESC, payment_id DESC);

CREATE INDEX payments_unmatched ON public.payments USING btree (tenant_id, request_id) WHERE (flags @> '{unmatched}'::text[]);

CREATE INDEX payments_vehicle ON public.payments USING btree (tenant_id, vehicle_id, paid_at DESC, payment_id DESC);

ALTER TABLE ONLY public.gateway_secrets
    ADD CONSTRAINT gateway_secrets_tenant_id_account_id_fkey FOREIGN KEY (tenant_id, account_id) REFERENCES public.gateway_accounts(tenant_id, account_id);

ALTER TABLE public.audit ENABLE ROW LEVEL SECURITY;

CREATE POLICY auditing ON public.idempotency_keys FOR SELECT TO payments_owner USING ((( SELECT SESSION_USER AS "session_user") = 'payments_auditor'::name));

CREATE POLICY auditor ON public.audit FOR SELECT TO payments_auditor USING (true);

CREATE POLICY auditor ON public.callbacks FOR SELECT TO payments_auditor USING (true);

CREATE POLICY auditor ON public.gateway_accounts FOR SELECT TO payments_auditor USING (true);

CREATE POLICY auditor ON public.gateway_secrets FOR SELECT TO payments_auditor USING (true);

CREATE POLICY auditor ON public.idempotency_keys FOR SELECT TO payments_auditor USING (true);

CREATE POLICY auditor ON public.outbox FOR SELECT TO payments_auditor USING (true);

CREATE POLICY auditor ON public.payments FOR SELECT TO payments_auditor USING (true);

CREATE POLICY auditor ON public.requests FOR SELECT TO payments_auditor USING (true);

CREATE POLICY auditor ON public.tenants FOR SELECT TO payments_auditor USING (true);

ALTER TABLE public.callbacks ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.gateway_accounts ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.gateway_secrets ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.idempotency_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.outbox ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.payments ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.requests ENABLE ROW LEVEL SECURITY;

CREATE POLICY system ON public.callbacks TO payments_system USING (true) WITH CHECK (true);

CREATE POLICY system ON public.idempotency_keys TO payments_system USING (true) WITH CHECK (true);

CREATE POLICY system ON public.outbox TO payments_system USING (true) WITH CHECK (true);

CREATE POLICY tenant ON public.audit USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.callbacks USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.gateway_accounts USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.gateway_secrets USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.idempotency_keys USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.outbox USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.payments USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.requests USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.tenants USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;

REVOKE ALL ON FUNCTION public.answered_ids() FROM PUBLIC;
GRANT ALL ON FUNCTION public.answered_ids() TO payments_auditor;

GRANT SELECT,INSERT ON TABLE public.audit TO payments_app;
GRANT SELECT ON TABLE public.audit TO payments_auditor;

GRANT USAGE ON SEQUENCE public.audit_number TO payments_app;
GRANT SELECT ON SEQUENCE public.audit_number TO payments_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.idempotency_keys TO payments_app;
GRANT DELETE ON TABLE public.idempotency_keys TO payments_system;

GRANT SELECT(tenant_id) ON TABLE public.idempotency_keys TO payments_system;
GRANT SELECT(tenant_id) ON TABLE public.idempotency_keys TO payments_auditor;

GRANT SELECT(caller) ON TABLE public.idempotency_keys TO payments_system;
GRANT SELECT(caller) ON TABLE public.idempotency_keys TO payments_auditor;

GRANT SELECT(key) ON TABLE public.idempotency_keys TO payments_system;
GRANT SELECT(key) ON TABLE public.idempotency_keys TO payments_auditor;

GRANT SELECT(status) ON TABLE public.idempotency_keys TO payments_auditor;

GRANT SELECT(created_at) ON TABLE public.idempotency_keys TO payments_system;
GRANT SELECT(created_at) ON TABLE public.idempotency_keys TO payments_auditor;

GRANT SELECT ON TABLE public.audited_answers TO payments_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.callbacks TO payments_app;

GRANT SELECT(tenant_id) ON TABLE public.callbacks TO payments_system;
GRANT SELECT(tenant_id) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT(callback_id) ON TABLE public.callbacks TO payments_system;
GRANT SELECT(callback_id) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT(account_id) ON TABLE public.callbacks TO payments_system;
GRANT SELECT(account_id) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT(webhook_id) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT(received_at) ON TABLE public.callbacks TO payments_system;
GRANT SELECT(received_at) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT(payment_id) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT(handled_at) ON TABLE public.callbacks TO payments_system;
GRANT SELECT(handled_at) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT(attempts) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT(retry_at) ON TABLE public.callbacks TO payments_system;
GRANT SELECT(retry_at) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT(error) ON TABLE public.callbacks TO payments_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.gateway_accounts TO payments_app;
GRANT SELECT ON TABLE public.gateway_accounts TO payments_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.gateway_secrets TO payments_app;

GRANT SELECT(tenant_id) ON TABLE public.gateway_secrets TO payments_auditor;

GRANT SELECT(account_id) ON TABLE public.gateway_secrets TO payments_auditor;

GRANT SELECT(secret_id) ON TABLE public.gateway_secrets TO payments_auditor;

GRANT SELECT(created_at) ON TABLE public.gateway_secrets TO payments_auditor;

GRANT SELECT(expires_at) ON TABLE public.gateway_secrets TO payments_auditor;

GRANT SELECT,INSERT ON TABLE public.outbox TO payments_app;
GRANT SELECT ON TABLE public.outbox TO payments_system;
GRANT SELECT ON TABLE public.outbox TO payments_auditor;

GRANT UPDATE(published_at) ON TABLE public.outbox TO payments_system;

GRANT SELECT,INSERT,UPDATE ON TABLE public.payments TO payments_app;

GRANT SELECT(tenant_id) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(payment_id) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(account_id) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(transaction_id) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(request_id) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(status) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(flags) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(amount) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(applied) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(fee) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(currency) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(method) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(paid_at) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(reference) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(failure_code) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(failure_text) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(client_id) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(fleet_id) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(route_id) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(vehicle_id) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(platform) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(payees) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(recorded_at) ON TABLE public.payments TO payments_auditor;

GRANT SELECT(updated_at) ON TABLE public.payments TO payments_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.requests TO payments_app;

GRANT SELECT(tenant_id) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(request_id) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(status) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(flags) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(kind) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(amount) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(paid) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(currency) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(occurred_at) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(client_id) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(fleet_id) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(route_id) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(vehicle_id) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(platform) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(payees) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(reference) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(created_at) ON TABLE public.requests TO payments_auditor;

GRANT SELECT(updated_at) ON TABLE public.requests TO payments_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.tenants TO payments_app;
GRANT SELECT ON TABLE public.tenants TO payments_auditor;
