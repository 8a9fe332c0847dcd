"""`takings dlq` on a real broker: what is open, what a letter holds, sending again and dropping, each decision kept."""

import asyncio
import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from typer.testing import CliRunner

from deploy.cli import app
from deploy.operations import dead_letters
from deploy.operations.dead_letters import open_letters, replay
from shared.dead_letters import dead_letter
from shared.publisher import Publisher, ensure_topics
from tests.conftest import until
from tests.shared.topics import end_offsets, new_topic, ping_of, read_all, wire

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Desk:
    """An operator's command line, looking at one topic."""

    bootstrap: str
    topic: str

    async def takings(self, *arguments, status=0):
        """What the command prints on its standard output."""
        done = await asyncio.to_thread(
            CliRunner().invoke, app, ["dlq", *arguments], env={"TAKINGS_KAFKA_BOOTSTRAP": self.bootstrap}
        )
        assert done.exit_code == status, done.output
        return done.stdout if status == 0 else done.stderr

    async def listed(self, *filters):
        return json.loads(await self.takings("list", "--json", "--topic", self.topic, *filters))

    async def set_aside(self, *values, key=b"k", consumer="reporting", reason="not applicable", first_offset=0):
        """Let a consumer set records aside that stood on partition 0 of the topic from `first_offset` on."""
        letters = [
            dead_letter(
                ConsumerRecord(self.topic, 0, offset, 0, 0, key, value, None, 0, 0, ()),
                reason, consumer=consumer, now=NOW,
            )
            for offset, value in enumerate(values, first_offset)
        ]  # fmt: skip
        publisher = Publisher(self.bootstrap, [self.topic])
        assert await publisher.send_all(letters)
        await publisher.close()

    async def sent_again(self):
        return sorted((record.key, record.value) for record in await read_all(self.bootstrap, self.topic))


@pytest.fixture
async def desk(kafka):
    topic = new_topic()
    await ensure_topics(kafka, [topic])
    return Desk(kafka, topic)


def event(topic, n, subject="k"):
    return wire(ping_of(topic)(n=n), subject=subject)


async def test_a_letter_is_listed_shown_replayed_once_and_kept_with_its_decision(desk: Desk):
    value = event(desk.topic, 1)
    for consumer in ("reporting", "alerts"):  # the same record, set aside by two
        await desk.set_aside(value, consumer=consumer, reason="unknown tenant")
    letters = await desk.listed()
    assert {(x["consumer"], x["reason"], x["source"], x["topic"]) for x in letters} == {
        (consumer, "unknown tenant", f"{desk.topic}/0/0", desk.topic) for consumer in ("reporting", "alerts")
    }
    assert await desk.listed("--reason", "no key") == []
    assert f"{letters[0]['id']} " in await desk.takings("list")
    shown = json.loads(await desk.takings("show", letters[0]["id"]))
    assert (shown["key"], shown["value"]["data"], shown["decision"]) == ("k", {"n": 1}, None)

    said = await desk.takings("replay", letters[0]["id"])
    assert said == "1 records sent again, 2 dead letters settled\n"
    assert await desk.sent_again() == [(b"k", value)]
    assert await desk.listed() == []
    shown = json.loads(await desk.takings("show", letters[1]["id"]))
    assert shown["decision"]["decision"] == "replayed"
    assert "there is no open dead letter" in await desk.takings("replay", letters[0]["id"], status=1)
    assert await desk.sent_again() == [(b"k", value)]


async def test_a_record_goes_out_under_its_subject_whatever_its_key_was(desk: Desk):
    await desk.set_aside(event(desk.topic, 1, "p1"), key=None, reason="no key")
    await desk.set_aside(event(desk.topic, 2, "p2"), key=b"p1", reason="the key is not the subject", first_offset=1)
    await desk.set_aside(b"not json", key=b"p3", first_offset=2)
    await desk.takings("replay", "--topic", desk.topic)
    assert [key for key, _ in await desk.sent_again()] == [b"p1", b"p2", b"p3"]


async def test_what_holds_no_whole_record_is_never_sent_and_can_be_dropped(desk: Desk):
    await desk.set_aside(None, reason="no value")
    await desk.set_aside(None, key=None, reason="no value", first_offset=1)
    await desk.set_aside(b"x" * (4 * 1024 * 1024 + 1), reason="too large", first_offset=2)
    assert await desk.takings("replay", "--topic", desk.topic) == "0 records sent again, 0 dead letters settled\n"
    assert await desk.sent_again() == []
    letters = await desk.listed()
    assert [letter["is_whole"] for letter in letters] == [False] * 3
    assert "can only be dropped" in await desk.takings("replay", letters[0]["id"], status=1)
    assert "say why" in await desk.takings("drop", "--topic", desk.topic, "--why", " ", status=2)
    assert "Missing option '--why'" in await desk.takings("drop", "--topic", desk.topic, status=2)
    assert await desk.takings("drop", "--topic", desk.topic, "--why", "sent by mistake") == "3 dead letters dropped\n"
    assert await desk.listed() == []
    shown = json.loads(await desk.takings("show", letters[0]["id"]))
    assert (shown["decision"]["decision"], shown["decision"]["why"]) == ("dropped", "sent by mistake")
    assert len(shown["value"] or "") in {0, 4 * 1024 * 1024}


async def test_letters_have_to_be_named_one_way(desk: Desk):
    for arguments in ((), ("some.dlq/0/0", "--all")):
        assert "name letters by their ids, or choose" in await desk.takings("replay", *arguments, status=2)


async def test_several_replays_at_once_and_new_letters_meanwhile_lose_nothing(desk: Desk):
    """More letters than go out at once, four replays side by side, while others are set aside."""
    await desk.set_aside(*(event(desk.topic, n) for n in range(450)))

    async def replay_all():
        mine = [letter for letter in await open_letters(desk.bootstrap) if letter.topic == desk.topic]
        await replay(desk.bootstrap, mine, now=NOW)

    later = desk.set_aside(*(event(desk.topic, n) for n in range(450, 460)), first_offset=450)
    await asyncio.gather(*(replay_all() for _ in range(4)), later)
    await replay_all()
    assert await desk.listed() == []
    assert {json.loads(value)["data"]["n"] for _, value in await desk.sent_again()} == set(range(460))
    assert await end_offsets(desk.bootstrap, f"{desk.topic}.dlq") == 460


async def test_decisions_about_a_topic_that_was_deleted_hide_nothing_in_the_new_one(desk: Desk):
    await desk.set_aside(event(desk.topic, 1))
    letter = (await desk.listed())[0]["id"]
    await desk.takings("drop", letter, "--why", "old")
    admin = AIOKafkaAdminClient(bootstrap_servers=desk.bootstrap)
    await admin.start()
    await admin.delete_topics([f"{desk.topic}.dlq"])

    async def is_gone():
        return f"{desk.topic}.dlq" not in await admin.list_topics()

    await until(is_gone)
    await admin.close()
    await desk.set_aside(event(desk.topic, 2))
    assert [found["id"] for found in await desk.listed()] == [letter]
    assert json.loads(await desk.takings("show", letter))["decision"] is None
    await desk.takings("replay", letter)
    assert await desk.listed() == []
    assert json.loads(await desk.takings("show", letter))["decision"]["decision"] == "replayed"


async def test_a_replay_holds_only_so_many_bytes_at_once(desk: Desk, monkeypatch):
    sizes, send_all = [], Publisher.send_all

    async def measured(self, messages):
        if messages and messages[0].topic == desk.topic:
            sizes.append(sum(len(message.value) for message in messages))
        return await send_all(self, messages)

    monkeypatch.setattr(dead_letters, "BYTES_AT_ONCE", 4 * 10_000)
    await desk.set_aside(*(b"x" * 10_000 for _ in range(10)))
    monkeypatch.setattr(Publisher, "send_all", measured)
    assert await desk.takings("replay", "--topic", desk.topic) == "10 records sent again, 10 dead letters settled\n"
    assert sizes == [40_000, 40_000, 20_000]


async def test_a_broker_that_does_not_answer_is_said_in_one_line(desk: Desk):
    said = await Desk("127.0.0.1:1", desk.topic).takings("list", status=1)
    assert said.splitlines()[-1].startswith("takings: Kafka does not answer at 127.0.0.1:1")
    assert "Traceback" not in said


async def test_a_broker_that_stands_still_is_not_waited_for_for_ever(desk: Desk, monkeypatch):
    monkeypatch.setattr(dead_letters, "SILENCE_LIMIT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with asyncio.timeout(4):  # the client itself would have 5 s of patience
            said = await Desk(address, desk.topic).takings("list", status=1)
    assert said.splitlines()[-1].startswith(f"takings: Kafka does not answer at {address}")
