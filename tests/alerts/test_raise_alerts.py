"""Alerts are stored once per rule and subject, and a replay never fires a newer rule; on real PostgreSQL."""

import asyncio

import pytest

from services.alerts import acknowledge_alert, change_rule, create_rule, queries, raise_alerts, send_mails
from services.alerts.create_rule import TooManyRules
from shared.errors import Invalid, NotFound
from shared.migrations import upgrade
from tests.alerts.calls import BOSS, NOW, completed, failed, matched, payout_failed, terms
from tests.conftest import connected, until

TABLES = ("alert_rules", "alerts", "subject_fleets", "deliveries", "mail_queues", "inbox", "audit", "tenants")
SUBJECTS = "SELECT kind, subject, fleet_id FROM alerts ORDER BY kind, subject"


async def test_each_rule_raises_an_alert_once_per_subject(alerts):
    await alerts.rule("payment_failed")
    await alerts.rule("high_value", KES=100_000)
    await alerts.rule("payout_failed")
    new = await alerts.raised(failed("p1"), failed("p1"), completed("p2"), payout_failed(), completed("p3", amount=1))
    assert len(new) == 3
    assert await alerts.raised(failed("p1"), completed("p2")) == []
    assert await alerts.rows(SUBJECTS) == [
        ("high_value", "p2", "f1"),
        ("payment_failed", "p1", "f1"),
        ("payout_failed", "o1", None),
    ]


async def test_two_rules_of_a_kind_raise_an_alert_each(alerts):
    await alerts.rule("high_value", KES=1)
    await alerts.rule("high_value", KES=2)
    assert len(await alerts.raised(completed())) == 2


async def test_a_replay_never_fires_a_newer_rule(alerts):
    event = failed()
    await alerts.raised(event)
    await alerts.rule("payment_failed")
    assert await alerts.raised(event) == []
    assert await alerts.rows(SUBJECTS) == []


async def test_rules_fire_for_their_own_tenant_only(alerts):
    await alerts.rule("payment_failed", tenant="other")
    assert [a.tenant_id for a in await alerts.raised(failed("p1"), failed("p1", tenant="other"))] == ["other"]
    assert await alerts.rows(SUBJECTS, "acme") == []


async def test_a_disabled_rule_raises_nothing(alerts):
    await alerts.rule("payment_failed", enabled=False)
    assert await alerts.raised(failed()) == []


async def test_the_fleet_of_unmatched_money_is_named_when_it_is_known(alerts):
    await alerts.rule("high_value", KES=1)
    await alerts.raised(completed(fleet_id=None, request_id=None))
    await alerts.raised(matched(fleet_id="f2"))
    assert await alerts.rows(SUBJECTS) == [("high_value", "p1", "f2")]


UNNAMED = {"fleet_id": None, "request_id": None}
ORDERS = [(completed, matched), (matched, completed)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_money_and_its_match_end_the_same_in_any_order(alerts, order, in_one_batch):
    await alerts.rule("high_value", KES=1)
    events = [kind(**(UNNAMED if kind is completed else {"fleet_id": "f2"})) for kind in order]
    other = completed("p2", **UNNAMED)  # never matched
    for batch in [[*events, other]] if in_one_batch else [[event] for event in (*events, other)]:
        await alerts.raised(*batch)
    assert await alerts.rows(SUBJECTS) == [("high_value", "p1", "f2"), ("high_value", "p2", None)]


async def test_a_match_names_the_alerts_of_its_own_tenant_only(alerts):
    await alerts.rule("high_value", KES=1)
    await alerts.raised(matched(tenant="other", fleet_id="f2"), completed(**UNNAMED))
    assert await alerts.rows(SUBJECTS) == [("high_value", "p1", None)]


@pytest.mark.parametrize("order", ORDERS)
async def test_a_match_waits_for_its_money_in_a_batch_that_is_not_committed_yet(alerts, order):
    await alerts.rule("high_value", KES=1)
    first, second = (kind(**(UNNAMED if kind is completed else {"fleet_id": "f2"})) for kind in order)
    async with alerts.db.transaction("acme") as conn:
        await raise_alerts.raise_alerts(conn, [first], now=NOW)
        later = asyncio.create_task(alerts.raised(second))

        async def waits_or_is_done():
            return later.done() or await conn.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")

        await until(waits_or_is_done)
    await later
    assert await alerts.rows(SUBJECTS) == [("high_value", "p1", "f2")]


LIMIT_ROWS = """
CREATE FUNCTION limit_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM new_rows) > 10000 THEN RAISE 'too many rows at once'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER limit_rows AFTER INSERT ON deliveries REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION limit_rows()
"""


async def test_the_mails_of_the_most_rules_and_recipients_fit_into_their_transaction(alerts):
    """100 rules with 20 recipients each: 50 events queue 100,000 mails, at most 10,000 of them at once."""
    recipients = [f"someone-{n}@acme.example" for n in range(20)]
    for _ in range(create_rule.RULE_LIMIT):
        await alerts.rule("high_value", KES=1, recipients=recipients)
    async with connected(alerts.owner_url) as owner:
        await owner.execute(LIMIT_ROWS)
    new = await alerts.raised(*(completed(f"p{n}") for n in range(50)))
    assert len(new) == 5_000
    assert await alerts.rows("SELECT count(*), count(DISTINCT (alert_id, recipient)) FROM deliveries") == [
        (100_000, 100_000)
    ]
    queues = "SELECT count(*) FROM mail_queues WHERE waiting_since IS NOT NULL"
    assert await alerts.rows(queues) == [(2_000,)]


async def test_an_alert_without_recipients_waits_for_no_mail(alerts):
    await alerts.rule("payment_failed", recipients=())
    assert len(await alerts.raised(failed())) == 1
    assert await alerts.rows("SELECT 1 FROM deliveries") == []


async def test_the_same_events_at_once_raise_once(alerts):
    await alerts.rule("payment_failed")
    events = [failed(f"p{n}") for n in range(20)]
    new = await asyncio.gather(*(alerts.raised(*events) for _ in range(4)))
    assert sum(map(len, new)) == 20


async def test_a_change_of_a_rule_is_audited_without_addresses(alerts):
    rule_id = await alerts.rule("payment_failed")
    await alerts.change(rule_id, terms(recipients=["new@acme.example"]))
    await alerts.change(rule_id, terms(recipients=["new@acme.example"]))  # the same: nothing to tell
    rows = await alerts.rows(
        "SELECT action, actor, request_id, before::text, after::text FROM audit ORDER BY at, action DESC"
    )
    assert [row[:3] for row in rows] == [(f"rule-{what}", "finance-1", "request-1") for what in ("created", "changed")]
    assert rows[0][3] is None
    assert rows[1][3] != rows[1][4]
    assert not any("example" in str(text) for row in rows for text in row)


async def test_a_rule_keeps_its_kind_and_belongs_to_its_tenant(alerts):
    rule_id = await alerts.rule("payment_failed")
    with pytest.raises(Invalid):
        await alerts.change(rule_id, terms("payout_failed"))
    with pytest.raises(NotFound):
        await alerts.change(rule_id, terms(), tenant="other")


async def test_rules_are_limited(alerts, monkeypatch):
    monkeypatch.setattr(create_rule, "RULE_LIMIT", 1)
    await alerts.rule()
    with pytest.raises(TooManyRules):
        await alerts.rule()


async def test_every_statement_prepares_against_the_schema(alerts):
    modules = (acknowledge_alert, change_rule, create_rule, queries, raise_alerts, send_mails)
    statements = [
        value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and " " in value
    ]
    assert len(statements) >= 18
    async with alerts.db.transaction() as conn:
        for statement in statements:
            await conn.prepare(statement)
    async with alerts.system_db.transaction() as conn:
        await conn.fetch(send_mails.CLAIM, *await conn.fetchrow("SELECT now(), now()"), 1)


async def test_no_tenant_set_sees_no_row(alerts):
    await alerts.rule()
    await alerts.raised(failed())
    async with alerts.db.transaction() as conn:
        for table in TABLES:
            assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608
        unprotected = await conn.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND relname <> 'alembic_version' AND NOT (relrowsecurity AND relforcerowsecurity)"
        )
    assert unprotected == []


async def test_the_system_role_sees_addresses_and_nothing_of_the_alerts(alerts):
    await alerts.rule()
    await alerts.raised(failed())
    async with alerts.system_db.transaction() as conn:
        assert [row["recipient"] for row in await conn.fetch("SELECT recipient FROM mail_queues")] == [BOSS]
        for table in ("alerts", "deliveries"):
            assert not await conn.fetchval("SELECT has_table_privilege($1, 'SELECT')", table)


async def test_migrating_again_changes_nothing(database):
    urls = await database("alerts")
    for _ in range(2):
        await asyncio.to_thread(upgrade, "services.alerts", urls.owner)
