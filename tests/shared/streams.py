"""A topic of one test's own, with consumers that remember what they applied."""

import asyncio
from contextlib import asynccontextmanager

from shared.events import Decoder
from shared.events.catalogue import ALL_EVENTS
from shared.kafka import Consumer
from shared.publisher import Publisher
from shared.tenants import AnyTenant
from tests.conftest import end, until
from tests.shared.topics import committed, end_offsets, new_topic, ping_of, producing, read, wire


class Stream:
    """A topic with its event, and consumers of one group on it that remember what they applied."""

    def __init__(self, bootstrap):
        self.bootstrap, self.topic = bootstrap, new_topic()
        self.ping, self.group = ping_of(self.topic), f"group-of-{self.topic}"
        self.calls = []  # the events of each successful apply
        self.tenants = AnyTenant()

    @property
    def dlq(self):
        return f"{self.topic}.dlq"

    @property
    def applied(self):
        return [event.data.n for call in self.calls for event in call]

    async def apply(self, events):
        self.calls.append(list(events))

    async def send(self, *values, key=b"k", **options):
        """Publish each value: an int becomes an event of it, anything else goes as it is."""
        async with producing(self.bootstrap) as producer:
            for value in values:
                body = wire(self.ping(n=value)) if isinstance(value, int) else value
                await producer.send(self.topic, body, key=key, **options)

    @asynccontextmanager
    async def consumer(self, apply=None, *, bootstrap=None, consumers=None):
        publisher = Publisher(bootstrap or self.bootstrap, [self.topic])
        consumer = Consumer(
            bootstrap or self.bootstrap,
            topics=[self.topic],
            group_id=self.group,
            decoder=Decoder([self.ping], known=ALL_EVENTS),
            apply=apply or self.apply,
            tenants=self.tenants,
            publisher=publisher,
        )
        if consumers is not None:
            consumers.append(consumer)
        task = asyncio.create_task(consumer.run())
        try:
            yield task
        finally:
            await end(task)
            await publisher.close()

    async def wait_until_committed(self, count):
        async def there():
            return await committed(self.bootstrap, self.group) >= count

        await until(there)

    async def dead(self):
        """What is in the dead-letter topic: value -> headers."""
        count = await end_offsets(self.bootstrap, self.dlq)
        return [(r.value, r.key, dict(r.headers)) for r in await read(self.bootstrap, self.dlq, count)]
