"""Offsets are committed in the name of a member; a group that has forgotten it is left alone."""

from aiokafka import AIOKafkaConsumer

from shared.offsets import Batch
from shared.publisher import ensure_topics
from tests.conftest import until
from tests.shared.topics import committed, new_topic, producing


async def test_who_is_no_member_any_more_commits_nothing(kafka):
    topic = group = new_topic()
    await ensure_topics(kafka, [topic])
    async with producing(kafka) as producer:
        await producer.send_and_wait(topic, b"1", key=b"k")
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        record = await consumer.getone()
        consumer._coordinator._coordination_task.cancel()  # else it would be a member again at once
        await (
            consumer._coordinator._maybe_leave_group()
        )  # which is what it learns from a broker that knows no such group
        await _batch(consumer, record).ack()
        assert await committed(kafka, group) == 0
        await consumer.commit()  # which is what the client itself would have done
        assert await committed(kafka, group) == 1
    finally:
        await consumer.stop()


async def test_a_member_commits_what_it_has_read(kafka):
    topic = group = new_topic()
    await ensure_topics(kafka, [topic])
    async with producing(kafka) as producer:
        await producer.send_and_wait(topic, b"1", key=b"k")
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        await _batch(consumer, await consumer.getone()).ack()

        async def is_committed():
            return await committed(kafka, group) == 1

        await until(is_committed)
    finally:
        await consumer.stop()


def _batch(consumer, record) -> Batch:
    return Batch(body=b"", raw_message=(record,), headers={}, consumer=consumer)
