"""archer.v1 over an in-memory channel and over a real WebSocket: one suite runs over both."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import websockets
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.agents.tool_loop import ToolLoopAgent
from archer_ws.api.socket import SocketChannel
from archer_ws.core.limits import Limits
from archer_ws.llm_gateway.types import ModelInfo, ProviderStatus
from archer_ws.rpc.channel import memory_channel
from archer_ws.rpc.connection import Connection
from archer_ws.rpc.context import Handshake
from archer_ws.rpc.dispatcher import Dispatcher
from archer_ws.rpc.methods import archer_v1
from archer_ws.rpc.openrpc import describe
from archer_ws.rpc.services import RpcServices
from archer_ws.sessions.conversations import Conversations
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.streams.gates import ManagerLimits, ProviderGate, StreamQuota
from archer_ws.sessions.streams.memory_log import MemoryLog
from tests.conftest import Serve
from tests.fakes.rpc_peer import MemoryTransport, RpcPeer, SocketTransport
from tests.fakes.scripted_gateway import ScriptedGateway

METHODS = archer_v1()


class OneModel:
    """A router that has one model; it answers when `may_answer` is set."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def health_check_all(self) -> dict[str, ProviderStatus]:
        await self.may_answer.wait()
        return {"ollama": ProviderStatus(provider="ollama", available=True, latency_ms=1.0)}

    async def listing(self, provider: str | None) -> tuple[list[ModelInfo], list[ProviderStatus]]:
        away = ProviderStatus(provider="openai", available=False, error="no key", configured=False)
        return [ModelInfo(id="m", name="m", provider="ollama")], [away]

    def default_route(self) -> tuple[str, str]:
        return "ollama", "m"


class Server:
    """A manager over a scripted gateway, and connections to it."""

    def __init__(self, gateway: ScriptedGateway, kind: str, serve: Serve) -> None:
        self.gateway = gateway
        self.kind = kind
        self.principal: str | None = "me"
        self.connections: list[Connection] = []
        self.capacity = 16
        self._serve = serve
        self._tasks: list[asyncio.Task[None]] = []
        self._peers: list[RpcPeer] = []
        self._address: str | None = None
        self._stop: Callable[[], Any] | None = None
        self.models = OneModel()
        store, judge = MemoryStore(), FormatJudge()
        self.manager = SessionManager(
            new_log=MemoryLog,
            judge=judge,
            gateway=gateway,
            orchestrator=Orchestrator(gateway, [ToolLoopAgent(gateway, judge.judge_by)]),
            store=store,
            quota=StreamQuota(max_streams=1000, max_per_principal=1000),
            gates={"ollama": ProviderGate("ollama", concurrency=1000, queue=10)},
            limits=ManagerLimits(),
        )
        self.services = RpcServices(
            manager=self.manager,
            conversations=Conversations(store, self.manager),
            models=self.models,
            server_name="test",
            server_version="0",
            max_frame_bytes=1024 * 1024,
            max_content_bytes=4 * 1024 * 1024,
            issue_file_ticket=lambda principal: (f"ticket-of-{principal}", 30),
            describe=partial(describe, METHODS),
        )

    def limit(self, **bounds: Any) -> None:
        """Other limits for the connections that come from now on."""
        self.services = replace(self.services, limits=Limits(**bounds))

    def make_connection(self, channel: Any) -> Connection:
        handshake = Handshake(self.principal, lambda token: "me" if token == "right" else None)
        connection = Connection(channel, self.services, Dispatcher(METHODS), handshake)
        self.connections.append(connection)
        return connection

    async def connect(self) -> RpcPeer:
        """A new client."""
        if self.kind == "memory":
            ours, theirs = memory_channel(self.capacity)
            self._tasks.append(asyncio.create_task(self.make_connection(ours).run()))
            peer = RpcPeer(MemoryTransport(theirs))
        else:
            peer = RpcPeer(SocketTransport(await websockets.connect(f"ws://{await self._listen()}/", max_size=None)))
        self._peers.append(peer)
        return peer

    async def _listen(self) -> str:
        if self._address is None:

            async def endpoint(websocket: WebSocket) -> None:
                await websocket.accept()
                await self.make_connection(SocketChannel(websocket)).run()

            serving = self._serve(Starlette(routes=[WebSocketRoute("/", endpoint)]))
            self._address = await serving.__aenter__()
            self._stop = lambda: serving.__aexit__(None, None, None)
        return self._address

    async def aclose(self) -> None:
        """Close every client, then the manager; connections must end by themselves."""
        for peer in self._peers:
            await peer.close()
        async with asyncio.timeout(10):
            await asyncio.gather(*self._tasks)
        await self.manager.aclose()
        if self._stop is not None:
            await self._stop()


@pytest.fixture(params=["memory", "socket"])
async def server(request: pytest.FixtureRequest, serve: Serve) -> AsyncIterator[Server]:
    running = Server(ScriptedGateway(), cast(str, request.param), serve)
    yield running
    await running.aclose()


@pytest.fixture
async def memory_server(serve: Serve) -> AsyncIterator[Server]:
    running = Server(ScriptedGateway(), "memory", serve)
    yield running
    await running.aclose()
