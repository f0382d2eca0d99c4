"""Our own connections to providers, beyond what every carrier does: which is used again, which is not, and which is
replaced."""

import asyncio
import gc
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from archer_ws.config import load_settings
from archer_ws.core.limits import PROVIDER_UNREAD_BYTES
from archer_ws.core.standstill import STANDSTILL_S
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.transport.connection import ConnectTimeout, Origin, ProviderConnection, connect
from archer_ws.llm_gateway.transport.parsing import NotHttp
from archer_ws.llm_gateway.transport.pool import StreamPool
from archer_ws.llm_gateway.transport.response import StreamedResponse
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, ChatRequest, MessageRole
from tests.fakes import openai_api
from tests.fakes.raw_http import RawConnection, RawHttpServer, raw_http_server, soon

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsome"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def make_pool(*, connect_s: float = 5, keep_alive_s: float = 60) -> StreamPool:
    return StreamPool(connect_s=connect_s, keep_alive_s=keep_alive_s, tls=None)


@asynccontextmanager
async def closing(pool: StreamPool) -> AsyncIterator[StreamPool]:
    try:
        yield pool
    finally:
        await soon(pool.close())


@pytest.fixture
async def server() -> AsyncIterator[RawHttpServer]:
    async with raw_http_server() as running:
        yield running


@pytest.fixture
async def pool() -> AsyncIterator[StreamPool]:
    async with closing(make_pool()) as made:
        yield made


class Client:
    """Asks one server, answer by answer."""

    def __init__(self, pool: StreamPool, server: RawHttpServer) -> None:
        self.pool = pool
        self.server = server
        self.url = f"http://127.0.0.1:{server.port}/chat"

    def post(self, headers: Mapping[str, str] | None = None, body: bytes = b"{}") -> asyncio.Task[StreamedResponse]:
        return asyncio.create_task(self.pool.post(self.url, body, headers or {}))

    async def answer(
        self, peer: RawConnection | None, wire: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[RawConnection, StreamedResponse]:
        """The answer of these bytes, over the connection of before or, where there is none, a new one."""
        asking = self.post(headers)
        peer = peer or await self.server.next_connection()
        await peer.request()
        peer.send(wire)
        return peer, await soon(asking)

    async def exchange(
        self, peer: RawConnection | None = None, wire: bytes = WHOLE, headers: Mapping[str, str] | None = None
    ) -> RawConnection:
        """An answer that is read to its end, and closed; what it came over."""
        peer, answer = await self.answer(peer, wire, headers)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
        return peer


@pytest.fixture
def client(pool: StreamPool, server: RawHttpServer) -> Client:
    return Client(pool, server)


async def test_answers_at_the_same_time_have_a_connection_each_and_both_are_used_again(client: Client) -> None:
    one, first = await client.answer(None, CHUNKED)
    other, second = await client.answer(None, CHUNKED)
    for peer, answer in ((one, first), (other, second)):
        peer.send(LAST_CHUNK)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
    other, _ = await client.answer(other, CHUNKED)  # the one used last is used next
    one, _ = await client.answer(one, CHUNKED)
    assert len(client.server.connections) == 2


async def test_an_idle_connection_that_is_lost_takes_no_other_with_it(client: Client) -> None:
    kept, first = await client.answer(None, CHUNKED)
    lost, second = await client.answer(None, CHUNKED)
    for peer, answer in ((kept, first), (lost, second)):
        peer.send(LAST_CHUNK)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
    await lost.close()
    async with asyncio.timeout(10):
        while len(client.pool._open) == 2:  # noqa: ASYNC110 - no event tells that the loss was noticed
            await asyncio.sleep(0)
    await client.exchange(kept)
    assert len(client.server.connections) == 2


async def test_servers_do_not_share_connections(pool: StreamPool) -> None:
    async with raw_http_server() as one, raw_http_server() as other:
        first = await Client(pool, one).exchange()
        await Client(pool, other).exchange()
        await Client(pool, one).exchange(first)
        assert (len(one.connections), len(other.connections)) == (1, 1)


@pytest.mark.parametrize("status", ["000", "042", "99"])
async def test_a_status_that_is_none_fails_at_once_instead_of_being_waited_out(client: Client, status: str) -> None:
    asking = client.post()
    peer = await client.server.next_connection()
    await peer.request()
    peer.send(b"HTTP/1.1 %b Nothing\r\nContent-Length: 0\r\n\r\n" % status.encode())
    with pytest.raises(NotHttp):
        await soon(asking)


async def test_an_answer_whole_but_too_large_to_be_taken_unread_leaves_no_deaf_connection(client: Client) -> None:
    # As much as one more read takes beyond what may lie unread.
    size = PROVIDER_UNREAD_BYTES + 1000
    peer, answer = await client.answer(None, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    for _ in range(100):
        await asyncio.sleep(0)
    await answer.aclose()
    assert await peer.client_left()
    await client.exchange()


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nsome",
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nsome",
        WHOLE + b"junk",
        WHOLE + WHOLE,
        CHUNKED + LAST_CHUNK + b"HTTP/1.1 200 OK\r\n",
    ],
    ids=["said so", "HTTP/1.0", "junk behind it", "an answer behind it", "half an answer behind it"],
)
async def test_a_connection_not_fit_for_another_request_is_closed(client: Client, wire: bytes) -> None:
    peer = await client.exchange(wire=wire)
    assert await peer.client_left()
    assert await client.exchange() is not peer


async def test_an_answer_may_end_while_its_request_is_still_being_sent(client: Client) -> None:
    asking = client.post(body=bytes(32 * 1024 * 1024))
    peer = await client.server.next_connection()
    await soon(peer.reader.readuntil(b"\r\n\r\n"))
    peer.send(b"HTTP/1.1 413 Content Too Large\r\n\r\nless, please")
    peer.writer.write_eof()
    answer = await soon(asking)
    assert (answer.status, await soon(answer.read())) == (413, b"less, please")
    await answer.aclose()


async def test_what_comes_unasked_on_an_idle_connection_closes_it(client: Client) -> None:
    peer = await client.exchange()
    peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert await peer.client_left()
    assert await client.exchange() is not peer


def connections_in_memory() -> int:
    gc.collect()
    return sum(isinstance(found, ProviderConnection) for found in gc.get_objects())


async def test_a_connection_that_is_gone_leaves_nothing_behind(client: Client) -> None:
    before = connections_in_memory()
    await (await client.exchange()).close()
    await client.exchange()
    assert connections_in_memory() == before + 1
    await soon(client.pool.close())
    assert connections_in_memory() == before


async def test_a_connection_is_closed_when_it_was_idle_for_too_long_but_not_while_it_is_used(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    time = loop.time

    async def a_minute_later() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(loop, "time", lambda: time() + 61)
            for _ in range(3):
                await asyncio.sleep(0)

    peer = await client.exchange()
    _, answer = await client.answer(peer, CHUNKED)
    await a_minute_later()
    peer.send(LAST_CHUNK)
    assert await soon(answer.read()) == b"some"
    await answer.aclose()

    await a_minute_later()
    assert await peer.client_left()


async def test_each_connection_is_closed_when_its_own_time_is_over(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    time, passed = loop.time, 0
    monkeypatch.setattr(loop, "time", lambda: time() + passed)

    async def later(seconds: int) -> None:
        nonlocal passed
        passed += seconds
        for _ in range(3):
            await asyncio.sleep(0)

    used, first = await client.answer(None, CHUNKED)
    late, second = await client.answer(None, CHUNKED)
    early = await client.exchange()
    for peer, answer in ((late, second), (used, first)):
        await later(20)
        peer.send(LAST_CHUNK)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
    await later(21)
    assert await early.client_left()
    assert await client.exchange(used) is used
    await later(20)
    assert await late.client_left()
    await later(41)
    assert await used.client_left()

    # So is one that is made when all others were lost.
    await (await client.exchange()).close()
    last = await client.exchange()
    await later(61)
    assert await last.client_left()


async def test_a_request_is_sent_as_it_was_given(client: Client) -> None:
    client.url += "?api-version=1&x=%20"
    asking = client.post({"Content-Type": "application/json", "X-Name": "é"}, b'{"a": 1}')
    peer = await client.server.next_connection()
    head, _, body = (await peer.request()).partition(b"\r\n\r\n")
    assert body == b'{"a": 1}'
    assert head.decode().split("\r\n") == [
        "POST /chat?api-version=1&x=%20 HTTP/1.1",
        f"Host: 127.0.0.1:{client.server.port}",
        "Content-Length: 8",
        "Content-Type: application/json",
        "X-Name: é",
    ]
    peer.send(WHOLE)
    await (await soon(asking)).aclose()


async def test_a_url_without_a_path_asks_for_the_root(client: Client) -> None:
    client.url = client.url.removesuffix("/chat")
    asking = client.post()
    peer = await client.server.next_connection()
    assert (await peer.request()).startswith(b"POST / HTTP/1.1\r\n")
    peer.send(WHOLE)
    await (await soon(asking)).aclose()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
async def test_a_host_may_be_an_ipv6_address(pool: StreamPool) -> None:
    async with raw_http_server("::1") as server:
        client = Client(pool, server)
        client.url = client.url.replace("127.0.0.1", "[::1]")
        asking = client.post()
        peer = await server.next_connection()
        assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in await peer.request()
        peer.send(WHOLE)
        assert await soon((await soon(asking)).read()) == b"some"


async def test_a_connection_that_is_not_made_in_time_is_told(
    server: RawHttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("aiohappyeyeballs.start_connection", silent)
    async with closing(make_pool(connect_s=0.01)) as pool:
        with pytest.raises(ConnectTimeout):
            await soon(Client(pool, server).post())


async def test_close_is_over_only_when_the_connections_are_gone(client: Client) -> None:
    await client.exchange()
    closed = asyncio.create_task(client.pool.close())
    await asyncio.sleep(0)  # aborted, and not yet lost
    assert not closed.done()
    await soon(closed)


async def test_a_kept_connection_that_is_lost_before_a_byte_came_is_replaced_at_once(client: Client) -> None:
    kept = await client.exchange()
    asking = client.post(body=b"asked")
    said = await kept.request()
    await kept.close()
    fresh = await client.server.next_connection()
    assert await fresh.request() == said
    fresh.send(WHOLE)
    answer = await soon(asking)
    assert await soon(answer.read()) == b"some"
    await answer.aclose()
    await client.exchange(fresh)


async def test_a_kept_connection_that_is_reset_is_replaced_as_well(client: Client) -> None:
    kept = await client.exchange()
    asking = client.post()
    await kept.request()
    # With nothing to send and no time to linger, the close is a reset.
    kept.writer.transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    kept.writer.transport.abort()
    fresh = await client.server.next_connection()
    await fresh.request()
    fresh.send(WHOLE)
    await (await soon(asking)).aclose()


async def test_a_connection_that_is_made_while_the_server_stands_still_is_in_time() -> None:
    limit_s = 0.2
    async with raw_http_server() as server:
        connecting = asyncio.create_task(connect(Origin("127.0.0.1", server.port, None), limit_s))
        await asyncio.sleep(0)
        time.sleep(limit_s + STANDSTILL_S + 0.1)  # noqa: ASYNC251 - it is the event loop that stands still
        (await soon(connecting)).abort()


async def test_what_replaced_a_lost_connection_is_not_replaced_itself(client: Client) -> None:
    kept = await client.exchange()
    asking = client.post()
    await kept.request()
    await kept.close()
    fresh = await client.server.next_connection()
    await fresh.request()
    await fresh.close()
    with pytest.raises(ConnectionResetError):
        await soon(asking)
    assert len(client.server.connections) == 2


@pytest.mark.parametrize("wire", [b"H", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 102 Processing\r\n\r\n"])
async def test_a_kept_connection_that_began_to_answer_is_not_replaced(client: Client, wire: bytes) -> None:
    kept = await client.exchange()
    asking = client.post()
    await kept.request()
    kept.send(wire)
    await kept.close()
    with pytest.raises(ConnectionResetError):
        await soon(asking)
    assert len(client.server.connections) == 1


async def test_a_kept_connection_that_we_close_is_not_replaced(client: Client) -> None:
    kept = await client.exchange()
    asking = client.post()
    await kept.request()
    await soon(client.pool.close())
    with pytest.raises(ConnectionResetError):
        await soon(asking)
    assert len(client.server.connections) == 1


async def test_a_request_cancelled_while_its_connection_is_replaced_leaves_the_new_one(client: Client) -> None:
    kept = await client.exchange()
    asking = client.post()
    await kept.request()
    await kept.close()
    fresh = await client.server.next_connection()
    await fresh.request()
    asking.cancel()
    assert await fresh.client_left()
    assert asking.cancelled()


async def test_a_replaced_connection_is_no_retry_and_nobody_is_told() -> None:
    told: list[str] = []
    async with raw_http_server() as server:
        settings = load_settings(
            env_file=None,
            llm_provider="openai",
            openai_api_key="sk-test",
            openai_base_url=f"http://127.0.0.1:{server.port}/v1",
            max_retries=0,
        )
        router = LLMRouter(settings)
        request = ChatRequest(messages=[ChatMessage(role=MessageRole.USER, content="Hi")], model="gpt-test")

        async def asked() -> str:
            options = ChatOptions(on_progress=lambda phase, _: told.append(phase))
            return "".join([chunk.content async for chunk in router.stream_chat(request, options=options)])

        events = b"".join((openai_api.delta("Hello"), *openai_api.ending()))
        reply = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(events)
        asking = asyncio.create_task(asked())
        kept = await server.next_connection()
        await kept.request()
        kept.send(reply + events)
        assert await soon(asking) == "Hello"
        assert "retrying" not in told
        before = list(told)

        asking = asyncio.create_task(asked())
        await kept.request()
        await kept.close()
        fresh = await server.next_connection()
        await fresh.request()
        fresh.send(reply + events)
        assert await soon(asking) == "Hello"
        assert told[len(before) :] == before
        await soon(router.aclose())
