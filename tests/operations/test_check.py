"""`takings check` holds on live data, gives no false alarm under traffic, and says what is wrong."""

import asyncio
import json
import sys
from datetime import timedelta

import asyncpg
import pytest
from cryptography.fernet import Fernet

from deploy.operations.check.alerts import ALERTS_MAILED
from deploy.operations.check.run_checks import lines_of, run_checks
from services.alerts.models import Kind, RuleTerms
from services.payments.gateway_accounts import Vault, rotate_secret
from shared.audit import Actor
from tests.conftest import connected
from tests.operations.world import BOSS, CLERK, ZONES, utc_now


async def test_a_world_that_the_services_made_holds(world):
    outcomes = await run_checks()
    assert [outcome for outcome in outcomes if not outcome.is_held] == [], "\n".join(lines_of(outcomes))


async def takings(*arguments):
    """Status and output of the command in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.cli", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode() + errors.decode()


async def test_the_commands_say_what_is_wrong_and_what_they_did(world):
    status, said = await takings("check")
    assert (status, said.splitlines()[-1]) == (0, f"all {said.count('held ')} checks held")
    async with connected(world.urls["reporting"].superuser) as conn:
        await conn.execute(
            "UPDATE daily_rollups SET revenue = revenue + 1 WHERE (tenant_id, dimension, currency) = ('windy', 'total', 'USD')"
        )
    status, said = await takings("check", "--json")
    report = json.loads(said)
    wrong = [check for check in report["checks"] if check["faults"] or check["error"]]
    assert (status, report["held"], [check["name"] for check in wrong]) == (1, False, ["roll-ups"])
    fault = wrong[0]["faults"][0]
    assert fault[:2] == ["windy", "daily_rollups"]
    assert "total USD" in fault[2]
    assert "revenue is" in fault[3]
    status, said = await takings("rebuild", "reporting", "--dry-run")
    assert (status, "daily_rollups: 1 rows differed" in said) == (1, True)
    status, said = await takings("rebuild", "reporting")
    assert (status, "the new tables are in place" in said) == (0, True)
    assert (await takings("check"))[0] == 0


async def test_a_service_that_is_away_is_one_clear_line(world, monkeypatch):
    monkeypatch.setenv("ALERTS_AUDITOR_DATABASE_URL", "postgresql://alerts_auditor:x@127.0.0.1:1/alerts")
    status, said = await takings("check")
    assert status == 1
    assert said.startswith("takings: cannot reach the database of alerts as its auditor:")


async def test_the_auditor_knows_addresses_by_their_fingerprints_only(world):
    async with connected(world.urls["alerts"].auditor, *ZONES) as conn:
        for view in ("audited_rules", "audited_deliveries", "audited_mail_queues"):
            rows = await conn.fetch(f"SELECT to_jsonb(v)::text AS row FROM {view} AS v")  # noqa: S608 - of constants
            assert rows, view
            assert [row["row"] for row in rows if "@" in row["row"]] == []
    async with connected(world.urls["alerts"].app, *ZONES) as conn:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.fetch("SELECT * FROM audited_rules")


async def test_changes_stand_in_the_order_of_the_database_when_clocks_differ(world):
    """Two processes change a rule and rotate a secret, the second one's clock behind the first one's."""
    rule = await world.rule("amka", "high_value", BOSS, KES=9_000)
    now = utc_now()
    for recipients, minutes_ago in ((BOSS, CLERK), 20), ((CLERK,), 25):
        terms = RuleTerms(Kind.HIGH_VALUE, {"KES": 8_000}, recipients, 0, True)
        await world.change("amka", rule, terms, at=now - timedelta(minutes=minutes_ago))
    await world.request("amka", "high", 9_500)
    await world.callback("amka", request_id="high", amount=9_500)
    await world.deliver()

    async def rotate(conn):
        vault = Vault(Fernet.generate_key().decode())
        await rotate_secret(conn, vault, tenant_id="amka", account_id=world.accounts["amka"][0], actor=Actor("boss"),
                            now=now - timedelta(minutes=10))  # fmt: skip

    await world.running["payments"].service.db.run(rotate, "amka")
    assert [outcome for outcome in await run_checks() if not outcome.is_held] == []


MANY_RULES = """
INSERT INTO audit (tenant_id, audit_id, at, actor, action, subject, after)
SELECT 'amka', gen_random_uuid(), now(), 'x', 'rule-created', gen_random_uuid()::text, '{"recipients": []}'
FROM generate_series(1, 500)
"""
MANY_ALERTS = """
INSERT INTO alerts (tenant_id, alert_id, rule_id, kind, subject, summary, raised_at)
SELECT 'amka', gen_random_uuid(), rule_id, kind, n::text, 'x', now()
FROM generate_series(1, 500) AS n, (SELECT rule_id, kind FROM alert_rules WHERE tenant_id = 'amka' LIMIT 1) AS any_rule
"""


def times_read(plan, table):
    """How often a plan has read a table."""
    own = plan["Actual Loops"] if plan.get("Relation Name") == table else 0
    return own + sum(times_read(child, table) for child in plan.get("Plans", []))


async def test_mails_are_held_against_rules_that_are_read_once(world):
    async with connected(world.urls["alerts"].superuser) as conn:
        await conn.execute(f"{MANY_RULES}; {MANY_ALERTS}; ANALYZE")
    async with connected(world.urls["alerts"].auditor, *ZONES) as conn:
        plan = json.loads(await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {ALERTS_MAILED}"))[0]["Plan"]
    assert times_read(plan, "audit") == 1


KEEP_ALONE = """
UPDATE callbacks SET handled_at = NULL, payment_id = NULL, attempts = 1, retry_at = now(), error = 'no'
WHERE callback_id = (SELECT max(callback_id::text)::uuid FROM callbacks)
"""


async def failing():
    return {outcome.name for outcome in await run_checks() if not outcome.is_held}


async def test_what_is_on_its_way_is_a_fault_after_a_minute(world):
    await world.request("amka", "slow-boat", 6_000)
    await world.callback("amka", request_id="slow-boat", amount=6_000)
    await world.callback("amka", kind="failed", amount=6_000)
    async with connected(world.urls["payments"].superuser) as payments:
        await payments.execute(KEEP_ALONE)
        assert await failing() == {"payments called"}
        await payments.execute(
            "UPDATE outbox SET created_at = created_at - interval '1 hour' WHERE published_at IS NULL"
        )
        await payments.execute(
            "UPDATE callbacks SET received_at = received_at - interval '1 hour' WHERE handled_at IS NULL"
        )
        late = {"published", "callbacks handled", "payment facts", "earnings made", "journals posted", "events seen"}
        assert late <= await failing()
        await payments.execute(
            "UPDATE outbox SET created_at = created_at + interval '1 hour' WHERE published_at IS NULL"
        )
    await world.deliver()
    assert await failing() == {"payments called", "callbacks handled"}
