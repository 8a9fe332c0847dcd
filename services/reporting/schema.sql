-- Generated from the migrations by `make generate`; never edited.
CREATE TABLE public.daily_rollups (
    tenant_id text NOT NULL,
    currency text NOT NULL,
    dimension text NOT NULL,
    day date NOT NULL,
    member text NOT NULL,
    revenue bigint NOT NULL,
    payments bigint NOT NULL,
    fees bigint NOT NULL,
    earnings bigint NOT NULL,
    commission bigint NOT NULL,
    cash_held bigint NOT NULL,
    payouts bigint NOT NULL,
    refunds bigint DEFAULT 0 NOT NULL,
    costs bigint DEFAULT 0 NOT NULL,
    CONSTRAINT daily_rollups_dimension_check CHECK ((dimension = ANY (ARRAY['total'::text, 'fleet'::text, 'route'::text, 'vehicle'::text, 'payee'::text, 'method'::text])))
);

ALTER TABLE ONLY public.daily_rollups FORCE ROW LEVEL SECURITY;

CREATE TABLE public.earnings (
    tenant_id text NOT NULL,
    earning_id text NOT NULL,
    payment_id text NOT NULL,
    payee_id text NOT NULL,
    fleet_id text,
    currency text NOT NULL,
    gross bigint NOT NULL,
    commission bigint NOT NULL,
    amount bigint NOT NULL,
    cash_held bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    day date NOT NULL,
    CONSTRAINT earnings_check CHECK (((amount + commission) = gross)),
    CONSTRAINT earnings_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
);

ALTER TABLE ONLY public.earnings FORCE ROW LEVEL SECURITY;

CREATE TABLE public.payee_balances (
    tenant_id text NOT NULL,
    currency text NOT NULL,
    payee_id text NOT NULL,
    earned bigint NOT NULL,
    cash_held bigint NOT NULL,
    disbursed bigint NOT NULL
);

ALTER TABLE ONLY public.payee_balances FORCE ROW LEVEL SECURITY;

CREATE TABLE public.payments (
    tenant_id text NOT NULL,
    payment_id text NOT NULL,
    rank smallint NOT NULL,
    event_id uuid NOT NULL,
    status text NOT NULL,
    request_id text,
    transaction_id text NOT NULL,
    client_id text,
    amount bigint NOT NULL,
    applied bigint NOT NULL,
    fee bigint NOT NULL,
    currency text NOT NULL,
    method text NOT NULL,
    at timestamp with time zone NOT NULL,
    day date NOT NULL,
    fleet_id text,
    route_id text,
    vehicle_id text,
    platform text,
    payees jsonb NOT NULL,
    flags jsonb NOT NULL,
    CONSTRAINT payments_amount_check CHECK ((amount >= 0)),
    CONSTRAINT payments_check CHECK (((applied >= 0) AND (applied <= amount))),
    CONSTRAINT payments_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT payments_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'failed'::text, 'completed'::text])))
);

ALTER TABLE ONLY public.payments FORCE ROW LEVEL SECURITY;

CREATE TABLE public.payouts (
    tenant_id text NOT NULL,
    payout_id text NOT NULL,
    rank smallint NOT NULL,
    event_id uuid NOT NULL,
    status text NOT NULL,
    payee_id text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    at timestamp with time zone NOT NULL,
    disbursed_on date,
    method text,
    reference text,
    reason text,
    CONSTRAINT payouts_amount_check CHECK ((amount >= 0)),
    CONSTRAINT payouts_check CHECK (((disbursed_on IS NOT NULL) = (status = 'disbursed'::text))),
    CONSTRAINT payouts_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT payouts_status_check CHECK ((status = ANY (ARRAY['requested'::text, 'approved'::text, 'disbursed'::text, 'rejected'::text, 'failed'::text])))
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

ALTER TABLE ONLY public.daily_rollups
    ADD CONSTRAINT daily_rollups_pkey PRIMARY KEY (tenant_id, currency, dimension, day, member);

ALTER TABLE ONLY public.earnings
    ADD CONSTRAINT earnings_pkey PRIMARY KEY (tenant_id, earning_id);

ALTER TABLE ONLY public.payee_balances
    ADD CONSTRAINT payee_balances_pkey PRIMARY KEY (tenant_id, currency, payee_id);

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (tenant_id, payment_id);

ALTER TABLE ONLY public.payouts
    ADD CONSTRAINT payouts_pkey PRIMARY KEY (tenant_id, payout_id);

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);

CREATE INDEX payments_history ON public.payments USING btree (tenant_id, at, payment_id);

CREATE INDEX payouts_history ON public.payouts USING btree (tenant_id, at, payout_id);

CREATE POLICY auditor ON public.daily_rollups FOR SELECT TO reporting_auditor USING (true);

CREATE POLICY auditor ON public.earnings FOR SELECT TO reporting_auditor USING (true);

CREATE POLICY auditor ON public.payee_balances FOR SELECT TO reporting_auditor USING (true);

CREATE POLICY auditor ON public.payments FOR SELECT TO reporting_auditor USING (true);

CREATE POLICY auditor ON public.payouts FOR SELECT TO reporting_auditor USING (true);

CREATE POLICY auditor ON public.tenants FOR SELECT TO reporting_auditor USING (true);

ALTER TABLE public.daily_rollups ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.earnings ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.payee_balances ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.payments ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.payouts ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON public.daily_rollups USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.earnings USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.payee_balances USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.payments USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.payouts USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.tenants USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.daily_rollups TO reporting_app;
GRANT SELECT ON TABLE public.daily_rollups TO reporting_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.earnings TO reporting_app;
GRANT SELECT ON TABLE public.earnings TO reporting_auditor;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payee_balances TO reporting_app;
GRANT SELECT ON TABLE public.payee_balances TO reporting_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.payments TO reporting_app;
GRANT SELECT ON TABLE public.payments TO reporting_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.payouts TO reporting_app;
GRANT SELECT ON TABLE public.payouts TO reporting_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.tenants TO reporting_app;
GRANT SELECT ON TABLE public.tenants TO reporting_auditor;
