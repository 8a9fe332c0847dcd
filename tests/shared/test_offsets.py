"""Offsets are committed in the name of a member, and of nothing but what has had its effect; a late commit is made good."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError

from shared.kafka_client import member_of
from shared.offsets import Batch, Owed
from shared.publisher import ensure_topics
from tests.conftest import until
from tests.shared.topics import committed, new_topic, producing


@pytest.fixture
async def topic(kafka):
    made = new_topic()
    await ensure_topics(kafka, [made])
    async with producing(kafka) as producer:
        for value in (b"1", b"2"):
            await producer.send_and_wait(made, value, key=b"k")
    return made


@asynccontextmanager
async def member(kafka, topic):
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, group_id=topic, enable_auto_commit=False, auto_offset_reset="earliest",
        session_timeout_ms=6_000,
    )  # fmt: skip
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@pytest.mark.parametrize("when", ["read before", "read after"])
async def test_who_is_no_member_any_more_commits_nothing(kafka, topic, when):
    owed = Owed()
    async with member(kafka, topic) as consumer:
        record = await consumer.getone()
        batch = Batch((record,), consumer, owed)
        consumer._coordinator._coordination_task.cancel()  # else it would be a member again at once
        await (
            consumer._coordinator._maybe_leave_group()
        )  # which is what it learns from a broker that has lost the group
        await (batch if when == "read before" else Batch((record,), consumer, owed)).ack()
        assert await committed(kafka, topic) == 0
        assert not owed
        await consumer.commit()  # which is what the client itself would have done
        assert await committed(kafka, topic) == 1


async def test_who_has_become_another_member_commits_nothing_of_before(kafka, topic):
    """Its records come again: whatever it has been given now may end before them."""
    owed = Owed()
    async with member(kafka, topic) as consumer:
        batch = Batch((await consumer.getone(),), consumer, owed)
        before = consumer._coordinator.generation
        consumer._coordinator.reset_generation()

        async def has_joined():
            return consumer.assignment() and consumer._coordinator.generation > before

        await until(has_joined)
        await batch.ack()
        assert not owed
        assert await committed(kafka, topic) == 0


async def test_a_member_commits_what_has_had_its_effect_and_not_what_it_has_read(kafka, topic):
    owed = Owed()
    async with member(kafka, topic) as consumer:
        first, _second = await consumer.getone(), await consumer.getone()
        await Batch((first,), consumer, owed).ack()
        assert await committed(kafka, topic) == 1
        assert not owed


async def lost(*_):
    raise GroupCoordinatorNotAvailableError


async def test_what_cannot_be_committed_now_is_committed_later(kafka, topic, monkeypatch):
    """Without another batch: after the last one of a day there is none. And twice: the first may still come, too late."""
    owed = Owed()
    async with member(kafka, topic) as consumer:
        first, second = await consumer.getone(), await consumer.getone()
        commit = consumer._coordinator._do_commit_offsets
        monkeypatch.setattr(consumer._coordinator, "_do_commit_offsets", lost)
        await Batch((first,), consumer, owed).ack()
        await Batch((second,), consumer, owed).ack()
        assert owed
        assert await committed(kafka, topic) == 0
        monkeypatch.setattr(consumer._coordinator, "_do_commit_offsets", commit)
        await owed.settle(consumer)
        assert await committed(kafka, topic) == 2
        await consumer.commit({TopicPartition(topic, first.partition): 1})  # what was given up arrives
        await owed.settle(consumer)
        assert await committed(kafka, topic) == 2
        assert not owed


async def test_what_is_owed_while_others_are_committed_stays_owed(kafka, topic, monkeypatch):
    owed, begun, go_on = Owed(), asyncio.Event(), asyncio.Event()
    async with member(kafka, topic) as consumer:
        first, second = await consumer.getone(), await consumer.getone()
        commit = consumer._coordinator._do_commit_offsets

        async def slow(*arguments):
            begun.set()
            await go_on.wait()
            await commit(*arguments)

        monkeypatch.setattr(consumer._coordinator, "_do_commit_offsets", slow)
        committing = asyncio.create_task(Batch((first,), consumer, owed).ack())
        await begun.wait()
        owed.add(member_of(consumer), (second,))
        go_on.set()
        await committing
        assert await committed(kafka, topic) == 1
        assert owed
        await owed.settle(consumer)
        assert await committed(kafka, topic) == 2
        assert not owed
