"""From Kafka to the report: the worker on a real broker, with a tenant that arrives after its events."""

from shared.events.tenants import TenantConfigured
from shared.ids import new_id
from shared.publisher import Message, Publisher
from tests.conftest import until
from tests.reporting.events import earning, payment, payout
from tests.shared.topics import message


async def test_events_become_a_report(run, kafka):
    tenant = f"t-{new_id().hex}"
    reporting = await run("reporting", role="all", kafka=kafka, tenant_wait_s="10")
    publisher = Publisher(kafka, ("payments", "payouts", "tenants"))
    events = [payment("p1"), payment("p2"), earning("e1"), payout("o1"), payment("p1", "failed")]
    sent = [message(event.data, event.subject, tenant) for event in events]
    assert await publisher.send_all([*sent, Message("payments", b"p1", b"not an event"), *sent])
    configured = TenantConfigured(name="T", time_zone="Africa/Nairobi", currency="KES", version=1)
    assert await publisher.send_all([message(configured, tenant, tenant)])

    async def profits():
        answer = await reporting.http.get("/api/v1/reports/profits", headers=reporting.as_("finance", tenant=tenant))
        body = answer.json()
        return body if body.get("count_payments") == 2 and body["payouts_disbursed"] else None

    body = await until(profits, within_s=60)
    assert (body["revenue"], body["payouts_disbursed"], body["payee_earnings"]) == (20_000, 9_000, 9_000)
    assert (body["owed_by_payees"], body["owed_to_payees"]) == (0, 0)
    await publisher.close()
