"""The books as the four databases have them, and how they differ from what the client's journal says they must be."""

import asyncio
import hashlib
from typing import Any

import asyncpg
import msgspec

from tests.conftest import until
from tests.faults.journal import Journal
from tests.faults.servers import Servers
from tests.faults.trips import Books, Payout, Trip, expected_books
from tests.shared.topics import committed, end_offsets, read_all

PAYMENTS = (
    "SELECT payment_id, transaction_id, request_id, status, amount, applied, fee FROM payments WHERE tenant_id = $1"
)
REQUESTS = "SELECT request_id, status, paid FROM requests WHERE tenant_id = $1"
CALLBACKS = """
SELECT webhook_id, count(*) AS kept, count(handled_at) AS handled FROM callbacks WHERE tenant_id = $1 GROUP BY webhook_id
"""
EARNINGS = """
SELECT payment_id, payee_id, sum(gross)::bigint, sum(commission)::bigint, sum(net)::bigint, sum(cash_held)::bigint
FROM earnings WHERE tenant_id = $1 GROUP BY payment_id, payee_id
"""
WALLETS = "SELECT payee_id, earned, commission, cash_held, paid, locked, balance FROM wallets WHERE tenant_id = $1"
ACCOUNTS = "SELECT account, sum(amount)::bigint AS sum FROM entries WHERE tenant_id = $1 GROUP BY account"
PAYOUTS = "SELECT payout_id, payee_id, amount, status FROM payouts WHERE tenant_id = $1"
TWICE_LOCKED = """
SELECT p.payout_id FROM payouts AS p JOIN earnings AS e USING (tenant_id, payout_id)
WHERE p.tenant_id = $1 GROUP BY p.payout_id, p.amount HAVING sum(e.payable) <> p.amount
"""
FACTS = "SELECT transaction_id, status, amount, applied, fee, day FROM payments WHERE tenant_id = $1"
DAYS = """
SELECT dimension, day, member, revenue, payments, fees FROM daily_rollups
WHERE tenant_id = $1 AND dimension IN ('total', 'method', 'fleet', 'payee') AND payments <> 0
"""
BALANCES = "SELECT payee_id, earned, cash_held, disbursed FROM payee_balances WHERE tenant_id = $1"
ALERTS = "SELECT kind, subject, count(*) AS raised FROM alerts WHERE tenant_id = $1 GROUP BY kind, subject"
KEPT_CALLBACKS = "SELECT webhook_id, account_id, body FROM callbacks WHERE tenant_id = $1"
KEPT_ANSWERS = "SELECT key, request_hash, status FROM idempotency_keys WHERE tenant_id = $1"
UNPUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
KEYLESS = ("requests-", "collected-")  # each of their items counts once by its own id
READ_BY = {"payouts": ("payments",), "reporting": ("payments", "payouts"), "alerts": ("payments", "payouts")}


async def rows(servers: Servers, service: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
    """Rows of a service's database, of all tenants unless the query says otherwise."""
    conn = await asyncpg.connect(servers.database_url(service))
    try:
        return await conn.fetch(query, *arguments)
    finally:
        await conn.close()


async def drained(servers: Servers, *, within_s: float = 60) -> None:
    """Wait until everything is published and every event of both topics is applied and committed."""

    async def empty() -> bool:
        return await _waits(servers) is None

    try:
        await until(empty, within_s=within_s)
    except TimeoutError:
        raise AssertionError(f"after {within_s} s: {await _waits(servers)}") from None


async def _waits(servers: Servers) -> str | None:
    """What is not published or not read yet, in the order of cause and effect: payouts writes what it has read."""
    bootstrap = servers.broker.bootstrap
    ends: dict[str, int] = {}
    for topic in ("payments", "payouts"):
        ((unpublished,),) = await rows(servers, topic, UNPUBLISHED)
        if unpublished:
            return f"{unpublished} events of {topic} are not published"
        ends[topic] = await end_offsets(bootstrap, topic)
        for group, topics in READ_BY.items():
            read, written = await committed(bootstrap, group), sum(ends[each] for each in topics if each in ends)
            if topics[-1] == topic and read < written:
                return f"{group} has read {read} of {written} records"
    return None


async def read_books(servers: Servers, tenant: str) -> Books:
    """What the services know of the tenant."""
    books = Books()
    transactions: dict[str, str] = {}
    for payment_id, transaction, *payment in await rows(servers, "payments", PAYMENTS, tenant):
        transactions[str(payment_id)] = transaction
        books.payments[transaction] = tuple(payment)
    books.requests = {row[0]: tuple(row)[1:] for row in await rows(servers, "payments", REQUESTS, tenant)}
    for payment_id, payee, *sums in await rows(servers, "payouts", EARNINGS, tenant):
        books.earnings[transactions.get(str(payment_id), str(payment_id)), payee] = tuple(sums)
    books.wallets = {row[0]: tuple(row)[1:] for row in await rows(servers, "payouts", WALLETS, tenant)}
    books.accounts = {row[0]: row[1] for row in await rows(servers, "payouts", ACCOUNTS, tenant) if row[1]}
    books.payouts = {str(row[0]): tuple(row)[1:] for row in await rows(servers, "payouts", PAYOUTS, tenant)}
    books.facts = {row[0]: tuple(row)[1:] for row in await rows(servers, "reporting", FACTS, tenant)}
    books.days = {tuple(row)[:3]: tuple(row)[3:] for row in await rows(servers, "reporting", DAYS, tenant)}
    books.balances = {row[0]: tuple(row)[1:] for row in await rows(servers, "reporting", BALANCES, tenant)}
    for kind, subject, raised in await rows(servers, "alerts", ALERTS, tenant):
        books.alerts[kind, transactions.get(subject, subject)] = raised
    return books


async def check_books(
    servers: Servers, tenant: str, trips: list[Trip], payouts: dict[str, Payout], deliveries: set[str]
) -> None:
    """Fail with what is lost, doubled or wrong. `deliveries` are the webhook-ids that were answered with 2xx."""
    expected, actual = expected_books(trips, payouts), await read_books(servers, tenant)
    wrong = [
        difference
        for name in Books.__dataclass_fields__
        for difference in _differences(name, getattr(expected, name), getattr(actual, name))
    ]
    kept = {row["webhook_id"]: row for row in await rows(servers, "payments", CALLBACKS, tenant)}
    wrong += [f"callback {delivery} was acknowledged and is not kept" for delivery in deliveries - set(kept)]
    wrong += [f"callback {id_} has no effect yet" for id_, row in kept.items() if row["handled"] < row["kept"]]
    wrong += [f"payout {row[0]} is not what it locks" for row in await rows(servers, "payouts", TWICE_LOCKED, tenant)]
    assert not wrong, f"{len(wrong)} differences, the first:\n" + "\n".join(wrong[:20])


async def check_kept(servers: Servers, tenant: str, journal: Journal) -> None:
    """Fail unless what the services keep of each call is what was sent, and the answer that they keep the one it got."""
    kept: dict[str, tuple[str, int]] = {}
    for webhook_id, account, body in await rows(servers, "payments", KEPT_CALLBACKS, tenant):
        what = f"POST /api/v1/webhooks/standard/{account}\n".encode() + body
        kept[webhook_id] = (hashlib.sha256(what).hexdigest(), 200)
    for service in ("payments", "payouts"):
        for key, hash_, status in await rows(servers, service, KEPT_ANSWERS, tenant):
            kept[key] = (hash_.hex(), status)
    told = {
        name: (journal.sent[name], answer.status)
        for name, answer in journal.settled.items()
        if not name.startswith(KEYLESS)
    }
    wrong = _differences("call", told, kept)
    assert not wrong, f"{len(wrong)} differences, the first:\n" + "\n".join(wrong[:20])


def _differences(name: str, expected: dict[Any, Any], actual: dict[Any, Any]) -> list[str]:
    return [
        f"{name} {key}: expected {expected.get(key, 'nothing')}, found {actual.get(key, 'nothing')}"
        for key in sorted(expected.keys() | actual.keys(), key=str)
        if expected.get(key) != actual.get(key)
    ]


async def events_in_order(servers: Servers, tenant: str) -> None:
    """Fail when the events of a key stand in the topic in another order than in the outbox, repeats aside."""
    for topic in ("payments", "payouts"):
        query = "SELECT key, event_id::text FROM outbox WHERE topic = $1 AND tenant_id = $2 ORDER BY id"
        written: dict[str, list[str]] = {}
        for key, event_id in await rows(servers, topic, query, topic, tenant):
            written.setdefault(key, []).append(event_id)
        records = await read_all(servers.broker.bootstrap, topic)
        found = await asyncio.to_thread(_first_seen, records, tenant)
        assert found == written


def _first_seen(records: list[Any], tenant: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in records:
        event = msgspec.json.decode(record.value)
        if event["tenantid"] == tenant and event["id"] not in found.setdefault(record.key.decode(), []):
            found[record.key.decode()].append(event["id"])
    return found
