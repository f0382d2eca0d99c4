"""A cancel over the socket reaches the provider at every moment of a stream's life (protocol section 6).

The provider is a real server that reports when it saw the connection close.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import websockets

from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_error, ollama_line, ollama_stream
from tests.fakes.rpc_peer import RpcPeer, SocketTransport
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer, forever

pytestmark = pytest.mark.usefixtures("every_reader_stops_when_told")


@asynccontextmanager
async def connected(archer: Archer) -> AsyncIterator[RpcPeer]:
    peer = RpcPeer(SocketTransport(await websockets.connect(f"ws://{archer.address}/api/v1/ws")))
    yield peer
    await peer.close()


async def send(peer: RpcPeer, stream_id: str = "s", **params: Any) -> None:
    """Ask; the question is the stream's id, so that the provider's side can be told apart."""
    messages = [{"role": "user", "content": stream_id}]
    await peer.call("chat/send", stream_id=stream_id, messages=messages, **params)


async def cancelled(peer: RpcPeer, stream_id: str = "s") -> dict[str, Any]:
    """Cancel, and the end that follows within the two seconds that the protocol allows, and some for the machine."""
    assert (await peer.call("stream/cancel", stream_id=stream_id))["outcome"] == "cancelling"
    end = (await peer.ended(stream_id, timeout_s=5)).ended
    assert end is not None
    assert (end["status"], end["reason"]) == ("cancelled", "client")
    return end


async def closed(exchange: Exchange) -> None:
    async with asyncio.timeout(5):
        await exchange.client_left.wait()


async def test_while_queued_nothing_is_sent_upstream(start_archer: StartArcher) -> None:
    async with start_archer(provider_concurrency={"ollama": 1}) as archer, connected(archer) as peer:
        archer.answer(ollama_stream("first", forever()))
        await send(peer, "running")
        await peer.text("running", "first")
        await send(peer)
        await peer.until(lambda: bool(peer.streams["s"].methods))
        await cancelled(peer)
        assert len([e for e in archer.ollama.exchanges if e.path == "/api/chat"]) == 1
        await cancelled(peer, "running")


async def test_before_headers(archer: Archer) -> None:
    archer.answer(ollama_stream(before_headers=[forever()]))
    async with connected(archer) as peer:
        await send(peer)
        exchange = await archer.ollama.exchange(0)
        await cancelled(peer)
        await closed(exchange)


async def test_before_the_first_token(archer: Archer) -> None:
    archer.answer(ollama_stream(forever()))
    async with connected(archer) as peer:
        await send(peer)
        await peer.until(lambda: "stream/started" in peer.streams["s"].methods)
        await cancelled(peer)
        await closed(await archer.ollama.exchange(0))


async def test_between_tokens(archer: Archer) -> None:
    archer.answer(ollama_stream("first ", "second ", forever()))
    async with connected(archer) as peer:
        await send(peer)
        await peer.text("s", "second ")
        end = await cancelled(peer)
        await closed(await archer.ollama.exchange(0))
        assert end["text_bytes"] == len("first second ")


async def test_in_a_retry_s_pause(start_archer: StartArcher) -> None:
    async with start_archer(max_retries=2) as archer, connected(archer) as peer:
        archer.answer(ollama_error("busy", 503, Retry_After="20"))
        await send(peer)
        await peer.until(lambda: "stream/progress" in peer.streams["s"].methods)
        await cancelled(peer)
        assert len([e for e in archer.ollama.exchanges if e.path == "/api/chat"]) == 1


async def test_while_the_client_s_socket_is_blocked(archer: Archer) -> None:
    flood = [ollama_line("x" * 10_000) for _ in range(300)]
    archer.answer(Reply([*flood, forever()], content_type="application/x-ndjson"))
    # This client reads nothing after the handshake: its buffers, and then the server's, fill up.
    async with websockets.connect(f"ws://{archer.address}/api/v1/ws", max_queue=1) as blocked:
        await blocked.send(
            '{"jsonrpc": "2.0", "id": 1, "method": "chat/send",'
            ' "params": {"stream_id": "s", "messages": [{"role": "user", "content": "x"}]}}'
        )
        exchange = await archer.ollama.exchange(0)
        async with connected(archer) as other:
            await other.call("stream/subscribe", stream_id="s")
            await other.until(lambda: len(other.streams["s"].content) == 3_000_000)
            await cancelled(other)
            await closed(exchange)
        blocked.transport.abort()


def chats_of(ollama: ScriptedServer) -> dict[str, Exchange]:
    """The chats that it was asked, by their questions."""
    asked = [exchange for exchange in ollama.exchanges if exchange.path == "/api/chat"]
    return {exchange.json()["messages"][0]["content"]: exchange for exchange in asked}


async def test_a_hundred_streams_and_a_slow_reader_do_not_delay_a_cancel(start_archer: StartArcher) -> None:
    async with start_archer(provider_concurrency={"ollama": 200}) as archer:
        archer.answer(ollama_stream(*["word "] * 200, forever()))
        peers: list[RpcPeer] = []
        for socket in range(4):
            connection = await websockets.connect(f"ws://{archer.address}/api/v1/ws", max_queue=1)
            peer = RpcPeer(SocketTransport(connection))
            peers.append(peer)
            for number in range(25):
                await send(peer, f"s{socket}.{number}")
        while len(asked := chats_of(archer.ollama)) < 100:
            await archer.ollama.exchange(len(archer.ollama.exchanges))
        await cancelled(peers[3], "s3.24")
        await closed(asked.pop("s3.24"))
        assert not any(exchange.client_left.is_set() for exchange in asked.values())
        for peer in peers:
            await peer.close()


@asynccontextmanager
async def deaf_ollama(hung_up_on: asyncio.Event) -> AsyncIterator[str]:
    """An Ollama that says one word, and then neither writes nor closes, whatever its client does.

    `hung_up_on` is set when the client's close has arrived, which it ignores.
    """
    release = asyncio.Event()
    piece = ollama_line("text")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        with suppress(ConnectionError):
            await reader.read()
        hung_up_on.set()
        await release.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        release.set()
        server.close()


async def test_a_provider_that_ignores_the_close_does_not_hold_up_the_end(start_archer: StartArcher) -> None:
    hung_up_on = asyncio.Event()
    async with deaf_ollama(hung_up_on) as url, start_archer(ollama_host=url) as archer, connected(archer) as peer:
        await send(peer)
        await peer.text("s", "text")
        # `cancelled` bounds the wait for the end.
        end = await cancelled(peer)
        assert end["text_bytes"] == len("text")
        async with asyncio.timeout(5):
            await hung_up_on.wait()


async def test_a_cancel_over_rest_ends_a_stream_of_the_socket(archer: Archer) -> None:
    archer.answer(ollama_stream("text", forever()))
    async with connected(archer) as peer:
        await send(peer)
        await peer.text("s", "text")
        assert (await archer.http.delete("/api/v1/streams/s")).json()["outcome"] == "cancelling"
        assert (await peer.ended("s")).ended is not None
        await closed(await archer.ollama.exchange(0))
