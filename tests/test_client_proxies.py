"""The Python client behind a proxy that the environment names: when it tries again, and how a failing one is told."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import websockets

from archer_ws.client import Archer, Backoff, ClientError, Unreachable, connect
from archer_ws.client.dialling import Address
from archer_ws.client.uploads import Uploads
from tests.fakes.scripted_archer import Scripted, answer, listening

LIMIT_S = 60

pytestmark = pytest.mark.usefixtures("no_client_task_left")


def impatient(url: str) -> Archer:
    """A client that connects again without waiting."""
    return connect(url, backoff=Backoff(0, 0))


class Proxy:
    """An HTTP proxy that sends all connections to one server, or has the next one's status to say instead."""

    def __init__(self, url: str) -> None:
        self.replies: list[bytes] = []
        self._port = int(url.rpartition(":")[2])
        self._connections: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if self.replies:
            writer.write(self.replies.pop(0))
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        to_server = await asyncio.open_connection("127.0.0.1", self._port)
        self._connections += [writer, to_server[1]]
        for source, sink in ((reader, to_server[1]), (to_server[0], writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cut(self) -> None:
        """Lose all connections."""
        for each in self._connections:
            each.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()


@asynccontextmanager
async def behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """The proxy of `http://archer.test`, whose server responds to everything."""

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        await answer(connection, request, {})

    async with listening(Scripted(serve)) as url:
        proxy = Proxy(url)
        async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
            use_proxy(monkeypatch, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            yield proxy
            proxy.cut()


def use_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, url)
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "socks_proxy", "SOCKS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("reply", [b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"HTTP/1.1 503 No Server\r\n\r\n", b""])
async def test_a_server_that_is_away_behind_a_proxy_is_connected_to_again(
    monkeypatch: pytest.MonkeyPatch, reply: bytes
) -> None:
    async with asyncio.timeout(LIMIT_S), behind_a_proxy(monkeypatch) as proxy:
        async with impatient("http://archer.test") as client:
            await client.ping()
            proxy.replies = [reply] * 3
            proxy.cut()
            await client.ping()
            assert proxy.replies == []
        proxy.replies = [reply]
        with pytest.raises(Unreachable, match=r"the proxy made no connection to http://archer\.test"):
            async with impatient("http://archer.test"):
                pass


@pytest.mark.parametrize("reply", [b"HTTP/1.1 407 Who Are You\r\n\r\n", b"SSH-2.0-OpenSSH_9.9\r\n"])
async def test_a_proxy_that_refuses_is_told_at_once_with_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch, reply: bytes
) -> None:
    async with asyncio.timeout(LIMIT_S), behind_a_proxy(monkeypatch) as proxy:
        proxy.replies = [reply]
        with pytest.raises(Unreachable, match="the proxy made no connection") as caught:
            async with impatient("http://archer.test"):
                pass
        assert "NO_PROXY" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "url",
    ["socks5://localhost:1", "ftp://localhost:1", "http://me:s3cret@localhost:1/path", "http://a..b", "http://x:y"],
)
async def test_a_proxy_that_can_not_be_used_is_told(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("websockets.asyncio.client.connect_socks_proxy", without_python_socks)
    use_proxy(monkeypatch, url)
    with pytest.raises(Unreachable, match=r"the proxy for http://archer\.test can't be used") as caught:
        async with asyncio.timeout(LIMIT_S), impatient("http://archer.test"):
            pass
    assert "NO_PROXY" in (caught.value.hint or "")
    assert "s3cret" not in str(caught.value)


async def without_python_socks(*_: Any, **__: Any) -> None:
    raise ImportError("connecting through a SOCKS proxy requires python-socks")


@pytest.mark.parametrize("url", ["socks5://localhost:1", "socks://localhost:1", "http://me:s3cret@localhost:port"])
async def test_a_proxy_that_can_not_be_used_for_an_upload_is_told(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    use_proxy(monkeypatch, url)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(ClientError, match=r"the proxy for http://archer\.test can't be used") as caught:
            await Uploads(Address("http://archer.test"), None, LIMIT_S).send(b"x")
    assert "s3cret" not in str(caught.value)
