"""The seam between the protocol and what carries it: a channel of text messages."""

import asyncio
from typing import Protocol


class ChannelClosed(Exception):
    """The peer is gone, or the channel was closed; nothing more comes or goes."""


class Channel(Protocol):
    """Text messages both ways. A WebSocket is one; `memory_channel` makes two that are joined."""

    async def receive(self) -> str:
        """The next message.

        Raises:
            ChannelClosed: there will be none.
        """

    def try_send(self, text: str) -> bool:
        """Hand a message to the transport where that needs no waiting; else False, and `send` does it."""

    async def send(self, text: str) -> None:
        """Hand a message to the transport, and wait while it can take no more.

        Raises:
            ChannelClosed: the peer is gone.
        """

    async def close(self, code: int, reason: str) -> None:
        """End the channel with a WebSocket close code; harmless where it is closed."""


class MemoryChannel:
    """One end of a channel within this process; holds at most `capacity` messages that the other end has not taken."""

    def __init__(self, capacity: int) -> None:
        self._incoming: asyncio.Queue[str | None] = asyncio.Queue(capacity)
        self._peer: MemoryChannel = self
        self._closed = asyncio.Event()
        #: The code and reason the channel was closed with, by either end.
        self.closed_with: tuple[int, str] | None = None

    async def receive(self) -> str:
        """The next message; what the peer sent before it closed still comes.

        Raises:
            ChannelClosed: there will be none.
        """
        if self._incoming.empty() and self._closed.is_set():
            raise ChannelClosed
        getting = asyncio.ensure_future(self._incoming.get())
        closing = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((getting, closing), return_when=asyncio.FIRST_COMPLETED)
            if getting.done() and (text := getting.result()) is not None:
                return text
            raise ChannelClosed
        finally:
            getting.cancel()
            closing.cancel()

    def try_send(self, text: str) -> bool:
        """False: a message always waits for its turn."""
        return False

    async def send(self, text: str) -> None:
        """Give the peer a message; waits while it holds `capacity` already.

        Raises:
            ChannelClosed: the channel is closed.
        """
        if self._closed.is_set():
            raise ChannelClosed
        putting = asyncio.ensure_future(self._peer._incoming.put(text))
        closing = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((putting, closing), return_when=asyncio.FIRST_COMPLETED)
            if not putting.done():
                raise ChannelClosed
        finally:
            putting.cancel()
            closing.cancel()

    async def close(self, code: int, reason: str) -> None:
        """End the channel for both ends."""
        for end in (self, self._peer):
            if end.closed_with is None:
                end.closed_with = (code, reason)
            end._closed.set()


def memory_channel(capacity: int = 16) -> tuple[MemoryChannel, MemoryChannel]:
    """Two ends of one channel."""
    ours, theirs = MemoryChannel(capacity), MemoryChannel(capacity)
    ours._peer, theirs._peer = theirs, ours
    return ours, theirs
