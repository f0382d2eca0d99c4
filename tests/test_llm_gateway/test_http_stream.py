"""The connections to providers: which is used again, which is not, and who is asked by way of whom."""

import asyncio
import base64
import gc
import gzip
import socket
import warnings
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import aiohttp
import pytest

from archer_ws.core.limits import PROVIDER_UNREAD_BYTES
from archer_ws.llm_gateway.transport.answer import StreamedAnswer
from archer_ws.llm_gateway.transport.connection import ConnectError, Connection, ConnectTimeout
from archer_ws.llm_gateway.transport.parsing import NotHttp
from archer_ws.llm_gateway.transport.pool import StreamPool
from tests.fakes.raw_http import RawConnection, RawHttpServer, raw_http_server, soon
from tests.fakes.scripted_server import Reply, scripted_server

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsome"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def make_pool(*, connect_s: float = 5, keep_alive_s: float = 60, proxy: str | None = None) -> StreamPool:
    return StreamPool(connections=4, connect_s=connect_s, keep_alive_s=keep_alive_s, proxy=proxy, tls=None)


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

    def post(self, headers: Mapping[str, str] | None = None, body: bytes = b"{}") -> asyncio.Task[StreamedAnswer]:
        return asyncio.create_task(self.pool.post(self.url, body, headers or {}))

    async def answer(
        self, peer: RawConnection | None, wire: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[RawConnection, StreamedAnswer]:
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


async def test_a_connection_whose_answer_was_read_to_its_end_is_used_again(client: Client) -> None:
    peer = await client.exchange()
    await client.exchange(peer, CHUNKED + LAST_CHUNK)
    await client.exchange(peer)
    assert len(client.server.connections) == 1


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


async def test_servers_do_not_share_connections(pool: StreamPool) -> None:
    async with raw_http_server() as one, raw_http_server() as other:
        first = await Client(pool, one).exchange()
        await Client(pool, other).exchange()
        await Client(pool, one).exchange(first)
        assert (len(one.connections), len(other.connections)) == (1, 1)


async def test_one_principals_answer_never_comes_over_a_connection_that_carried_anothers(
    pool: StreamPool, server: RawHttpServer
) -> None:
    peers: dict[str, RawConnection] = {}
    for principal in ("ada", "bob", "ada", "bob"):
        asking = asyncio.create_task(pool.post(f"http://127.0.0.1:{server.port}/", b"{}", {}, principal=principal))
        peer = peers.get(principal) or await server.next_connection()
        peers[principal] = peer
        await peer.request()
        peer.send(WHOLE)
        answer = await soon(asking)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
    assert peers["ada"] is not peers["bob"]
    for peer in peers.values():
        # What nobody asked for closes its own principal's connection.
        peer.send(WHOLE)
        assert await peer.client_left()
    assert not pool._idle


@pytest.mark.parametrize("status", ["000", "042", "99"])
async def test_a_status_that_is_none_fails_at_once_instead_of_being_waited_out(client: Client, status: str) -> None:
    asking = client.post()
    peer = await client.server.next_connection()
    await peer.request()
    peer.send(b"HTTP/1.1 %b Nothing\r\nContent-Length: 0\r\n\r\n" % status.encode())
    with pytest.raises(NotHttp):
        await soon(asking)


async def test_a_connection_whose_answer_was_left_before_its_end_is_closed_at_once(client: Client) -> None:
    peer, answer = await client.answer(None, CHUNKED)
    assert await soon(answer.read_some()) == b"some"
    await answer.aclose()
    assert await peer.client_left()
    assert await client.exchange() is not peer


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


async def test_a_connection_that_we_asked_to_close_is_not_used_again_whatever_the_server_says(client: Client) -> None:
    peer = await client.exchange(headers={"Connection": "close"})
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


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(client: Client) -> None:
    peer = await client.exchange()
    await peer.close()
    assert await peer.client_left()
    assert await client.exchange() is not peer


def connections_in_memory() -> int:
    gc.collect()
    return sum(isinstance(found, Connection) for found in gc.get_objects())


async def test_a_connection_that_is_gone_leaves_nothing_behind(client: Client) -> None:
    before = connections_in_memory()
    await client.exchange()
    assert connections_in_memory() == before + 1
    await soon(client.pool.close())
    assert connections_in_memory() == before


async def test_an_idle_connection_is_closed_after_a_while(server: RawHttpServer) -> None:
    async with closing(make_pool(keep_alive_s=0.01)) as pool:
        client = Client(pool, server)
        peer = await client.exchange()
        assert await peer.client_left()
        assert await client.exchange() is not peer


async def test_a_connection_that_is_in_use_again_is_not_idle(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def noted(delay: float, *rest: object, **more: object) -> asyncio.TimerHandle:
        timer = call_later(delay, *rest, **more)  # type: ignore[arg-type] # handed on as it came
        if delay == 60:
            timers.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", noted)
    peer = await client.exchange()
    assert [timer.cancelled() for timer in timers] == [False]
    _, answer = await client.answer(peer, CHUNKED)
    assert [timer.cancelled() for timer in timers] == [True]
    await answer.aclose()


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


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({}, b"Authorization: Basic " + base64.b64encode("m e:p@ss é".encode())),
        ({"authorization": "Bearer key"}, b"authorization: Bearer key"),
    ],
    ids=["alone", "beside a header"],
)
async def test_a_user_in_the_url_is_told_unless_a_header_tells_another(
    client: Client, headers: dict[str, str], sent: bytes
) -> None:
    client.url = client.url.replace("127.0.0.1", "m%20e:p%40ss%20%C3%A9@127.0.0.1")
    asking = client.post(headers)
    peer = await client.server.next_connection()
    lines = (await peer.request()).split(b"\r\n")
    assert [line for line in lines if line.lower().startswith(b"authorization")] == [sent]
    assert f"Host: 127.0.0.1:{client.server.port}".encode() in lines
    peer.send(WHOLE)
    await (await soon(asking)).aclose()


@pytest.mark.parametrize("text", ["a\r\nX-Other: b", "a\nb", "a\rb", "a\0b"])
async def test_a_control_character_in_a_header_is_refused_before_anything_is_sent(client: Client, text: str) -> None:
    with pytest.raises(ConnectError, match="control character"):
        await soon(client.post({"X-Key": text}))
    assert not client.server.connections


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/x", "ftp://127.0.0.1/x", "http://[::1/x", "http://a..é/x"])
async def test_what_is_no_http_address_can_not_be_connected_to(pool: StreamPool, url: str) -> None:
    with pytest.raises(ConnectError, match="no HTTP address"):
        await soon(pool.post(url, b"{}", {}))


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


async def test_a_request_that_is_cancelled_before_its_answer_leaves_the_connection(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    asking = client.post()
    peer = await client.server.next_connection()
    await peer.request()
    asking.cancel()
    assert await peer.client_left()
    assert asking.cancelled()
    del asking
    gc.collect()  # "exception was never retrieved" is told then
    assert not caplog.records
    await client.exchange()


async def test_a_connection_that_is_not_made_in_time_is_told(
    server: RawHttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("aiohappyeyeballs.start_connection", silent)
    async with closing(make_pool(connect_s=0.01)) as pool:
        with pytest.raises(ConnectTimeout):
            await soon(Client(pool, server).post())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("by_proxy", [False, True])
async def test_a_redirect_is_an_answer_and_takes_nothing_anywhere(status: int, by_proxy: bool) -> None:
    async with (
        scripted_server(Reply([b"there"])) as there,
        scripted_server(Reply([b"here"], status=status, headers={"location": f"{there.url}/moved"})) as here,
        closing(make_pool(proxy=here.url if by_proxy else None)) as pool,
    ):
        answer = await soon(pool.post(f"{here.url}/chat", b"{}", {"Content-Type": "application/json"}))
        assert (answer.status, await soon(answer.read())) == (status, b"here")
        await answer.aclose()
        assert (len(here.exchanges), there.exchanges) == (1, [])


async def test_with_a_proxy_it_is_the_one_that_is_asked() -> None:
    async with scripted_server() as proxy, closing(make_pool(proxy=proxy.url)) as pool:
        proxy.enqueue(Reply([b"some", b" text"], headers={"X-By": "proxy"}))
        answer = await soon(pool.post("http://provider.invalid/chat?x=1", b"{}", {"Authorization": "Bearer key"}))
        assert (answer.status, answer.headers["x-by"], answer.content_type) == (200, "proxy", "application/json")
        assert await soon(answer.read()) == b"some text"
        assert await soon(answer.read_some()) == b""
        await answer.aclose()
    asked = proxy.exchanges[0]
    assert (asked.method, asked.path, asked.body) == ("POST", "http://provider.invalid/chat?x=1", b"{}")
    assert (asked.headers["host"], asked.headers["authorization"]) == ("provider.invalid", "Bearer key")


async def test_what_a_proxy_gives_compressed_does_not_seem_compressed_still() -> None:
    async with scripted_server() as proxy, closing(make_pool(proxy=proxy.url)) as pool:
        proxy.enqueue(Reply([gzip.compress(b"some text")], headers={"Content-Encoding": "gzip"}))
        answer = await soon(pool.post("http://provider.invalid/chat", b"{}", {}))
        assert await soon(answer.read()) == b"some text"
        assert "content-encoding" not in answer.headers
        await answer.aclose()


async def test_leaving_an_answer_of_a_proxy_closes_its_connection() -> None:
    async with raw_http_server() as proxy, closing(make_pool(proxy=f"http://127.0.0.1:{proxy.port}")) as pool:
        peer, answer = await Client(pool, proxy).answer(None, CHUNKED)
        assert await soon(answer.read_some()) == b"some"
        await answer.aclose()
        assert await peer.client_left()


async def test_a_proxy_that_is_not_there_is_told() -> None:
    async with raw_http_server() as proxy:
        pass
    async with closing(make_pool(proxy=f"http://127.0.0.1:{proxy.port}")) as pool:
        with pytest.raises(aiohttp.ClientConnectionError):
            await soon(pool.post("http://provider.invalid/chat", b"{}", {}))


async def test_a_control_character_is_refused_before_a_proxy_is_told() -> None:
    async with scripted_server() as proxy, closing(make_pool(proxy=proxy.url)) as pool:
        with pytest.raises(aiohttp.ClientConnectionError):
            await soon(pool.post("http://provider.invalid/chat", b"{}", {"X-Key": "a\r\nX-Other: b"}))
        assert not proxy.exchanges


async def test_close_closes_idle_connections_and_busy_ones(client: Client) -> None:
    busy, answer = await client.answer(None, CHUNKED)
    idle = await client.exchange()
    waiting = client.post()
    await idle.request()
    asked = await client.exchange()
    assert await soon(answer.read_some()) == b"some"
    reading = asyncio.create_task(answer.read_some())
    await soon(client.pool.close())
    for peer in (busy, idle, asked):
        assert await peer.client_left()
    for left in (reading, waiting):
        with pytest.raises(ConnectionResetError):
            await soon(left)
    await answer.aclose()
    await soon(client.pool.close())


async def test_close_is_over_only_when_the_connections_are_gone(client: Client) -> None:
    await client.exchange()
    closed = asyncio.create_task(client.pool.close())
    await asyncio.sleep(0)  # aborted, and not yet lost
    assert not closed.done()
    await soon(closed)


async def test_a_pool_whose_loop_is_closed_can_be_closed_from_another(server: RawHttpServer) -> None:
    async def left_open() -> StreamPool:
        pool = make_pool()
        answer = await soon(pool.post(f"http://127.0.0.1:{server.port}/chat", b"{}", {}))
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
        return pool

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # that its connection was left open is the point
        with ThreadPoolExecutor(1) as thread:
            leaving = asyncio.wrap_future(thread.submit(asyncio.run, left_open()))
            peer = await server.next_connection()
            await peer.request()
            peer.send(WHOLE)
            pool = await soon(leaving)
        await soon(pool.close())
        del pool, leaving
        await asyncio.sleep(0)  # the loop lets go of them as well
        gc.collect()
    assert await peer.client_left()
