"""From Kafka to a mail: the worker on a real broker and a real mail server."""

from shared.events.tenants import TenantConfigured
from shared.ids import new_id
from shared.publisher import Publisher
from tests.alerts.calls import completed, failed
from tests.conftest import until
from tests.shared.topics import message


async def test_an_event_becomes_a_mail(run, kafka, mail_server):
    tenant = f"t-{new_id().hex}"
    recipient = f"{tenant}@acme.example"
    alerts = await run("alerts", role="all", kafka=kafka, smtp_port=str(mail_server.port))
    publisher = Publisher(kafka, ("payments", "payouts", "tenants"))
    configured = TenantConfigured(name="T", time_zone="Africa/Nairobi", currency="KES", version=1)
    assert await publisher.send_all([message(configured, tenant, tenant)])
    headers = alerts.as_("admin", tenant=tenant)
    rule = {"kind": "high_value", "thresholds": {"KES": 100_000}, "recipients": [recipient]}

    async def created():
        answer = await alerts.http.post("/api/v1/payments/alerts", headers=headers, json=rule)
        return answer.status_code == 201

    await until(created, within_s=60)
    events = [completed("p1", amount=99_999), completed("p2", amount=100_000), failed("p3")]
    assert await publisher.send_all([message(event.data, event.subject, tenant) for event in events])

    async def mails():
        return mail_server.to(recipient)

    ((_, text),) = await until(mails, within_s=60)
    assert "payment p2" in " ".join(text.split())

    async def sent():
        items = (await alerts.http.get("/api/v1/alerts", headers=headers)).json()["items"]
        return [(item["subject"], item["mail"]) for item in items] == [("p2", "sent")]

    await until(sent)
    await publisher.close()
