"""Deltas that go past ASGI: only while the response's task waits for nothing else and the connection takes them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from archer_ws.api.http.direct import DIRECT
from archer_ws.api.streaming.responses import EventStreamResponse
from archer_ws.api.streaming.sse import encode_event
from archer_ws.sessions.manager import HeldStream
from archer_ws.sessions.streams.events import Event
from archer_ws.sessions.streams.stream import Stream
from tests.test_sessions.test_retention import make_stream


@dataclass
class Connection:
    """Both ways to a client: `send`, which may be stuck, and the direct one, which may not be ready."""

    sent: list[bytes] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    #: Both, in the order in which they went.
    body: bytes = b""
    is_open: bool = True
    took: asyncio.Event = field(default_factory=asyncio.Event)
    flows: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.flows.set()

    def is_ready(self) -> bool:
        return self.is_open

    def write(self, block: bytes) -> None:
        assert self.is_open
        self.written.append(block)
        self.body += block

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.flows.wait()
        self.sent.append(message.get("body", b""))
        self.body += message.get("body", b"")
        self.took.set()

    @property
    def text(self) -> str:
        """What the client has, put together."""
        data = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: {")]
        return "".join(json.loads(each)["content"] for each in data)


@asynccontextmanager
async def following(
    stream: Stream, client: Connection, *, is_ours: bool = True, encode: Callable[[Event], bytes] = encode_event
) -> AsyncIterator["asyncio.Task[None]"]:
    """A response that has sent its head, and waits."""
    response = EventStreamResponse(HeldStream(stream, stream.hold(), duplicate=False), encode=encode)
    scope: dict[str, Any] = {"type": "http", "extensions": {DIRECT: lambda: client} if is_ours else {}}
    task = asyncio.create_task(response(scope, client.receive, client.send))
    await settle()
    try:
        yield task
    finally:
        client.flows.set()
        client.left.set()
        await asyncio.wait((task,))


async def settle() -> None:
    """Let everybody come to rest."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def stream() -> Stream:
    return make_stream("s", size=0)


async def test_a_delta_is_written_in_the_call_that_puts_it_into_the_log(stream: Stream) -> None:
    client = Connection()
    async with following(stream, client):
        sent = len(client.sent)
        for text in (b"one ", b"two"):
            stream.log.append_text("content", text)
        assert [json.loads(each.partition(b"data: ")[2])["content"] for each in client.written] == ["one ", "two"]
        await settle()
        assert len(client.sent) == sent


async def test_under_another_server_all_goes_by_send(stream: Stream) -> None:
    client = Connection()
    async with following(stream, client, is_ours=False):
        stream.log.append_text("content", b"one ")
        stream.log.append_text("content", b"two")
        await settle()
        assert client.text == "one two"
        assert not client.written


async def test_a_follower_whose_connection_is_full_stalls_no_other_and_reads_on_from_the_log(stream: Stream) -> None:
    stalled, other = Connection(), Connection()
    async with following(stream, stalled), following(stream, other):
        stream.log.append_text("content", b"a")
        stalled.is_open = False
        stalled.flows.clear()
        for number in range(50):
            stream.log.append_text("content", b"%d," % number)
            if number % 10 == 0:
                await settle()
        assert len(other.written) == 51
        assert len(stalled.written) == 1

        stalled.is_open = True
        stream.log.append_text("content", b"z")
        assert len(stalled.written) == 1, "behind what waits"
        stalled.flows.set()
        await settle()
        stream.log.append_text("content", b"!")

        assert stalled.text == other.text == "a" + "".join(f"{number}," for number in range(50)) + "z!"
        assert stalled.written[-1].count(b"!") == 1


async def test_text_that_is_longer_than_a_delta_comes_whole_and_in_order(stream: Stream) -> None:
    client, long = Connection(), b"0123456789" * 5000
    async with following(stream, client):
        stream.log.append_text("content", long)
        stream.log.append_text("content", b"end")
        await settle()
        assert client.text == long.decode() + "end"


async def test_an_encoder_s_failure_ends_its_own_response_and_no_other(stream: Stream) -> None:
    def broken(event: Event) -> bytes:
        raise KeyError("a defect")

    defective, other = Connection(), Connection()
    async with following(stream, defective, encode=broken) as failing, following(stream, other) as going_on:
        stream.log.append_text("content", b"text")
        assert other.text == "text"
        await asyncio.wait((failing,), timeout=10)
        assert isinstance(failing.exception(), KeyError)
        assert not going_on.done()


async def test_nothing_is_written_once_the_client_has_left(stream: Stream) -> None:
    client = Connection()
    async with following(stream, client) as task:
        client.left.set()
        await asyncio.wait((task,), timeout=10)
        stream.log.append_text("content", b"text")
        assert not client.written
