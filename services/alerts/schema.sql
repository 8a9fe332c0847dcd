-- Generated from the migrations by `make generate`; never edited.
CREATE TABLE public.alert_rules (
    tenant_id text NOT NULL,
    rule_id uuid NOT NULL,
    kind text NOT NULL,
    thresholds jsonb NOT NULL,
    recipients text[] NOT NULL,
    cooldown_seconds integer NOT NULL,
    enabled boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT alert_rules_cooldown_seconds_check CHECK ((cooldown_seconds >= 0)),
    CONSTRAINT alert_rules_kind_check CHECK ((kind = ANY (ARRAY['payment_failed'::text, 'high_value'::text, 'payout_failed'::text])))
);

ALTER TABLE ONLY public.alert_rules FORCE ROW LEVEL SECURITY;

CREATE TABLE public.alerts (
    tenant_id text NOT NULL,
    alert_id uuid NOT NULL,
    rule_id uuid NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    fleet_id text,
    summary text NOT NULL,
    status text DEFAULT 'open'::text NOT NULL,
    raised_at timestamp with time zone NOT NULL,
    acknowledged_at timestamp with time zone,
    acknowledged_by text,
    CONSTRAINT alerts_check CHECK (((acknowledged_at IS NOT NULL) = (status = 'acknowledged'::text))),
    CONSTRAINT alerts_status_check CHECK ((status = ANY (ARRAY['open'::text, 'acknowledged'::text])))
);

ALTER TABLE ONLY public.alerts FORCE ROW LEVEL SECURITY;

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

CREATE TABLE public.deliveries (
    tenant_id text NOT NULL,
    alert_id uuid NOT NULL,
    recipient text NOT NULL,
    rule_id uuid NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    sent_at timestamp with time zone,
    error text,
    CONSTRAINT deliveries_check CHECK (((sent_at IS NOT NULL) = (status = 'sent'::text))),
    CONSTRAINT deliveries_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'sent'::text, 'failed'::text, 'canceled'::text])))
);

ALTER TABLE ONLY public.deliveries FORCE ROW LEVEL SECURITY;

CREATE VIEW public.audited_deliveries AS
 SELECT tenant_id,
    alert_id,
    rule_id,
    status,
    created_at,
    sent_at,
    (error IS NOT NULL) AS has_error,
    "left"(encode(sha256(convert_to(recipient, 'UTF8'::name)), 'hex'::text), 12) AS recipient
   FROM public.deliveries;

CREATE TABLE public.mail_queues (
    tenant_id text NOT NULL,
    rule_id uuid NOT NULL,
    recipient text NOT NULL,
    waiting_since timestamp with time zone,
    not_before timestamp with time zone NOT NULL,
    last_sent_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text
);

ALTER TABLE ONLY public.mail_queues FORCE ROW LEVEL SECURITY;

CREATE VIEW public.audited_mail_queues AS
 SELECT tenant_id,
    rule_id,
    waiting_since,
    not_before,
    last_sent_at,
    attempts,
    last_error,
    "left"(encode(sha256(convert_to(recipient, 'UTF8'::name)), 'hex'::text), 12) AS recipient
   FROM public.mail_queues;

CREATE VIEW public.audited_rules AS
 SELECT tenant_id,
    rule_id,
    kind,
    thresholds,
    cooldown_seconds,
    enabled,
    created_at,
    updated_at,
    ( SELECT COALESCE(jsonb_agg("left"(encode(sha256(convert_to(listed.address, 'UTF8'::name)), 'hex'::text), 12) ORDER BY listed."position"), '[]'::jsonb) AS "coalesce"
           FROM unnest(alert_rules.recipients) WITH ORDINALITY listed(address, "position")) AS recipients
   FROM public.alert_rules;

CREATE TABLE public.inbox (
    tenant_id text NOT NULL,
    event_id uuid NOT NULL,
    claimed_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY public.inbox FORCE ROW LEVEL SECURITY;

CREATE TABLE public.subject_fleets (
    tenant_id text NOT NULL,
    subject text NOT NULL,
    fleet_id text
);

ALTER TABLE ONLY public.subject_fleets FORCE ROW LEVEL SECURITY;

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

ALTER TABLE ONLY public.alert_rules
    ADD CONSTRAINT alert_rules_pkey PRIMARY KEY (tenant_id, rule_id);

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (tenant_id, alert_id);

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_tenant_id_rule_id_subject_key UNIQUE (tenant_id, rule_id, subject);

ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (tenant_id, audit_id);

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (tenant_id, alert_id, recipient);

ALTER TABLE ONLY public.inbox
    ADD CONSTRAINT inbox_pkey PRIMARY KEY (tenant_id, event_id);

ALTER TABLE ONLY public.mail_queues
    ADD CONSTRAINT mail_queues_pkey PRIMARY KEY (tenant_id, rule_id, recipient);

ALTER TABLE ONLY public.subject_fleets
    ADD CONSTRAINT subject_fleets_pkey PRIMARY KEY (tenant_id, subject);

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);

CREATE INDEX alerts_newest ON public.alerts USING btree (tenant_id, raised_at, alert_id);

CREATE INDEX alerts_without_fleet ON public.alerts USING btree (tenant_id, subject) WHERE (fleet_id IS NULL);

CREATE INDEX audit_subject ON public.audit USING btree (tenant_id, subject, at);

CREATE INDEX deliveries_pending ON public.deliveries USING btree (tenant_id, rule_id, recipient, alert_id) WHERE (status = 'pending'::text);

CREATE INDEX mail_queues_waiting ON public.mail_queues USING btree (waiting_since) WHERE (waiting_since IS NOT NULL);

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_tenant_id_rule_id_fkey FOREIGN KEY (tenant_id, rule_id) REFERENCES public.alert_rules(tenant_id, rule_id);

ALTER TABLE ONLY public.mail_queues
    ADD CONSTRAINT mail_queues_tenant_id_rule_id_fkey FOREIGN KEY (tenant_id, rule_id) REFERENCES public.alert_rules(tenant_id, rule_id);

ALTER TABLE public.alert_rules ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.alerts ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.audit ENABLE ROW LEVEL SECURITY;

CREATE POLICY auditing ON public.alert_rules FOR SELECT TO alerts_owner USING ((( SELECT SESSION_USER AS "session_user") = 'alerts_auditor'::name));

CREATE POLICY auditing ON public.deliveries FOR SELECT TO alerts_owner USING ((( SELECT SESSION_USER AS "session_user") = 'alerts_auditor'::name));

CREATE POLICY auditing ON public.mail_queues FOR SELECT TO alerts_owner USING ((( SELECT SESSION_USER AS "session_user") = 'alerts_auditor'::name));

CREATE POLICY auditor ON public.alert_rules FOR SELECT TO alerts_auditor USING (true);

CREATE POLICY auditor ON public.alerts FOR SELECT TO alerts_auditor USING (true);

CREATE POLICY auditor ON public.audit FOR SELECT TO alerts_auditor USING (true);

CREATE POLICY auditor ON public.deliveries FOR SELECT TO alerts_auditor USING (true);

CREATE POLICY auditor ON public.inbox FOR SELECT TO alerts_auditor USING (true);

CREATE POLICY auditor ON public.mail_queues FOR SELECT TO alerts_auditor USING (true);

CREATE POLICY auditor ON public.subject_fleets FOR SELECT TO alerts_auditor USING (true);

CREATE POLICY auditor ON public.tenants FOR SELECT TO alerts_auditor USING (true);

ALTER TABLE public.deliveries ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.inbox ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.mail_queues ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.subject_fleets ENABLE ROW LEVEL SECURITY;

CREATE POLICY system ON public.alert_rules TO alerts_system USING (true) WITH CHECK (true);

CREATE POLICY system ON public.mail_queues TO alerts_system USING (true) WITH CHECK (true);

CREATE POLICY tenant ON public.alert_rules USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.alerts USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.audit USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.deliveries USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.inbox USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.mail_queues USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.subject_fleets USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

CREATE POLICY tenant ON public.tenants USING (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE)) WITH CHECK (((tenant_id = ANY (( SELECT string_to_array(current_setting('app.tenant'::text, true), ','::text) AS string_to_array)::text[])) IS TRUE));

ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;

GRANT SELECT,INSERT,UPDATE ON TABLE public.alert_rules TO alerts_app;

GRANT SELECT(tenant_id) ON TABLE public.alert_rules TO alerts_system;
GRANT SELECT(tenant_id) ON TABLE public.alert_rules TO alerts_auditor;

GRANT SELECT(rule_id) ON TABLE public.alert_rules TO alerts_system;
GRANT SELECT(rule_id) ON TABLE public.alert_rules TO alerts_auditor;

GRANT SELECT(kind) ON TABLE public.alert_rules TO alerts_auditor;

GRANT SELECT(thresholds) ON TABLE public.alert_rules TO alerts_auditor;

GRANT SELECT(cooldown_seconds) ON TABLE public.alert_rules TO alerts_system;
GRANT SELECT(cooldown_seconds) ON TABLE public.alert_rules TO alerts_auditor;

GRANT SELECT(enabled) ON TABLE public.alert_rules TO alerts_auditor;

GRANT SELECT(created_at) ON TABLE public.alert_rules TO alerts_auditor;

GRANT SELECT(updated_at) ON TABLE public.alert_rules TO alerts_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.alerts TO alerts_app;
GRANT SELECT ON TABLE public.alerts TO alerts_auditor;

GRANT SELECT,INSERT ON TABLE public.audit TO alerts_app;
GRANT SELECT ON TABLE public.audit TO alerts_auditor;

GRANT USAGE ON SEQUENCE public.audit_number TO alerts_app;
GRANT SELECT ON SEQUENCE public.audit_number TO alerts_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.deliveries TO alerts_app;

GRANT SELECT(tenant_id) ON TABLE public.deliveries TO alerts_auditor;

GRANT SELECT(alert_id) ON TABLE public.deliveries TO alerts_auditor;

GRANT SELECT(rule_id) ON TABLE public.deliveries TO alerts_auditor;

GRANT SELECT(status) ON TABLE public.deliveries TO alerts_auditor;

GRANT SELECT(created_at) ON TABLE public.deliveries TO alerts_auditor;

GRANT SELECT(sent_at) ON TABLE public.deliveries TO alerts_auditor;

GRANT SELECT ON TABLE public.audited_deliveries TO alerts_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.mail_queues TO alerts_app;
GRANT SELECT ON TABLE public.mail_queues TO alerts_system;

GRANT SELECT(tenant_id) ON TABLE public.mail_queues TO alerts_auditor;

GRANT SELECT(rule_id) ON TABLE public.mail_queues TO alerts_auditor;

GRANT SELECT(waiting_since) ON TABLE public.mail_queues TO alerts_auditor;

GRANT UPDATE(not_before) ON TABLE public.mail_queues TO alerts_system;
GRANT SELECT(not_before) ON TABLE public.mail_queues TO alerts_auditor;

GRANT SELECT(last_sent_at) ON TABLE public.mail_queues TO alerts_auditor;

GRANT SELECT(attempts) ON TABLE public.mail_queues TO alerts_auditor;

GRANT SELECT(last_error) ON TABLE public.mail_queues TO alerts_auditor;

GRANT SELECT ON TABLE public.audited_mail_queues TO alerts_auditor;

GRANT SELECT ON TABLE public.audited_rules TO alerts_auditor;

GRANT SELECT,INSERT ON TABLE public.inbox TO alerts_app;
GRANT SELECT ON TABLE public.inbox TO alerts_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.subject_fleets TO alerts_app;
GRANT SELECT ON TABLE public.subject_fleets TO alerts_auditor;

GRANT SELECT,INSERT,UPDATE ON TABLE public.tenants TO alerts_app;
GRANT SELECT ON TABLE public.tenants TO alerts_auditor;
