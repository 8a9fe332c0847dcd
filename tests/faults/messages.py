"""What a client sends to PostgreSQL or Kafka, cut into messages, and how a test names one of them."""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable

Meaning = bytes  # of one message to the server: the SQL that it carries, or the request as it is
Matches = Callable[[Meaning], bool]


class Messages(ABC):
    """Cuts what a client sends into messages and says what each means."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, Meaning]]:
        """The messages that are complete now."""
        self._rest += data
        complete = []
        while (length := self._length()) and len(self._rest) >= length:
            message, self._rest = self._rest[:length], self._rest[length:]
            complete.append((message, self._meaning(message)))
        return complete

    @abstractmethod
    def _length(self) -> int:
        """Of the next message, with its head; 0 while that is not known."""

    @abstractmethod
    def _meaning(self, message: bytes) -> Meaning: ...


class KafkaRequests(Messages):
    """A length of 4 bytes, then the request: key of the API (2 bytes), version, …"""

    def _length(self) -> int:
        return 4 + struct.unpack_from(">i", self._rest)[0] if len(self._rest) >= 4 else 0

    def _meaning(self, message: bytes) -> Meaning:
        return message[4:]


class PostgresMessages(Messages):
    """After the start-up a type (1 byte) and a length; what a Bind executes was named by an earlier Parse."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._statements: dict[bytes, bytes] = {}

    def _length(self) -> int:
        head = 1 if self._started else 0
        return head + struct.unpack_from(">i", self._rest, head)[0] if len(self._rest) >= head + 4 else 0

    def _meaning(self, message: bytes) -> Meaning:
        if not self._started:
            self._started = message[4:8] != struct.pack(">i", 80877103)  # a wish for TLS comes before the start
            return b""
        kind, parts = message[:1], message[5:].split(b"\0", 2)
        if kind == b"P":
            self._statements[parts[0]] = parts[1]
        if kind == b"B":
            return self._statements.get(parts[1], b"")
        return parts[0] if kind == b"Q" else b""


def offset_commit_of(group: str) -> Matches:
    """A consumer group's OffsetCommit (API key 8): after version, number and the client's name comes the group's."""
    name = struct.pack(">h", len(group)) + group.encode()

    def matches(request: bytes) -> bool:
        if request[:2] != b"\0\x08":
            return False
        (client_length,) = struct.unpack_from(">h", request, 8)
        return request[10 + client_length :].startswith(name)  # further on, a topic of that name would be found, too

    return matches


def sql(text: str) -> Matches:
    """A statement with `text` in it."""
    return lambda statement: text.encode() in statement
