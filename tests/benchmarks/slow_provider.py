"""OpenAI's chat API, answered slowly and cheaply: thousands of open answers cost one timer each.

An answer is the numbers from 0 on, as many as the last message asks for, so that a client can tell by itself what the
whole text must be (`answer_text`).
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fakes.openai_api import delta, ending

_HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: "
_MODELS = b'{"object":"list","data":[]}'
PIECES_MAX = 64
_PIECES = [delta(f"{number} ") for number in range(PIECES_MAX)]
_ENDING = b"".join(ending())


def answer_text(pieces: int) -> str:
    """The text of an answer of so many pieces."""
    return "".join(f"{number} " for number in range(pieces))


class SlowProvider:
    """The open answers, and how fast they go on.

    Args:
        interval_s: the time between two pieces of an answer.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.url = ""
        #: Connections that the server has not closed.
        self.open: set[asyncio.Transport] = set()
        #: End every answer with its next piece, and every new one with its first.
        self.is_finishing = False

    def finish_all(self, within_s: float) -> None:
        """End the answers that run, spread over so long, and those that come at once."""
        self.is_finishing = True
        self.interval_s = 0.0
        loop = asyncio.get_running_loop()
        answers = [protocol for transport in self.open if isinstance(protocol := transport.get_protocol(), _Answer)]
        for number, answer in enumerate(answers):
            loop.call_later(within_s * number / len(answers), answer.end)

    def resume(self, interval_s: float) -> None:
        """Answer slowly again."""
        self.is_finishing = False
        self.interval_s = interval_s


class _Answer(asyncio.Protocol):
    """One connection: a request, and its answer piece by piece."""

    def __init__(self, provider: SlowProvider) -> None:
        self._provider = provider
        self._request = b""
        self._sent = 0
        self._pieces = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._provider.open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._transport is not None
        self._provider.open.discard(self._transport)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._request += data
        head, found, body = self._request.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        self._request = b""
        if head.startswith(b"GET"):
            self._transport.write(_HEAD + b"application/json\r\n\r\n" + _MODELS)
            self._transport.close()
            return
        self._pieces = int(json.loads(body)["messages"][-1]["content"])
        self._transport.write(_HEAD + b"text/event-stream\r\n\r\n")
        self._go_on()

    def end(self) -> None:
        """Write the answer's end, where it has begun and not ended."""
        if self._transport is None or self._transport.is_closing() or not self._pieces:
            return
        self._transport.write(_ENDING)
        self._transport.close()

    def _go_on(self) -> None:
        assert self._transport is not None
        if self._sent == self._pieces or (self._sent and self._provider.is_finishing):
            self.end()
            return
        self._transport.write(_PIECES[self._sent])
        self._sent += 1
        self._timer = asyncio.get_running_loop().call_later(self._provider.interval_s, self._go_on)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@asynccontextmanager
async def slow_provider(interval_s: float) -> AsyncIterator[SlowProvider]:
    """A running provider on loopback."""
    provider = SlowProvider(interval_s)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answer(provider), "127.0.0.1", 0, backlog=4096)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield provider
    finally:
        server.close()
        for transport in list(provider.open):
            transport.abort()
        await asyncio.sleep(0)
