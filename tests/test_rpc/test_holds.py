"""What a connection keeps: the streams it follows, and those it left while they run; nothing of what has ended."""

import asyncio
import gc
import weakref

import pytest

from archer_ws.llm_gateway.types import ChatOptions
from archer_ws.sessions.streams.stream import Stream
from tests.fakes.rpc_peer import RpcPeer
from tests.test_rpc.conftest import Server

HELLO = [{"role": "user", "content": "hello"}]


async def begin(server: Server, peer: RpcPeer, name: str, **fields: object) -> Stream:
    await peer.call("chat/send", stream_id=name, messages=HELLO, **fields)
    return server.manager.find("me", name)


async def finish(server: Server, stream: Stream, number: int = 0) -> None:
    call = await server.gateway.call(number)
    call.say("text")
    call.finish()
    async with asyncio.timeout(10):
        await stream.wait_ended()
    call.options = ChatOptions()  # The one it had names the stream.


def forget(server: Server, stream: Stream) -> None:
    """Have its retention end."""
    table = server.manager._table
    table._forget(table._ended[stream])


async def until_freed(freed: asyncio.Event) -> None:
    gc.collect()
    async with asyncio.timeout(10):
        await freed.wait()


def freeing_of(stream: Stream) -> asyncio.Event:
    freed = asyncio.Event()
    weakref.finalize(stream, freed.set)
    return freed


async def test_a_stream_left_while_it_ran_is_kept_by_nobody_once_it_has_ended(server: Server) -> None:
    peer = await server.connect()
    stream = await begin(server, peer, "s")
    await peer.call("stream/unsubscribe", stream_id="s")
    assert stream.is_held, "leaving is not unsubscribing"

    await finish(server, stream)
    freed = freeing_of(stream)
    forget(server, stream)
    del stream

    await until_freed(freed)
    assert await peer.call("ping") == {}


async def test_unsubscribing_after_the_end_gives_the_stream_up(memory_server: Server) -> None:
    server = memory_server
    server.capacity = 1
    peer = await server.connect()
    stream = await begin(server, peer, "s")
    peer._reading.cancel()  # From now on it takes nothing: the end can't be delivered.
    await finish(server, stream)
    (connection,) = server.connections
    assert stream.is_held

    connection.context.stop_delivering("s")

    assert not stream.is_held


async def test_what_the_client_has_seen_to_its_end_is_not_kept_for_it(server: Server) -> None:
    peer = await server.connect()
    stream = await begin(server, peer, "s")
    await finish(server, stream)
    seen = await peer.ended("s")

    await peer.call("stream/subscribe", stream_id="s", after=seen.head)
    assert await peer.call("ping") == {}

    assert not stream.is_held


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_delivered_streams_are_given_up_while_the_connection_lives(server: Server, is_streaming: bool) -> None:
    peer = await server.connect()
    stream = await begin(server, peer, "s", stream=is_streaming)
    await finish(server, stream)
    assert (await peer.ended("s")).ended is not None
    freed = freeing_of(stream)
    forget(server, stream)
    del stream

    await until_freed(freed)


async def test_a_peer_that_does_not_read_is_told_to_come_back_when_its_stream_is_taken(memory_server: Server) -> None:
    server = memory_server
    peer = await server.connect()
    stream = await begin(server, peer, "s")
    (hold,) = stream.holds
    await peer.call("stream/unsubscribe", stream_id="s")

    hold.cut_off()

    async with asyncio.timeout(10):
        await peer.closed.wait()
    assert peer.transport.close_code == 4002  # type: ignore[attr-defined]
    assert not stream.is_held


async def test_an_interrupted_stream_is_not_kept_by_the_one_that_took_its_place(server: Server) -> None:
    await server.services.conversations._store.create("me", "talk", None, None)
    peer = await server.connect()
    old = await begin(server, peer, "old", session_id="talk")
    await server.gateway.call(0)
    await begin(server, peer, "new", session_id="talk", on_busy="interrupt")
    await server.gateway.call(1)
    await peer.ended("old")
    server.gateway.calls[0].options = ChatOptions()
    freed = freeing_of(old)
    forget(server, old)
    del old

    await until_freed(freed)
