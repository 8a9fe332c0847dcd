"""The launcher of Kafka: a broker that takes records, and has them still after it was started again elsewhere."""

from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.kafka import running_kafka


async def test_keeps_records_across_a_restart_on_other_ports(tmp_path: Path) -> None:
    with running_kafka(tmp_path / "kafka") as first:
        admin = AIOKafkaAdminClient(bootstrap_servers=first.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("trips", 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=first.bootstrap, acks="all", enable_idempotence=True) as producer:
            await producer.send_and_wait("trips", b"kept", key=b"1")
    with running_kafka(tmp_path / "kafka") as second:
        assert second.bootstrap != first.bootstrap
        consumer = AIOKafkaConsumer("trips", bootstrap_servers=second.bootstrap, auto_offset_reset="earliest")
        async with consumer:
            assert (await consumer.getone()).value == b"kept"
