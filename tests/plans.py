"""What the plans of statements read: those of a use case are recorded on tables with many rows, and looked at."""

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from bench.fill import NUMBERED
from bench.place import TENANT
from shared.db import PLANS, bind_tenants

SMALL = 1_000  # rows; of a smaller table a sequential scan is the right plan
# Indexes of the few rows that are not done with.
PARTIAL = {"outbox_unpublished", "callbacks_unhandled", "mail_queues_waiting"}
BIG = "SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples >= $1 AND relnamespace = 'public'::regnamespace"
KEYS = f"""
INSERT INTO idempotency_keys (tenant_id, caller, key, request_hash, status, body, created_at)
SELECT tenant, 'someone', n::text, '\\x00', 201, '{{}}', at FROM {NUMBERED}
"""
# What the benchmarks do not fill, since the work that they measure does not read it.
MORE_PAYMENTS = {"idempotency_keys": KEYS}
MORE_PAYOUTS = {
    "idempotency_keys": KEYS,
    "wallets": f"""
        INSERT INTO wallets (tenant_id, payee_id, currency, balance, earned)
        SELECT tenant, 'payee-' || n, 'KES', amount, amount FROM {NUMBERED}
    """,
    "payouts": f"""
        INSERT INTO payouts (tenant_id, payout_id, payee_id, currency, amount, status, requested_by, requested_at, updated_at)
        SELECT tenant, id, driver, 'KES', amount, 'disbursed', driver, at, at FROM {NUMBERED}
    """,
}
MORE_REPORTING = {
    "payouts": f"""
        INSERT INTO payouts (tenant_id, payout_id, rank, event_id, status, payee_id, amount, currency, at)
        SELECT tenant, id::text, 1, id, 'requested', driver, amount, 'KES', at FROM {NUMBERED}
    """,
}
MORE_ALERTS = {
    "alerts": f"""
        INSERT INTO alerts (tenant_id, alert_id, rule_id, kind, subject, fleet_id, summary, raised_at)
        SELECT tenant, id, md5(tenant)::uuid, 'high_value', id::text, fleet, 'Much', at FROM {NUMBERED}
    """,
    "deliveries": f"""
        INSERT INTO deliveries (tenant_id, alert_id, recipient, rule_id, status, created_at)
        SELECT tenant, id, driver || '@example.com', md5(tenant)::uuid, 'failed', at FROM {NUMBERED}
    """,
    "mail_queues": f"""
        INSERT INTO mail_queues (tenant_id, rule_id, recipient, not_before)
        SELECT tenant, md5(tenant)::uuid, n || '@example.com', at FROM {NUMBERED}
    """,
    "subject_fleets": f"""
        INSERT INTO subject_fleets (tenant_id, subject, fleet_id) SELECT tenant, id::text, fleet FROM {NUMBERED}
    """,
}


@dataclass
class Seen:
    """The statements that went through a connection, with their arguments."""

    conn: Any
    statements: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    plans: list[str] = field(default_factory=list)  # of all statements, in the end

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.conn, name)
        if name not in {"fetch", "fetchrow", "fetchval", "execute"}:
            return method

        async def call(statement: str, *arguments: Any) -> Any:
            if await self.conn.fetchval("SELECT $1 ~* '^\\s*(SELECT|WITH|INSERT|UPDATE|DELETE)'", statement):
                self.statements[f"{statement} -- {len(self.statements)}"] = arguments
            return await method(statement, *arguments)

        return call


@asynccontextmanager
async def looked_at(url: str):
    """A connection as the service has it, whose statements' plans are looked at in the end; nothing is kept."""
    conn = await asyncpg.connect(url, server_settings=PLANS)
    transaction = conn.transaction()
    await transaction.start()
    try:
        await bind_tenants(conn, [TENANT])
        seen = Seen(conn)
        yield seen
        big = {row["relname"] for row in await conn.fetch(BIG, SMALL)}
        assert big
        assert seen.statements
        for statement, arguments in seen.statements.items():
            plan = json.loads(await conn.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments))[0]["Plan"]
            seen.plans.append(json.dumps(plan))
            read = scanned(plan) & big
            assert read == set(), (
                f"{read} read whole for {[len(a) for a in arguments if isinstance(a, list)][:1]}: {statement}"
            )
    finally:
        await transaction.rollback()
        await conn.close()


def scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that a plan reads from end to end, by a sequential scan or by an index without a condition."""
    by_key = "Index Cond" in plan or plan.get("Index Name") in PARTIAL
    own = plan["Node Type"] == "Seq Scan" or (plan["Node Type"] in {"Index Scan", "Index Only Scan"} and not by_key)
    below = [scanned(child) for child in plan.get("Plans", [])]
    return set().union(*below) | ({plan["Relation Name"]} if own else set())
