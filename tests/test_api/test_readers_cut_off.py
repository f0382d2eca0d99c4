"""Server-sent events to a client that takes nothing, when its stream is taken from it."""

import asyncio
import weakref
from typing import Any

from archer_ws.api.streaming.responses import EventStreamResponse
from archer_ws.sessions.manager import HeldStream
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.stream import Stream
from tests.test_sessions.test_retention import make_stream


class StuckClient:
    """A connection whose second message is never taken, until the test lets it."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.is_stuck = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) == 2:
            self.is_stuck.set()
            await self.may_go_on.wait()


async def respond(stream: Stream, client: StuckClient) -> "asyncio.Task[None]":
    response = EventStreamResponse(HeldStream(stream, stream.hold(), duplicate=False))
    task = asyncio.create_task(response({"type": "http"}, client.receive, client.send))
    async with asyncio.timeout(10):
        await client.is_stuck.wait()
    return task


async def test_a_log_taken_from_a_client_that_does_not_read_is_freed_though_its_connection_hangs() -> None:
    client = StuckClient()
    stream = make_stream("s", size=4_000_000)
    answering = await respond(stream, client)
    freed = asyncio.Event()
    assert isinstance(stream.log, MemoryLog)
    weakref.finalize(stream.log, freed.set)
    (hold,) = stream.holds

    hold.cut_off()
    del stream

    async with asyncio.timeout(10):
        await freed.wait()
    assert not answering.done()
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)


async def test_a_client_that_comes_to_after_all_sees_its_answer_break_off_and_never_a_clean_end() -> None:
    client = StuckClient()
    stream = make_stream("s", size=4_000_000)
    answering = await respond(stream, client)
    (hold,) = stream.holds

    hold.cut_off()
    client.may_go_on.set()
    async with asyncio.timeout(10):
        await answering

    assert all(message.get("more_body", True) for message in client.sent)
    assert b"".join(message.get("body", b"") for message in client.sent).count(b"[DONE]") == 0
