"""A service behind a real socket, as its callers meet it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import uvicorn


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """The application behind a real server; yields its port."""
    config = uvicorn.Config(app, port=0, http="httptools", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # they stay pytest's
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def exchange(port: int, *sent: bytes, within_s: float = 15.0) -> bytes:
    """Send the parts on a connection of their own and read until the server hangs up; nothing when it cut the line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(within_s):
        answer, _ = await asyncio.gather(reader.read(), _send(writer, sent), return_exceptions=True)
    writer.close()
    return answer if isinstance(answer, bytes) else b""


async def _send(writer: asyncio.StreamWriter, parts: Sequence[bytes]) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()
