"""What the tests of the HTTP edge share: a real server."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, Protocol

import pytest
import uvicorn
from starlette.types import ASGIApp


class Serve(Protocol):
    """`async with serve(app) as address`: the app under uvicorn on loopback, at `host:port`."""

    def __call__(self, app: ASGIApp, *, lifespan: Literal["on", "off"] = "off") -> AbstractAsyncContextManager[str]: ...


@asynccontextmanager
async def serving(app: ASGIApp, *, lifespan: Literal["on", "off"] = "off") -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan=lifespan))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        # The socket listens already: a client that comes before the server is ready waits in its queue.
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        async with asyncio.timeout(10):
            await running
        listener.close()


@pytest.fixture
def serve() -> Serve:
    """A real server for an application."""
    return serving
