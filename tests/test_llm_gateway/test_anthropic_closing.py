"""When the adapter hangs up: its connection must not outlive the interest in the answer, at no moment of its life."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from archer_ws.llm_gateway.types import ChatMessage, MessageRole, StreamChunk
from tests.fakes import anthropic_api as api
from tests.fakes.anthropic_api import adapter_at
from tests.fakes.scripted_server import Abort, Reply, Step, forever, scripted_server

HELLO = [ChatMessage(role=MessageRole.USER, content="Hello")]


async def collect(chunks: AsyncIterator[StreamChunk]) -> list[StreamChunk]:
    return [chunk async for chunk in chunks]


async def is_set(event: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await event.wait()


async def cancelled_after(reply: Reply, chunks_first: int) -> None:
    """Cancel a task that waits in a stream after so many chunks, and wait until the client has left."""
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        reached = asyncio.Event()

        async def consume() -> None:
            seen = 0
            if chunks_first == 0:
                reached.set()
            async for _ in adapter.stream_chat(HELLO):
                seen += 1
                if seen == chunks_first:
                    reached.set()

        consumer = asyncio.create_task(consume())
        exchange = await server.exchange()
        await is_set(reached)
        assert not exchange.client_left.is_set()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        await is_set(exchange.client_left)


async def test_cancel_before_headers_closes_upstream() -> None:
    await cancelled_after(Reply(before_headers=[forever()]), 0)


async def test_cancel_before_first_token_closes_upstream() -> None:
    await cancelled_after(api.stream(forever()), 1)


async def test_cancel_between_tokens_closes_upstream() -> None:
    await cancelled_after(api.stream(api.start(), api.delta("Hel"), forever()), 2)


async def test_cancel_while_an_error_is_being_read_closes_upstream() -> None:
    begun = asyncio.Event()

    def error() -> Iterator[Step]:
        yield b'{"type": "error"'
        begun.set()
        yield forever()

    async with scripted_server(Reply(error(), status=500)) as server, adapter_at(server.url) as adapter:
        call = asyncio.create_task(collect(adapter.stream_chat(HELLO)))
        await is_set(begun)
        for _ in range(50):  # server and client share the loop: by now the client waits for the rest
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await is_set(server.exchanges[0].client_left)


@pytest.mark.parametrize(("steps", "chunks_first"), [([forever()], 1), ([api.start(), api.delta("Hel"), forever()], 2)])
async def test_closing_the_stream_closes_upstream(steps: list[Step], chunks_first: int) -> None:
    async with scripted_server(api.stream(*steps)) as server, adapter_at(server.url) as adapter:
        chunks = adapter.stream_chat(HELLO)
        async with asyncio.timeout(5):
            for _ in range(chunks_first):
                await anext(chunks)
            await chunks.aclose()
            await server.exchanges[0].client_left.wait()


async def test_cancelling_a_chat_closes_upstream() -> None:
    async with scripted_server(Reply([b"{", forever()])) as server, adapter_at(server.url) as adapter:
        call = asyncio.create_task(adapter.chat(HELLO))
        exchange = await server.exchange()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await is_set(exchange.client_left)


async def test_a_stream_ends_at_its_end_marker_even_where_the_body_does_not() -> None:
    reply = api.stream(api.start(), api.delta("Hi"), *api.ending(), forever())
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        async with asyncio.timeout(5):
            chunks = await collect(adapter.stream_chat(HELLO))
        await is_set(server.exchanges[0].client_left)

    assert chunks[-1].finish_reason == "stop"


async def test_a_connection_that_breaks_after_the_end_marker_harms_nothing() -> None:
    reply = api.stream(api.start(), api.delta("Hi"), *api.ending(), Abort())
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        chunks = await collect(adapter.stream_chat(HELLO))

    assert "".join(chunk.content for chunk in chunks) == "Hi"
