"""Detects a local model's process that is stopped or hangs, and ends it, so that the next try gets a new one.

Such a process keeps its connections open: no error occurs, and each request would wait for its whole first-token limit.
llama.cpp responds to /health while it computes, so a process that does not respond, and sends nothing to any client, is
of no use.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import structlog

from archer_ws.llm_gateway.local.process import Endpoint, LocalProcess
from archer_ws.llm_gateway.types import Chunk, TakeChunk

log = structlog.get_logger(__name__)

#: The process is given up after so many checks in which it was silent and did not respond.
LOOKS = 3
#: So many pauses between two checks, with as long a wait for each response, make half the first-token limit.
_PARTS_OF_LIMIT = 4 * LOOKS


class HangWatch:
    """Watches a process while requests wait for it.

    Args:
        first_token_s: the limit within which a process that hangs must be replaced, in seconds.
    """

    def __init__(self, first_token_s: float) -> None:
        self._pause_s = first_token_s / _PARTS_OF_LIMIT
        self._sign_of_life = 0

    def heard(self) -> None:
        """Record that something came from the process."""
        self._sign_of_life += 1

    def hearing(self, take: TakeChunk) -> TakeChunk:
        """A function that passes chunks on to `take`, and records each as a sign of life."""

        def hear(chunk: Chunk) -> None:
            self._sign_of_life += 1
            take(chunk)

        return hear

    @asynccontextmanager
    async def over(self, process: LocalProcess, endpoint: Endpoint) -> AsyncIterator[None]:
        """Watch the process while the block runs."""
        watch = asyncio.create_task(self._end_if_it_hangs(process, endpoint))
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait({watch})

    async def _end_if_it_hangs(self, process: LocalProcess, endpoint: Endpoint) -> None:
        silent_looks = 0
        while silent_looks < LOOKS:
            heard_before = self._sign_of_life
            await asyncio.sleep(self._pause_s)
            is_well = self._sign_of_life != heard_before or await self._answers(endpoint)
            silent_looks = 0 if is_well else silent_looks + 1
        log.error("local_model_hangs", pid=process.pid, looked=LOOKS, pause_s=round(self._pause_s, 1))
        process.kill()

    async def _answers(self, endpoint: Endpoint) -> bool:
        address = urlsplit(endpoint.url)
        try:
            async with asyncio.timeout(self._pause_s):
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
                try:
                    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return bool(await reader.read(1))
                finally:
                    writer.transport.abort()
        except OSError:
            # If refused, it has ended, which is noticed elsewhere. TimeoutError is an OSError, too.
            return False
