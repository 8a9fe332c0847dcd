"""A change of one row in any table, by someone with every right, is found by `takings check`.

Tables and columns come from the catalogue: a new one fails here until a change of it is found, or until it stands in UNSEEN.
"""

import json
from dataclasses import dataclass

import asyncpg
import pytest

from deploy.operations.check import comparisons
from deploy.operations.check.comparisons import compare
from deploy.operations.check.facts import FACTS
from deploy.operations.check.findings import make
from deploy.operations.check.raised import compare_alerts
from deploy.operations.check.run_checks import CHECKS, snapshots_of_all
from tests.faults.seeds import seeded
from tests.faults.sizes import LONG, size
from tests.operations.conftest import populated, world  # noqa: F401 - fixtures
from tests.operations.world import SERVICES

# ruff: noqa: S608 - the names in these statements come from the catalogue
# ruff: noqa: F811 - the fixture's name again, as pytest wants it

TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'alembic_version' ORDER BY 1
"""
COLUMNS = """
SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
KEY = """
SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = $1::text::regclass AND i.indisprimary ORDER BY array_position(i.indkey::int[], a.attnum::int)
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text AS table_name, conname FROM pg_constraint
WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace
"""
# Which row is changed, where not any would do.
ROWS = {
    "payments.requests": "tenant_id = 'amka' AND request_id = 'trip-1'",
    "payments.payments": "tenant_id = 'amka' AND transaction_id = 't-1'",
    "payments.callbacks": "payment_id = (SELECT payment_id FROM payments WHERE (tenant_id, transaction_id) = ('amka', 't-1'))",
    "payments.outbox": "tenant_id = 'amka' AND event #>> '{data,transaction_id}' = 't-1'",
    "payments.idempotency_keys": "key = 'cash-1'",
    "payments.audit": "action = 'record-payment'",
    "payouts.outbox": "event ->> 'type' = 'payout-disbursed'",
    "payouts.payouts": "status = 'disbursed'",
    "payouts.audit": "action = 'request-payout'",
    "payouts.journals": "kind = 'payout-disbursed'",
    "payouts.entries": "(journal_id, line) IN (SELECT journal_id, max(line) FROM entries GROUP BY journal_id)",
    "payouts.earnings": "payout_id IS NOT NULL AND part = 1",
    "reporting.payments": "tenant_id = 'amka' AND transaction_id = 't-1'",
    "reporting.payouts": "status = 'disbursed'",
    "reporting.daily_rollups": "tenant_id = 'amka' AND dimension = 'payee'",
    "alerts.alerts": "status = 'acknowledged'",
    "alerts.audit": "action = 'rule-changed'",
    "alerts.alert_rules": "kind = 'high_value'",
    "alerts.subject_fleets": "fleet_id IS NOT NULL",
    "alerts.deliveries": "status = 'sent'",
    "alerts.mail_queues": "waiting_since IS NOT NULL AND last_sent_at IS NULL",
}
ANOTHER_JSON = """
CASE jsonb_typeof({0}) WHEN 'array' THEN {0} || '["overpaid"]'
ELSE coalesce({0}, '{{}}') || '{{"status": "x", "amount": 7, "name": "x", "enabled": false, "KES": 7}}' END
"""
ANOTHER = {
    "text": "coalesce({0}, '') || 'x'",
    "uuid": "gen_random_uuid()",
    "bigint": "{0} + 1000000",
    "integer": "{0} + 1",
    "smallint": "{0} + 1",
    "boolean": "NOT {0}",
    "date": "coalesce({0}, '2026-03-01') + 1",
    "timestamp with time zone": "coalesce({0}, '2026-03-01') + interval '1 hour'",
    "bytea": "'other'",
    "text[]": "{0} || '{{overpaid}}'::text[]",
    "jsonb": ANOTHER_JSON,
    "json": """regexp_replace({0}::text, '"amount": ?', '"amount":1')::json""",
}
# By these columns a fault may name the row, when it stands in another table.
NAMES = {"payment_id", "payout_id", "request_id", "key", "subject", "rule_id"}
# Kept once, and nothing else says the same; or a person or a secret is in it, and the auditor may not read it.
UNSEEN: dict[str, set[str]] = {
    "payments.audit": {"audit_id", "request_id", "actor"},
    "payments.callbacks": {"callback_id", "webhook_id", "body", "doubled"},  # a gateway may call twice
    "payments.gateway_secrets": {"secret_id", "encrypted"},
    "payments.idempotency_keys": {"caller", "key", "deleted", "doubled"},  # they are forgotten after days
    "payments.outbox": {"published_at"},
    "payments.payments": {"reference", "payer_name", "payer_phone"},
    "payments.requests": {"kind", "occurred_at", "client_name", "client_phone", "reference", "content_hash", "created_at",
                          "updated_at"},
    "payouts.audit": {"audit_id", "request_id"},
    "payouts.idempotency_keys": {"caller", "key", "deleted", "doubled"},
    "payouts.outbox": {"published_at"},
    "payouts.tenants": {"updated_at"},
    "reporting.tenants": {"updated_at"},
    "alerts.audit": {"audit_id", "request_id", "actor"},
    "alerts.inbox": {"claimed_at"},  # of an event that raised nothing
    "alerts.mail_queues": {"not_before", "attempts", "last_error"},
    "alerts.tenants": {"updated_at"},
}  # fmt: skip


@dataclass
class Table:
    """A table, and the row of it that is changed."""

    conn: asyncpg.Connection
    service: str
    name: str
    columns: dict[str, str]
    key: list[str]

    @property
    def full_name(self):
        return f"{self.service}.{self.name}"

    async def row(self):
        """Where the row is now, all that is in it, and its key in words."""
        key = ", ".join(f"{column}::text" for column in self.key)
        found = await self.conn.fetchrow(
            f"SELECT ctid::text AS place, to_jsonb(t)::text AS content, array[{key}] AS key "
            f"FROM {self.name} AS t WHERE {ROWS.get(self.full_name, 'true')} ORDER BY ctid LIMIT 1"
        )
        assert found is not None, f"the world has no row for {self.full_name}"
        return found

    async def remove(self, place):
        await self.conn.execute(f"DELETE FROM {self.name} WHERE ctid = $1::text::tid", place)

    async def restore(self, content):
        names = ", ".join(self.columns)
        await self.conn.execute(
            f"INSERT INTO {self.name} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {names} FROM jsonb_populate_record(NULL::{self.name}, $1::text::jsonb)", content
        )  # fmt: skip

    async def make(self, change, place):
        """Make the change; where the row is afterwards, which is nowhere when it was deleted."""
        if change == "deleted":
            return await self.remove(place)
        if change == "doubled":
            another = {self.key[-1]: ANOTHER[self.columns[self.key[-1]]].format(self.key[-1])}
            values = ", ".join(another.get(name, name) for name in self.columns)
            return await self.conn.fetchval(
                f"INSERT INTO {self.name} ({', '.join(self.columns)}) OVERRIDING SYSTEM VALUE "
                f"SELECT {values} FROM {self.name} WHERE ctid = $1::text::tid RETURNING ctid::text", place
            )  # fmt: skip
        another = ANOTHER[self.columns[change]].format(change)
        return await self.conn.fetchval(
            f"UPDATE {self.name} SET {change} = {another} WHERE ctid = $1::text::tid RETURNING ctid::text", place
        )


async def faults_near(service):
    """What the checks find in which a table of `service` has a part: in which table, and at which key."""
    async with snapshots_of_all() as snapshots:
        outcomes = [await make(check, snapshots[service]) for check in CHECKS if check.service == service]
        for comparison in FACTS:
            if service in {comparison.kept.service, *(side.service for side in comparison.told)}:
                outcomes.append(await compare(comparison, snapshots))
        outcomes.append(await compare_alerts(snapshots))
    found = [(fault.table_name, f"{fault.key} {fault.problem}") for outcome in outcomes for fault in outcome.faults]
    return found + [("", f"{outcome.name}: {outcome.error}") for outcome in outcomes if outcome.error]


async def tables_of(conn, service):
    return [
        Table(
            conn,
            service,
            name,
            {c["name"]: c["type"] for c in await conn.fetch(COLUMNS, name)},
            [row["attname"] for row in await conn.fetch(KEY, name)],
        )
        for (name,) in await conn.fetch(TABLES)
    ]


async def unseen_changes(table, changes):
    """Those of `changes` that no check finds; each is undone."""
    unseen = set()
    for change in changes:
        row = await table.row()
        try:
            place = await table.make(change, row["place"])
        except (asyncpg.UniqueViolationError, asyncpg.GeneratedAlwaysError, asyncpg.NotNullViolationError):
            continue  # the keys do not allow it
        found = await faults_near(table.service)
        content = json.loads(row["content"])
        names = set(row["key"][1:]) | {str(content[k]) for k in NAMES & content.keys() if content[k] is not None}
        if not any(table.name == name or any(part in words for part in names) for name, words in found):
            unseen.add(change)
        if change != "deleted":
            await table.remove(place)
        if change != "doubled":
            await table.restore(row["content"])
    return unseen


@pytest.mark.timeout(900)
async def test_a_change_of_one_row_in_each_table_is_found(world, monkeypatch):
    draw = seeded("changed rows")
    monkeypatch.setattr(comparisons, "DUE", "SELECT now() + interval '1 minute'")  # nothing is on its way any more
    unseen = {}
    for service in SERVICES:
        conn = await asyncpg.connect(world.urls[service].superuser)
        await conn.execute("SET session_replication_role = replica")  # no trigger, no foreign key stands in the way
        for constraint in await conn.fetch(CONSTRAINTS):
            await conn.execute(f'ALTER TABLE {constraint["table_name"]} DROP CONSTRAINT "{constraint["conname"]}"')
        for table in await tables_of(conn, service):
            changes = ["deleted", "doubled", *table.columns]
            if not LONG:
                seen = [change for change in changes if change not in UNSEEN.get(table.full_name, set())]
                changes = draw.sample(seen, min(len(seen), size(short=3, long=0)))
            if missed := await unseen_changes(table, changes):
                unseen[table.full_name] = missed
        assert await faults_near(service) == []
        await conn.close()
    assert unseen == (UNSEEN if LONG else {})
