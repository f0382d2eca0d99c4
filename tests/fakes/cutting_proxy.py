"""A TCP proxy on loopback that treats connections as bad networks do: cuts them anywhere, or lets nothing through."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.fakes.connections import Connections


@dataclass
class Fate:
    """What becomes of one connection: it is cut once so many bytes have gone up (to the server) or down."""

    up: int | None = None
    down: int | None = None


class CuttingProxy:
    """Forwards to `host:port`; each new connection has the next of `fates`, then `fate()`."""

    def __init__(self, address: str) -> None:
        self.move_to(address)
        self.fates: deque[Fate] = deque()
        self.fate: Callable[[], Fate] = Fate
        #: Cleared, nothing goes through, and nobody is told.
        self.passes = asyncio.Event()
        self.passes.set()
        #: Once so many bytes have gone up in all, `passes` is cleared.
        self.holds_at: int | None = None
        #: Cleared, each connection is cut as soon as it is made.
        self.accepts = True
        self.connections = 0
        self.cuts = 0
        self.up_bytes = self.down_bytes = 0
        self._arrival = asyncio.Condition()
        self._open: set[asyncio.StreamWriter] = set()
        self._connections = Connections(self._accept)
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def move_to(self, address: str) -> None:
        """Forward new connections to there: the server was started anew."""
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    def cut(self) -> None:
        """Cut every connection now."""
        for writer in self._open:
            writer.transport.abort()
        self.cuts += 1

    async def connected(self, count: int) -> None:
        """Wait until so many connections have come in all."""
        async with asyncio.timeout(10), self._arrival:
            await self._arrival.wait_for(lambda: self.connections >= count)

    async def all_closed(self) -> None:
        """Wait until no connection is open."""
        async with asyncio.timeout(10), self._arrival:
            await self._arrival.wait_for(lambda: not self._open)

    async def __aenter__(self) -> "CuttingProxy":
        self._server = await asyncio.start_server(self._connections.accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._connections.end()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = {writer}
        try:
            async with self._arrival:
                self.connections += 1
                self._arrival.notify_all()
            if not self.accepts:
                return
            fate = self.fates.popleft() if self.fates else self.fate()
            server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
            writers.add(server_writer)
            self._open |= writers
            up = asyncio.create_task(self._forward(reader, server_writer, fate.up, "up_bytes"))
            down = asyncio.create_task(self._forward(server_reader, writer, fate.down, "down_bytes"))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()
                down.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            self._open -= writers
            for each in writers:
                each.transport.abort()
            async with self._arrival:
                self._arrival.notify_all()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None, counter: str
    ) -> None:
        passed = 0
        while limit is None or passed < limit:
            received = await reader.read(65536 if limit is None else limit - passed)
            await self.passes.wait()
            if not received:
                # The other end of a cut connection may not lose what was sent before.
                await writer.drain()
                writer.close()
                await writer.wait_closed()
                return
            writer.write(received)
            await writer.drain()
            passed += len(received)
            setattr(self, counter, getattr(self, counter) + len(received))
            if self.holds_at is not None and self.up_bytes >= self.holds_at:
                self.holds_at = None
                self.passes.clear()
        self.cuts += 1


@asynccontextmanager
async def cutting_proxy(address: str) -> AsyncIterator[CuttingProxy]:
    """A running proxy before `host:port`."""
    async with CuttingProxy(address) as proxy:
        yield proxy
