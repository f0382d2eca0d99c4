"""The seam between the protocol and its transport: a channel of text messages."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class ChannelClosed(Exception):
    """The peer is gone, or the channel was closed; nothing more can be sent or received."""


class Channel(Protocol):
    """Text messages in both directions. A WebSocket is one; `memory_channel` makes two that are connected."""

    async def receive(self) -> str:
        """The next message.

        Raises:
            ChannelClosed: there will be no more.
        """

    def push_to(self, take: Callable[[str], bool] | None) -> None:
        """Pass further messages to `take` as they arrive; `receive` returns those for which it returned False, and all
        later ones until then. None ends this. A channel may also leave all messages to `receive`."""

    def try_send(self, text: str) -> bool:
        """Hand a message to the transport if that needs no waiting; False if it does, and `send` must be used."""

    async def send(self, text: str) -> None:
        """Hand a message to the transport, waiting while its buffer is full.

        Raises:
            ChannelClosed: the peer is gone.
        """

    async def close(self, code: int, reason: str) -> None:
        """Close the channel with a WebSocket close code; does nothing if it is closed."""


class MemoryChannel:
    """One end of a channel within this process; holds at most `capacity` messages that the other end has not
    received."""

    def __init__(self, capacity: int) -> None:
        self._incoming: asyncio.Queue[str | None] = asyncio.Queue(capacity)
        self._peer: MemoryChannel = self
        self._closed = asyncio.Event()
        #: The code and reason the channel was closed with, by either end.
        self.closed_with: tuple[int, str] | None = None

    async def receive(self) -> str:
        """The next message; what the peer sent before it closed still arrives.

        Raises:
            ChannelClosed: there will be no more.
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

    def push_to(self, take: Callable[[str], bool] | None) -> None:
        """Do nothing: `receive` returns all messages."""

    def try_send(self, text: str) -> bool:
        """False: `send` is always used."""
        return False

    async def send(self, text: str) -> None:
        """Send the peer a message; waits while the peer has `capacity` unread messages.

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
        """Close the channel for both ends."""
        for end in (self, self._peer):
            if end.closed_with is None:
                end.closed_with = (code, reason)
            end._closed.set()


def memory_channel(capacity: int = 16) -> tuple[MemoryChannel, MemoryChannel]:
    """The two ends of one channel."""
    ours, theirs = MemoryChannel(capacity), MemoryChannel(capacity)
    ours._peer, theirs._peer = theirs, ours
    return ours, theirs
