"""A line between a service and a server, in a test's hands: cut, stalled, slow, half open, or held at one message."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

from tests.faults.messages import Matches, Meaning, Messages


class Trouble(StrEnum):
    """What is wrong with a line."""

    NONE = "none"
    CUT = "cut"  # connections break, new ones too
    STALLED = "stalled"  # nothing moves, nothing breaks
    DRIP = "drip"  # one byte at a time
    HALF_OPEN = "half open"  # the server has hung up; the client's side stays open and hears nothing


@dataclass(eq=False)
class Held:
    """The last of a row of messages on one connection: it waits in the line, or its answer does.

    The first time that one does, or `every` time: who gets no answer may say the same again on another connection.
    """

    row: tuple[Matches, ...]
    answer_only: bool
    every: bool
    caught: asyncio.Event = field(default_factory=asyncio.Event)
    taken: bool = False
    _seen: dict[object, int] = field(default_factory=dict)

    def takes(self, connection: object, meaning: Meaning) -> bool:
        """Whether this message completes the row."""
        seen = self._seen.get(connection, 0)
        if (self.taken and not self.every) or seen == len(self.row) or not self.row[seen](meaning):
            return False
        self._seen[connection] = seen + 1
        completes = seen + 1 == len(self.row)
        self.taken |= completes
        return completes


class Line:
    """All connections to a server through one loopback port."""

    def __init__(self, target_port: int, read_messages: Callable[[], Messages]) -> None:
        self._target_port = target_port
        self._read_messages = read_messages
        self._trouble = Trouble.NONE
        self._changed = asyncio.Event()
        self._held: list[Held] = []
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self, port: int = 0) -> None:
        """Listen on `port`, or on any."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Break everything."""
        assert self._server is not None
        self._server.close()
        await self._break()
        await self._server.wait_closed()

    async def suffer(self, trouble: Trouble) -> None:
        """Be in trouble from now on; with NONE, work again."""
        self._trouble = trouble
        self._changed.set()
        self._changed = asyncio.Event()
        if trouble is Trouble.CUT:
            await self._break()
        if trouble is Trouble.HALF_OPEN:
            for connection in self._connections:
                connection.lose_server()

    def hold(self, *row: Matches, answer_only: bool = False, every: bool = False) -> Held:
        """Stop the message that completes `row`, or let it through and stop its answer; `caught` is set then."""
        held = Held(row, answer_only, every)
        self._held.append(held)
        return held

    async def drop_held(self) -> None:
        """What is held never arrives: its connection is broken, like all others."""
        self._held.clear()
        await self._break()

    async def _break(self) -> None:
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.gather(*(connection.ended.wait() for connection in tuple(self._connections)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._trouble is Trouble.CUT:
            writer.transport.abort()
            return
        try:
            server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self, (reader, writer), server, self._read_messages())
        self._connections.add(connection)
        try:
            await connection.carry()
        finally:
            self._connections.discard(connection)

    async def pass_on(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        """Write as the line's present state allows."""
        await self.until_it_moves()
        passed = 0
        while self._trouble is Trouble.DRIP and passed < len(data):
            sink.write(data[passed : passed + 1])
            passed += 1
            await sink.drain()
            await asyncio.sleep(0)
        sink.write(data[passed:])
        await sink.drain()

    async def until_it_moves(self) -> None:
        """Wait while nothing does."""
        while self._trouble in {Trouble.STALLED, Trouble.HALF_OPEN}:
            await self._changed.wait()

    def look_for(self, connection: object, meaning: Meaning) -> Held | None:
        """Who waits for this message."""
        return next((held for held in self._held if held.takes(connection, meaning)), None)


class _Connection:
    def __init__(
        self,
        line: Line,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        messages: Messages,
    ) -> None:
        self._line, self._messages = line, messages
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._answer: Held | None = None
        self._server_is_lost = False
        self._tasks: list[asyncio.Task[None]] = []
        self.ended = asyncio.Event()

    async def carry(self) -> None:
        """Carry bytes both ways until one side ends."""
        self._tasks = [asyncio.create_task(self._forth()), asyncio.create_task(self._back())]
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._to_client.transport.abort()
            self._to_server.transport.abort()
            self.ended.set()

    def abort(self) -> None:
        """Break both sides."""
        for task in self._tasks:
            task.cancel()

    def lose_server(self) -> None:
        """The server hangs up, and the client is not told."""
        self._server_is_lost = True
        self._to_server.transport.abort()

    async def _forth(self) -> None:
        with suppress(OSError):
            while data := await self._from_client.read(65_536):
                await self._line.until_it_moves()  # a message is not read to its end either: the client must wait
                for message, meaning in self._messages.feed(data):
                    held = self._line.look_for(self, meaning)
                    if held is not None and held.answer_only:
                        self._answer = held
                    elif held is not None:
                        held.caught.set()
                        await _for_ever()
                    await self._to_where_it_goes(message)

    async def _to_where_it_goes(self, message: bytes) -> None:
        try:
            await self._line.pass_on(message, self._to_server)
        except OSError:
            if not self._server_is_lost:
                raise

    async def _back(self) -> None:
        with suppress(OSError):
            while data := await self._from_server.read(65_536):
                if self._answer is not None:
                    self._answer.caught.set()
                    await _for_ever()
                await self._line.pass_on(data, self._to_client)
        if self._server_is_lost:
            await _for_ever()


async def _for_ever() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def line_to(port: int, messages: type[Messages], *, at: int = 0) -> AsyncIterator[Line]:
    """A line to a server on `port`, listening on `at`, or on any port."""
    line = Line(port, messages)
    await line.open(at)
    try:
        yield line
    finally:
        await line.close()


@dataclass
class Lines:
    """Between each service and its database, and between all of them and the broker."""

    kafka: Line
    postgres: dict[str, Line]
