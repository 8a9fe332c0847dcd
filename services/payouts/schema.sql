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

CREATE FUNCTION public.refuse_unbalanced_journals() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
    BEGIN
        IF EXISTS (SELECT FROM added GROUP BY tenant_id, journal_id, currency HAVING sum(amount) <> 0) THEN
            RAISE EXCEPTION 'a journal does not sum to zero' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END $$;

CREATE TABLE public.audit (
    tenant_id text NOT NULL,
    audit_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    request_id text,
    action text NOT NULL,
    subject text NOT NULL,
    before jsonb,
    after jsonb
);

ALTER TABLE ONLY public.audit FORCE ROW LEVEL SECURITY;

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

CREATE TABLE public.commission_plans (
    tenant_id text NOT NULL,
    plan_id uuid NOT NULL,
    fleet_id text,
    payee_id text,
    commission_bp integer NOT NULL,
    delay_days integer NOT NULL,
    valid_from date NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT commission_plans_check CHECK (((fleet_id IS NULL) OR (payee_id IS NULL))),
    CONSTRAINT commission_plans_commission_bp_check CHECK (((commission_bp >= 0) AND (commission_bp <= 10000))),
    CONSTRAINT commission_plans_delay_days_check CHECK (((delay_days >= 0) AND (delay_days <= 365)))
);

ALTER TABLE ONLY public.commission_plans FORCE ROW LEVEL SECURITY;

CREATE TABLE public.earnings (
    tenant_id text NOT NULL,
    earning_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    payee_id text NOT NULL,
    part integer DEFAULT 1 NOT NULL,
    fleet_id text,
    currency text NOT NULL,
    gross bigint NOT NULL,
    commission bigint NOT NULL,
    commission_bp integer NOT NULL,
    net bigint NOT NULL,
    cash_held bigint NOT NULL,
    payable bigint GENERATED ALWAYS AS ((net - cash_held)) STORED,
    paid_at timestamp with time zone NOT NULL,
    accrued_at timestamp with time zone NOT NULL,
    available_at timestamp with time zone NOT NULL,
    payout_id uuid,
    CONSTRAINT earnings_cash_held_check CHECK ((cash_held >= 0)),
    CONSTRAINT earnings_check CHECK ((gross = (commission + net))),
    CONSTRAINT earnings_commission_check CHECK ((commission >= 0)),
    CONSTRAINT earnings_gross_check CHECK ((gross >= 0))
);

ALTER TABLE ONLY public.earnings FORCE ROW LEVEL SECURITY;

CREATE TABLE public.entries (
    tenant_id text NOT NULL,
    journal_id uuid NOT NULL,
    line integer NOT NULL,
    account text NOT NULL,
    payee_id text,
    currency text NOT NULL,
    amount bigint NOT NULL,
    CONSTRAINT entries_account_check CHECK ((account = ANY (ARRAY['gateway'::text, 'suspense'::text, 'operator'::text, 'commission'::text, 'wallet'::text, 'locked'::text, 'disbursed'::text]))),
    CONSTRAINT entries_check CHECK (((payee_id IS NOT NULL) = (account = ANY (ARRAY['wallet'::text, 'locked'::text, 'disbursed'::text]))))
);

ALTER TABLE ONLY public.entries FORCE ROW LEVEL SECURITY;

CREATE TABLE public.journals (
    tenant_id text NOT NULL,
    journal_id uuid NOT NULL,
    kind text NOT NULL,
    source_id uuid NOT NULL,
    posted_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY public.journals FORCE ROW LEVEL SECURITY;

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

CREATE TABLE public.payouts (
    tenant_id text NOT NULL,
    payout_id uuid NOT NULL,
    payee_id text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    status text NOT NULL,
    reason text,
    method text,
    reference text,
    requested_by text NOT NULL,
    requested_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    disbursed_at timestamp with time zone,
    CONSTRAINT payouts_amount_check CHECK ((amount > 0)),
    CONSTRAINT payouts_status_check CHECK ((status = ANY (ARRAY['requested'::text, 'approved'::text, 'rejected'::text, 'disbursed'::text, 'failed'::text])))
);

ALTER TABLE ONLY public.payouts FORCE ROW LEVEL SECURITY;

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

CREATE TABLE public.wallets (
    tenant_id text NOT NULL,
    payee_id text NOT NULL,
    currency text NOT NULL,
    balance bigint DEFAULT 0 NOT NULL,
    locked bigint DEFAULT 0 NOT NULL,
    earned bigint DEFAULT 0 NOT NULL,
    commission bigint DEFAULT 0 NOT NULL,
    cash_held bigint DEFAULT 0 NOT NULL,
    paid bigint DEFAULT 0 NOT NULL,
    CONSTRAINT wallets_locked_check CHECK ((locked >= 0)),
    CONSTRAINT wallets_paid_check CHECK ((paid >= 0))
);

ALTER TABLE ONLY public.wallets FORCE ROW LEVEL SECURITY;

ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (tenant_id, audit_id);

ALTER TABLE ONLY public.commission_plans
    ADD CONSTRAINT commission_plans_pkey PRIMARY KEY (tenant_id, plan_id);

ALTER TABLE ONLY public.commission_plans
    ADD CONSTRAINT commission_plans_tenant_id_fleet_id_payee_id_valid_from_key UNIQUE NULLS NOT DISTINCT (tenant_id, fleet_id, payee_id, valid_from);

ALTER TABLE ONLY public.earnings
    ADD CONSTRAINT earnings_pkey PRIMARY KEY (tenant_id, earning_id);

ALTER TABLE ONLY public.earnings
    ADD CONSTRAINT earnings_tenant_id_payment_id_payee_id_part_key UNIQUE (tenant_id, payment_id, payee_id, part);

ALTER TABLE ONLY public.entries
    ADD CONSTRAINT entries_pkey PRIMARY KEY (tenant_id, journal_id, line);

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant_id, caller, key);

ALTER TABLE ONLY public.journals
    ADD CONSTRAINT journals_pkey PRIMARY KEY (tenant_id, journal_id);

ALTER TABLE ONLY public.journals
    ADD CONSTRAINT journals_tenant_id_kind_source_id_key UNIQUE (tenant_id, kind, source_id);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (tenant_id, id);

ALTER TABLE ONLY public.payouts
    ADD CONSTRAINT payouts_pkey PRIMARY KEY (tenant_id, payout_id);

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY public.wallets
    ADD CONSTRAINT wallets_pkey PRIMARY KEY (tenant_id, payee_id, currency);

CREATE INDEX audit_subject ON public.audit USING btree (tenant_id, subject, at);

CREATE INDEX earnings_free ON public.earnings USING btree (tenant_id, payee_id, currency) WHERE (payout_id IS NULL);

CREATE INDEX earnings_payout ON public.earnings USING btree (tenant_id, payout_id) WHERE (payout_id IS NOT NULL);

CREATE INDEX entries_payee ON public.entries USING btree (tenant_id, payee_id, currency, account) INCLUDE (amount) WHERE (payee_id IS NOT NULL);

CREATE INDEX idempotency_keys_age ON public.idempotency_keys USING btree (created_at);

CREATE INDEX outbox_unpublished ON public.outbox USING btree (id) WHERE (published_at IS NULL);

CREATE INDEX payouts_payee ON public.payouts USING btree (tenant_id, payee_id, requested_at DESC, payout_id DESC);

CREATE INDEX payouts_time ON public.payouts USING btree (tenant_id, requested_at DESC, payout_id DESC);

CREATE TRIGGER entries_balance AFTER INSERT ON public.entries REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_unbalanced_journals();

ALTER TABLE public.audit ENABLE ROW LEVEL SECURITY;

CREATE POLICY auditing ON public.idempotency_keys FOR SELECT TO payouts_owner USING ((( SELECT SESSION_USER AS "session_user") = 'payouts_auditor'::name));

CREATE POLICY auditor ON public.audit FOR SELECT TO payouts_auditor USING (true);

CREATE POLICY auditor ON public.commission_plans FOR SELECT TO payouts_auditor USING (true);

CREATE POLICY auditor ON public.earnings FOR SELECT TO payouts_auditor USING (true);

CREATE POLICY auditor ON public.entries FOR SELECT TO payouts_auditor USING (true);

CREATE POLICY auditor ON public.idempotency_keys FOR SELECT TO payouts_auditor USING (true);

CREATE POLICY auditor ON public.journals FOR SELECT TO payouts_auditor USING (true);

CREATE POLICY auditor ON public.outbox FOR SELECT TO payouts_auditor USING (true);

CREATE POLICY auditor ON public.payouts FOR SELECT TO payouts_auditor USING (true);

CREATE POLICY auditor ON public.tenants FOR SELECT TO payouts_auditor USING (true);

CREATE POLICY auditor ON public.wallets FOR SELECT TO payouts_auditor USING (true);

ALTER TABLE public.commission_plans ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.earnings ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.entries ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.idempotency_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.journals ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.outbox ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.payouts ENABLE ROW LEVEL SECURITY;

CREATE POLICY system ON public.idempotency_keys TO payouts_system USING (true) WITH CHECK (true);

CREATE POLICY system ON public.outbox TO payouts_system USING (true) WITH CHECK (true);

CREATE POLICY tenant ON public.audit USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.commission_plans USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.earnings USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.entries USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.idempotency_keys USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.journals USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.outbox USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.payouts USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.tenants USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.wallets USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.wallets ENABLE ROW LEVEL SECURITY;

REVOKE ALL ON FUNCTION public.answered_ids() FROM PUBLIC;
GRANT ALL ON FUNCTION public.answered_ids() TO payouts_auditor;

GRANT SELECT,INSERT ON TABLE public.audit TO payouts_app;
GRANT SELECT ON TABLE public.audit TO payouts_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.idempotency_keys TO payouts_app;
GRANT DELETE ON TABLE public.idempotency_keys TO payouts_system;

GRANT SELECT(tenant_id) ON TABLE public.idempotency_keys TO payouts_system;
GRANT SELECT(tenant_id) ON TABLE public.idempotency_keys TO payouts_auditor;

GRANT SELECT(caller) ON TABLE public.idempotency_keys TO payouts_system;
GRANT SELECT(caller) ON TABLE public.idempotency_keys TO payouts_auditor;

GRANT SELECT(key) ON TABLE public.idempotency_keys TO payouts_system;
GRANT SELECT(key) ON TABLE public.idempotency_keys TO payouts_auditor;

GRANT SELECT(status) ON TABLE public.idempotency_keys TO payouts_auditor;

GRANT SELECT(created_at) ON TABLE public.idempotency_keys TO payouts_system;
GRANT SELECT(created_at) ON TABLE public.idempotency_keys TO payouts_auditor;

GRANT SELECT ON TABLE public.audited_answers TO payouts_auditor;

GRANT SELECT,INSERT ON TABLE public.commission_plans TO payouts_app;
GRANT SELECT ON TABLE public.commission_plans TO payouts_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.earnings TO payouts_app;
GRANT SELECT ON TABLE public.earnings TO payouts_auditor;

GRANT SELECT,INSERT ON TABLE public.entries TO payouts_app;
GRANT SELECT ON TABLE public.entries TO payouts_auditor;

GRANT SELECT,INSERT ON TABLE public.journals TO payouts_app;
GRANT SELECT ON TABLE public.journals TO payouts_auditor;

GRANT SELECT,INSERT ON TABLE public.outbox TO payouts_app;
GRANT SELECT ON TABLE public.outbox TO payouts_system;
GRANT SELECT ON TABLE public.outbox TO payouts_auditor;

GRANT UPDATE(published_at) ON TABLE public.outbox TO payouts_system;

GRANT SELECT,INSERT,UPDATE ON TABLE public.payouts TO payouts_app;
GRANT SELECT ON TABLE public.payouts TO payouts_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.tenants TO payouts_app;
GRANT SELECT ON TABLE public.tenants TO payouts_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.wallets TO payouts_app;
GRANT SELECT ON TABLE public.wallets TO payouts_auditor;
