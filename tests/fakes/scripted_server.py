"""A real HTTP/1.1 server on loopback that plays a provider by script.

It speaks just enough HTTP to answer one request a connection, and tells what no mock can: when it saw the client
close the connection, and how much it had written by then.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.connections import Connections


@dataclass
class Exchange:
    """One request as the server saw it, and what became of its connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    #: Set when the client closed the connection before the reply was complete.
    client_left: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when the reply was written whole.
    replied: asyncio.Event = field(default_factory=asyncio.Event)

    def json(self) -> Any:
        """The request's body, decoded."""
        return json.loads(self.body)


class Wait:
    """A step of a reply: hold back until the event is set (or until the client leaves)."""

    def __init__(self, event: asyncio.Event) -> None:
        self.event = event


class Abort:
    """A step of a reply: cut the connection without ending the body."""


def forever() -> Wait:
    """A step that lasts until the client leaves."""
    return Wait(asyncio.Event())


Step = bytes | Wait | Abort


@dataclass
class Reply:
    """What to answer. `steps` are written in turn, each its own chunk; `before_headers` are waited for first."""

    steps: Iterable[Step] = ()
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    before_headers: Iterable[Wait | Abort] = ()

    @classmethod
    def of_json(cls, value: object, status: int = 200, **headers: str) -> "Reply":
        """A whole JSON body; underscores in header names stand for dashes."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls([json.dumps(value).encode()], status=status, headers=named)


Responder = Callable[[Exchange], Reply | Awaitable[Reply]]


class ScriptedServer:
    """Answers from a queue of replies, or by a responder when the queue is empty."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.responder: Responder | None = None
        self.open_connections = 0
        self._replies: list[Reply] = []
        self._arrival = asyncio.Condition()
        self._connections = Connections(self._accept)
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`, without a trailing slash."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def enqueue(self, *replies: Reply) -> None:
        """Answer the next requests with these, in order."""
        self._replies.extend(replies)

    async def exchange(self, number: int = 0, timeout_s: float = 10, *, path: str | None = None) -> Exchange:
        """The request of that number (from 0), of all or of those with this path, once it has arrived."""

        def found() -> list[Exchange]:
            return [each for each in self.exchanges if path in (None, each.path)]

        async with asyncio.timeout(timeout_s), self._arrival:
            await self._arrival.wait_for(lambda: len(found()) > number)
        return found()[number]

    async def __aenter__(self) -> "ScriptedServer":
        self._server = await asyncio.start_server(self._connections.accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._connections.end()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            await self._serve(reader, writer)
        finally:
            self.open_connections -= 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = await _read_request(reader)
        async with self._arrival:
            self.exchanges.append(exchange)
            self._arrival.notify_all()
        if self._replies:
            reply = self._replies.pop(0)
        elif self.responder is not None:
            answer = self.responder(exchange)
            reply = answer if isinstance(answer, Reply) else await answer
        else:
            reply = Reply.of_json({"error": "nothing scripted"}, status=500)
        departure = asyncio.create_task(reader.read(1))
        speaking = asyncio.create_task(_speak(writer, reply))
        try:
            await asyncio.wait({departure, speaking}, return_when=asyncio.FIRST_COMPLETED)
            if speaking.done() and speaking.exception() is None:
                exchange.replied.set()
            else:
                exchange.client_left.set()
        finally:
            for task in (departure, speaking):
                task.cancel()
            await asyncio.gather(departure, speaking, return_exceptions=True)


async def _speak(writer: asyncio.StreamWriter, reply: Reply) -> None:
    for pause in reply.before_headers:
        if isinstance(pause, Abort):
            writer.transport.abort()
            return
        await pause.event.wait()
    head = {"content-type": reply.content_type, "transfer-encoding": "chunked", "connection": "close", **reply.headers}
    lines = [f"HTTP/1.1 {reply.status} Scripted", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    await writer.drain()
    for step in reply.steps:
        match step:
            case bytes():
                if step:
                    writer.write(b"%x\r\n%b\r\n" % (len(step), step))
                await writer.drain()
            case Wait(event=event):
                await event.wait()
            case Abort():
                writer.transport.abort()
                return
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> Exchange:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {}
    for line in head[1:]:
        if ":" in line:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
    body = b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif length := int(headers.get("content-length", 0)):
        body = await reader.readexactly(length)
    return Exchange(method, path, headers, body)


@asynccontextmanager
async def scripted_server(*replies: Reply, responder: Responder | None = None) -> AsyncIterator[ScriptedServer]:
    """A running server with these replies queued."""
    async with ScriptedServer() as server:
        server.enqueue(*replies)
        server.responder = responder
        yield server
