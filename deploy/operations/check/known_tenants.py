"""Every row is of a tenant that its service knows: what goes tenant by tenant would not see any other."""

from deploy.operations.check.findings import Check

KNOWN = """
SELECT tenant_id, table_name, 'every row' AS key, jsonb_build_object('tenant', tenant_id) AS has,
       jsonb_build_object('tenant', NULL) AS should
FROM ({seen}) AS seen LEFT JOIN tenants USING (tenant_id) WHERE tenants.tenant_id IS NULL
ORDER BY tenant_id, table_name
"""
SEEN = "SELECT DISTINCT tenant_id, '{table}' AS table_name FROM {table}"
TABLES = {
    "payments": ("gateway_accounts", "gateway_secrets", "requests", "payments", "callbacks", "outbox", "audit",
                 "idempotency_keys"),
    "payouts": ("commission_plans", "earnings", "payouts", "wallets", "journals", "entries", "outbox", "audit",
                "idempotency_keys"),
    "reporting": ("payments", "earnings", "payouts", "daily_rollups", "payee_balances"),
    "alerts": ("alert_rules", "alerts", "deliveries", "mail_queues", "subject_fleets", "inbox", "audit"),
}  # fmt: skip


def _check(service: str) -> Check:
    seen = " UNION ALL ".join(SEEN.format(table=table) for table in TABLES[service])
    return Check(service, "tenants known", "every row is of a tenant that is known", KNOWN.format(seen=seen))


CHECKS = tuple(_check(service) for service in TABLES)
