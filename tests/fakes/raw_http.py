"""A server whose every byte the test decides, for what no decent HTTP server does.

scripted_server.py is the decent one, and leaves after each request. This one keeps its connections until it is told
otherwise, and they can be counted.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


async def soon(awaited: Awaitable[T]) -> T:
    """What is awaited; a failure where it does not come."""
    async with asyncio.timeout(10):
        return await awaited


class RawConnection:
    """A connection as its server has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The next request, head and body; the latter only where Content-Length says how much."""
        head = await soon(self.reader.readuntil(b"\r\n\r\n"))
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        return head + await soon(self.reader.readexactly(int(fields.get(b"content-length", 0))))

    def send(self, data: bytes) -> None:
        """Send these bytes, as they are."""
        self.writer.write(data)

    async def client_left(self) -> bool:
        """Return once the client closed it; False where it sent something before."""
        try:
            return not await soon(self.reader.read(1))
        except ConnectionError:
            return True

    async def close(self) -> None:
        """Close it, when all was sent."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await soon(self.writer.wait_closed())


class RawHttpServer:
    """The server; made by `raw_http_server`."""

    def __init__(self) -> None:
        self.connections: list[RawConnection] = []
        self._new: asyncio.Queue[RawConnection] = asyncio.Queue()
        self.port = 0

    async def next_connection(self) -> RawConnection:
        """The next that a client makes, or has made."""
        return await soon(self._new.get())

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As asyncio.start_server has it."""
        connection = RawConnection(reader, writer)
        self.connections.append(connection)
        self._new.put_nowait(connection)


@asynccontextmanager
async def raw_http_server(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[RawHttpServer]:
    """A running server; at its end all its connections are closed."""
    raw = RawHttpServer()
    async with await asyncio.start_server(raw.accept, host, 0, ssl=tls) as server:
        raw.port = server.sockets[0].getsockname()[1]
        yield raw
        for connection in raw.connections:
            connection.writer.transport.abort()
            await connection.close()
