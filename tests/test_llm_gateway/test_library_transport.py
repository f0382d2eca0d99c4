"""Requests over httpx's transport: the way through a proxy, and what is left when a principal has gone."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from archer_ws.config import load_settings
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.transport.carrier import Carrier, CarrierName
from archer_ws.llm_gateway.transport.environment import Proxy, Way
from archer_ws.llm_gateway.transport.library import LibraryTransport, ProxyRefused
from archer_ws.llm_gateway.transport.per_loop import carrier_on
from archer_ws.llm_gateway.transport.pool import StreamPool
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole
from tests.fakes import openai_api
from tests.fakes.raw_http import raw_http_server, soon
from tests.fakes.scripted_server import Reply, scripted_server

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsome"


@asynccontextmanager
async def through(
    proxy: str | None, *, tls: ssl.SSLContext | None = None, keep_alive_s: float = 60
) -> AsyncIterator[LibraryTransport]:
    carrier = LibraryTransport(
        httpx2, connections=4, connect_s=5, keep_alive_s=keep_alive_s, proxy=proxy, tls=tls
    )  # fmt: skip
    try:
        yield carrier
    finally:
        await soon(carrier.close())


async def test_it_is_the_proxy_that_is_asked_and_shown_its_credential() -> None:
    async with scripted_server() as proxy, through(proxy.url.replace("http://", "http://ada:p%40ss@")) as carrier:
        proxy.enqueue(Reply([b"some", b" text"], headers={"X-By": "proxy"}))
        answer = await soon(carrier.post("http://provider.invalid/chat?x=1", b"{}", {"Authorization": "Bearer key"}))
        assert (answer.status, answer.headers["x-by"], answer.content_type) == (200, "proxy", "application/json")
        assert await soon(answer.read()) == b"some text"
        await answer.aclose()
    asked = proxy.exchanges[0]
    assert (asked.method, asked.path, asked.body) == ("POST", "http://provider.invalid/chat?x=1", b"{}")
    assert (asked.headers["host"], asked.headers["authorization"]) == ("provider.invalid", "Bearer key")
    assert asked.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'ada:p@ss').decode()}"


async def test_through_a_tunnel_the_proxy_sees_neither_request_nor_key() -> None:
    tls = ssl.create_default_context()
    async with raw_http_server() as proxy, through(f"http://127.0.0.1:{proxy.port}", tls=tls) as carrier:
        asking = asyncio.create_task(carrier.post("https://provider.invalid/chat", b"{}", {"Authorization": "key"}))
        peer = await proxy.next_connection()
        head = await peer.request()
        assert head.startswith(b"CONNECT provider.invalid:443 HTTP/1.1\r\n")
        assert b"key" not in head
        peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        assert (await soon(peer.reader.readexactly(3)))[:2] == b"\x16\x03", "TLS begins"
        asking.cancel()
        assert b"key" not in await soon(peer.reader.read())


async def test_a_proxy_that_opens_no_tunnel_is_told_apart() -> None:
    tls = ssl.create_default_context()
    async with raw_http_server() as proxy, through(f"http://127.0.0.1:{proxy.port}", tls=tls) as carrier:
        asking = asyncio.create_task(carrier.post("https://provider.invalid/chat", b"{}", {}))
        peer = await proxy.next_connection()
        await peer.request()
        peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(ProxyRefused, match="403 Forbidden"):
            await soon(asking)
        assert await peer.client_left()


async def test_of_a_principal_who_has_gone_nothing_is_left() -> None:
    async with raw_http_server() as server, through(None, keep_alive_s=0.01) as carrier:
        asking = asyncio.create_task(carrier.post(f"http://127.0.0.1:{server.port}/", b"{}", {}, principal="ada"))
        peer = await server.next_connection()
        await peer.request()
        peer.send(WHOLE)
        answer = await soon(asking)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
        assert await peer.client_left()
        assert not carrier._kept


async def test_one_connection_that_fails_to_close_keeps_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_http_server() as server, through(None) as carrier:
        peers = []
        for principal in ("ada", "bob"):
            url = f"http://127.0.0.1:{server.port}/"
            asking = asyncio.create_task(carrier.post(url, b"{}", {}, principal=principal))
            peer = await server.next_connection()
            await peer.request()
            peer.send(WHOLE)
            answer = await soon(asking)
            await soon(answer.read())
            await answer.aclose()
            peers.append(peer)

        async def broken() -> None:
            raise httpx2.CloseError("the peer reset it")

        working = carrier._kept["ada"].http.aclose
        monkeypatch.setattr(carrier._kept["ada"].http, "aclose", broken)
        await soon(carrier.close())
        assert await peers[1].client_left()
        await working()


@pytest.mark.parametrize(
    ("name", "proxy", "kind"),
    [
        ("own", None, StreamPool),
        ("library", None, LibraryTransport),
        ("own", Proxy("http://127.0.0.1:9", "HTTPS_PROXY"), LibraryTransport),
    ],
)
async def test_what_carries_is_the_settings_to_say_but_through_a_proxy_the_library_does(
    name: CarrierName, proxy: Proxy | None, kind: type[Carrier]
) -> None:
    made = carrier_on(Way(proxy), httpx2, name=name, base_url="http://x", concurrency=1, connect_s=1)()
    assert type(made) is kind
    await made.close()


@pytest.mark.parametrize("name", ["own", "library"])
async def test_an_answer_is_the_same_whatever_the_setting_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHER_PROVIDER_TRANSPORT", name.upper())
    reply = openai_api.stream(openai_api.delta("Hel"), openai_api.delta("lo"), *openai_api.ending())
    async with scripted_server(reply) as server:
        settings = load_settings(
            env_file=None, llm_provider="openai", openai_api_key="sk-test", openai_base_url=f"{server.url}/v1"
        )
        assert settings.provider_transport == name
        router = LLMRouter(settings)
        request = ChatRequest(messages=[ChatMessage(role=MessageRole.USER, content="Hi")], model="gpt-test")
        chunks = [chunk async for chunk in router.stream_chat(request)]
        await soon(router.aclose())
    assert "".join(chunk.content for chunk in chunks) == "Hello"
    assert any(chunk.finish_reason == "stop" for chunk in chunks)
