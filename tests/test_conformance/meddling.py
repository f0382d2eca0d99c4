"""A WebSocket proxy before an honest server that changes what is said: servers broken in one way each."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from archer_ws.rpc.messages import SUBPROTOCOL

Message = dict[str, Any]


class Honest:
    """Passes everything on; one instance a connection."""

    def up(self, frame: str | bytes) -> list[str | bytes]:
        """What to send instead of a frame of the client's."""
        return [frame]

    def down(self, message: Message) -> list[Message]:
        """What to send instead of a message of the server's."""
        return [message]

    def close_code(self, code: int) -> int | None:
        """How to close instead; None stays open."""
        return code


@asynccontextmanager
async def meddler(address: str, meddle: Callable[[], Honest]) -> AsyncIterator[str]:
    """The `ws://` URL of a proxy before `host:port`."""

    async def accept(client: ServerConnection) -> None:
        offered = [SUBPROTOCOL] if client.subprotocol else None
        async with websocket(
            f"ws://{address}/api/v1/ws",
            subprotocols=None if offered is None else [Subprotocol(name) for name in offered],
            additional_headers={
                name: value
                for name in ("Authorization", "Origin")
                if client.request and (value := client.request.headers.get(name))
            },
            proxy=None,
            compression=None,
            ping_interval=None,
            max_size=None,
            # Else a close would wait behind frames that nobody reads any more.
            max_queue=None,
        ) as server:
            await _relay(client, server, meddle())

    async with serve(
        accept,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        ping_interval=None,
        max_size=None,
        close_timeout=1,
    ) as running:
        yield f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"


async def _relay(client: ServerConnection, server: ClientConnection, meddle: Honest) -> None:
    up = asyncio.create_task(_up(client, server, meddle))
    try:
        async for frame in server:
            told = json.loads(frame)
            # The responses to a batch, which come in one array, are left as they are.
            for message in [told] if isinstance(told, list) else meddle.down(told):
                await client.send(json.dumps(message, ensure_ascii=False))
    except ConnectionClosed:
        pass
    if up.done():
        await up
        return
    code = meddle.close_code(server.close_code or 1006)
    if code is None:
        await client.wait_closed()
    elif code == 1006:
        client.transport.abort()
    else:
        await client.close(code)
    await up


async def _up(client: ServerConnection, server: ClientConnection, meddle: Honest) -> None:
    try:
        while True:
            for frame in meddle.up(await client.recv()):
                await server.send(frame)
    except ConnectionClosed:
        # As the client left, so does the proxy: with a close, or without.
        if client.protocol.close_rcvd is None:
            server.transport.abort()
        else:
            await server.close()
