"""Servers that use the production WebSocket protocol: a bare echo, and the whole application."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
import websockets

from archer_ws.api.security import seats
from archer_ws.core.limits import Limits
from archer_ws.core.logging import configure_logging
from archer_ws.core.rare_line import RareLine
from archer_ws.main import create_app
from archer_ws.rpc import connection, dispatcher
from archer_ws.server import http_bodies, http_protocol, http_stalls, ws_inbound, ws_protocol
from archer_ws.server.http_protocol import BoundedHeadProtocol
from archer_ws.server.server import ArcherServer, websocket_protocol
from archer_ws.server.ws_protocol import WatchedWebSocketProtocol
from tests.conftest import MakeSettings
from tests.fakes.ollama_api import Answer, ollama_server, ollama_show, ollama_tags
from tests.fakes.prompt_server import PromptServer, served
from tests.fakes.rpc_peer import RpcPeer, SocketTransport
from tests.fakes.scripted_server import ScriptedServer, scripted_server

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def _logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production; no test is silenced by the line of one before it."""
    configure_logging()
    for module in (connection, dispatcher, http_bodies, http_protocol, http_stalls, seats, ws_inbound, ws_protocol):
        for name, line in vars(module).items():
            if isinstance(line, RareLine):
                monkeypatch.setattr(module, name, line.renewed())


@dataclass
class Echo:
    """A server that says what it was told; it reads only while `may_receive` is set."""

    address: str
    server: uvicorn.Server
    may_receive: asyncio.Event = field(default_factory=asyncio.Event)
    may_accept: asyncio.Event = field(default_factory=asyncio.Event)

    def protocol(self) -> WatchedWebSocketProtocol:
        """The one open connection."""
        (protocol,) = (p for p in self.server.server_state.connections if isinstance(p, WatchedWebSocketProtocol))
        return protocol


StartEcho = Callable[..., AbstractAsyncContextManager[Echo]]


@pytest.fixture
def start_echo() -> StartEcho:
    """`async with start_echo(limits=…, **uvicorn_settings) as echo`."""

    @asynccontextmanager
    async def start(*, limits: Limits = Limits(), **config: Any) -> AsyncIterator[Echo]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await echo.may_accept.wait()
            await send({"type": "websocket.accept"})
            while True:
                await echo.may_receive.wait()
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                await send({"type": "websocket.send", "text": message["text"]})

        settings = {"ws_max_size": 1024 * 1024, "ws_per_message_deflate": False, **config}
        server = PromptServer(
            uvicorn.Config(
                app,
                log_config=None,
                lifespan="off",
                http=BoundedHeadProtocol,
                ws=websocket_protocol(limits),
                **settings,
            )
        )
        async with served(server) as address:
            echo = Echo(address, server)
            echo.may_receive.set()
            echo.may_accept.set()
            yield echo

    return start


class PromptArcherServer(ArcherServer, PromptServer):
    """Our server, which ends as soon as it has drained."""


@dataclass
class Socketed:
    """The application under our server, and the Ollama behind it."""

    address: str
    server: ArcherServer
    ollama: ScriptedServer
    running: asyncio.Task[None]
    app: Any

    def answer(self, chat: Answer) -> None:
        """What Ollama answers to chats from now on."""
        routes = {"/api/chat": chat, "/api/show": ollama_show(4096), "/api/tags": ollama_tags("llama3.2:latest")}
        self.ollama.responder = ollama_server(routes)

    @property
    def url(self) -> str:
        return f"ws://{self.address}/api/v1/ws"

    @asynccontextmanager
    async def peer(self, **options: Any) -> AsyncIterator[RpcPeer]:
        """A well-behaved client."""
        async with websockets.connect(self.url, max_size=None, proxy=None, **options) as connection:
            peer = RpcPeer(SocketTransport(connection))
            try:
                yield peer
            finally:
                await peer.stop()

    @property
    def protocols(self) -> list[WatchedWebSocketProtocol]:
        """The open WebSocket connections."""
        return [p for p in self.server.server_state.connections if isinstance(p, WatchedWebSocketProtocol)]

    @property
    def http_connections(self) -> list[BoundedHeadProtocol]:
        """The open connections that are no WebSockets."""
        return [p for p in self.server.server_state.connections if isinstance(p, BoundedHeadProtocol)]

    def stream(self, stream_id: str) -> Any:
        """The stream of that id, whoever's it is; None where there is none yet."""
        return self.app.state.services.manager._table.get("local", stream_id)


StartSocketed = Callable[..., AbstractAsyncContextManager[Socketed]]


@pytest.fixture
def start_socketed(make_settings: MakeSettings) -> StartSocketed:
    """`async with start_socketed(**settings) as archer`: drains nothing at the end unless told to."""

    @asynccontextmanager
    async def start(*, drain_s: float = 0.0, limits: Limits = Limits(), **values: object) -> AsyncIterator[Socketed]:
        async with scripted_server() as ollama:
            app = create_app(make_settings(**{"ollama_host": ollama.url, "max_retries": 0, **values}), limits=limits)
            listener = socket.create_server(("127.0.0.1", 0))
            server = PromptArcherServer(app, drain_s=drain_s, on_ready=lambda _: None, limits=limits)
            address = "127.0.0.1:{1}".format(*listener.getsockname())
            running = asyncio.create_task(server.serve([listener]))
            archer = Socketed(address, server, ollama, running, app)
            try:
                # The socket listens already: who comes before the server is ready waits in its queue.
                async with archer.peer(subprotocols=None):
                    pass
                yield archer
            finally:
                server.request_stop("end of test")
                async with asyncio.timeout(30):
                    await running

    return start


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    """The log's lines of one event."""
    return [record for record in caplog.records if event in str(record.msg)]


def assert_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """No traceback was logged."""
    assert not [record for record in caplog.records if record.exc_info or "Traceback" in str(record.msg)], caplog.text


async def answers(connection: websockets.ClientConnection, text: str = "still here") -> None:
    """The echo answers on this connection."""
    async with asyncio.timeout(10):
        await connection.send(json.dumps(text))
        assert await connection.recv() == json.dumps(text)


async def until(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait until something holds of the server, which has no event to tell it."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0)
