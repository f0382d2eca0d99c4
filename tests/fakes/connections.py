"""The connections of a fake server, each served by a task of its own, and all closed at its end."""

import asyncio
from collections.abc import Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Connections:
    """What `asyncio.start_server` is given as `accept`.

    Args:
        serve: serves one connection. It may close it; at its end it is closed anyway.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection from now on."""
        # Noted here, and not by the task: that may be cancelled before it begins.
        task = asyncio.create_task(self._served(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # Who connected is gone.
        finally:
            writer.close()

    async def end(self) -> None:
        """Cancel what still runs, and abort its connections. The server must not listen any more."""
        ending = dict(self._open)
        for task, writer in ending.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*ending, return_exceptions=True)
