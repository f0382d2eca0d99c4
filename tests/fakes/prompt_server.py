"""uvicorn's server in this process, which stops as soon as it is told: thousands of tests wait for it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

LIMIT_S = 30


class PromptServer(uvicorn.Server):
    """uvicorn's own looks each 100 ms whether it should stop, and then waits 100 ms for its connections, whether or not
    there are any. Otherwise it is the same."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._exit = asyncio.Event()
        super().__init__(config)

    @property
    def should_exit(self) -> bool:
        """Whether it was told to stop."""
        return self._exit.is_set()

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        if value:
            self._exit.set()

    async def main_loop(self) -> None:
        """Until it is told to stop. The Date of its responses is when it began."""
        await self.on_tick(0)
        await self._exit.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners and the idle connections, let the others end, and then the application."""
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while (self.server_state.connections or self.server_state.tasks) and not self.force_exit:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.001)
        if not self.force_exit:
            await self.lifespan.shutdown()


@asynccontextmanager
async def served(server: uvicorn.Server) -> AsyncIterator[str]:
    """The server while it serves on loopback, at `host:port`."""
    # Named so that asyncio sees that connections are TCP, and lets each write leave at once.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            # The socket listens already: a client that comes before the server is ready waits in its queue.
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            async with asyncio.timeout(LIMIT_S):
                await running
