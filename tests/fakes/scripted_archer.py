"""archer.v1 servers by script: what they have in common, and one that hands each request to a function of the test."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import websockets

from archer_ws.rpc.messages import SUBPROTOCOL

#: What `initialize` is answered.
WELCOME = {
    "protocol_version": 1,
    "server": {"name": "scripted", "version": "9"},
    "connection_id": "c",
    "heartbeat_ms": 15000,
    "limits": {"max_frame_bytes": 1048576, "max_content_bytes": 1048576, "max_requests": 64, "max_streams": 32},
    "schema_hash": "",
    "of_a_newer_server": True,
}
#: What a stream's request is answered, beside its stream_id.
ACCEPTED = {"provider": "p", "model": "m", "status": "running", "head_seq": 0, "duplicate": False}

Serve = Callable[[websockets.ServerConnection, dict[str, Any]], Awaitable[None]]


class Scripted:
    """Answers `initialize`, then hands each request to `serve`."""

    def __init__(self, serve: Serve) -> None:
        #: The requests, `initialize` included.
        self.asked: list[dict[str, Any]] = []
        self._serve = serve

    async def __call__(self, connection: websockets.ServerConnection) -> None:
        """Serve a connection."""
        async for text in connection:
            request = json.loads(text)
            self.asked.append(request)
            if request["method"] == "initialize":
                await answer(connection, request, WELCOME)
            else:
                await self._serve(connection, request)


class Postponing:
    """Loses the connection after the first text of a stream, and then refuses to deliver it twice, for the moment."""

    def __init__(self, kind: str) -> None:
        self.refusals = 2
        self._refusal = {"kind": kind, "message": "not now", "retryable": True, "retry_after_ms": 1, "request_id": "r"}

    async def __call__(self, connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        if request["method"] == "stream/subscribe" and self.refusals:
            self.refusals -= 1
            error = {"code": -32046, "message": "not now", "data": self._refusal}
            await refuse(connection, request, error)
            return
        stream_id = request["params"]["stream_id"]
        await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})
        if request["method"] == "chat/send":
            await tell(connection, "stream/delta", stream_id=stream_id, from_=1, seq=1, content="one ")
            await connection.close(1012)
        else:
            assert request["params"]["after"] == 1
            await tell(connection, "stream/delta", stream_id=stream_id, from_=2, seq=2, content="two")
            await tell(connection, "stream/ended", stream_id=stream_id, seq=3, status="completed", text_bytes=7)


async def answer(connection: websockets.ServerConnection, request: dict[str, Any], result: dict[str, Any]) -> None:
    """Answer a request."""
    await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))


async def refuse(connection: websockets.ServerConnection, request: dict[str, Any], error: dict[str, Any]) -> None:
    """Answer a request with an error."""
    await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}))


async def notify(connection: websockets.ServerConnection, method: str, params: dict[str, Any]) -> None:
    """Tell something."""
    await connection.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))


async def tell(connection: websockets.ServerConnection, method: str, **params: Any) -> None:
    """The same with the params by name; `from_` is "from"."""
    await notify(connection, method, {name.rstrip("_"): value for name, value in params.items()})


@asynccontextmanager
async def listening(
    handler: Callable[[websockets.ServerConnection], Awaitable[None]], **options: Any
) -> AsyncIterator[str]:
    """The URL of a WebSocket server, while it runs."""
    options = {"subprotocols": [SUBPROTOCOL], **options}
    async with websockets.serve(handler, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
