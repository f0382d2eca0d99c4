"""A transport that hands on in one piece what is written within one turn of the event loop.

A system call for each frame is most of what sending a token costs. Under load many frames of a connection come in one
turn, those of its streams that had a token each; alone, a frame goes a few microseconds later.
"""

import asyncio
from collections.abc import Callable
from typing import Any

#: So much is handed on at once: beyond it, joining saves nothing. In bytes.
CORK_BYTES_MAX = 64 * 1024


class CorkedTransport:
    """The transport's own methods, but for those that write or end writing.

    Args:
        transport: what to write to.
        loop: whose turns count.
        on_backlog: called before more is handed on while the transport has not got rid of what it was given before.
    """

    __slots__ = ("_has_ended", "_loop", "_on_backlog", "_pieces", "_size", "_transport")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_backlog: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._on_backlog = on_backlog
        self._pieces: list[bytes] = []
        self._size = 0
        self._has_ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write with this turn's end, or at once where much has gathered."""
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= CORK_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Hand on what has gathered, if anything has."""
        pieces = self._pieces
        if not pieces:
            return
        self._pieces, self._size = [], 0
        transport = self._transport
        if self._has_ended or transport.is_closing():
            return  # Behind a close nothing is said any more, and a transport takes nothing behind its end.
        if transport.get_write_buffer_size():
            self._on_backlog()
        transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def write_eof(self) -> None:
        """End writing, behind what has gathered; what is written later is lost."""
        self.flush()
        self._has_ended = True
        self._transport.write_eof()

    def close(self) -> None:
        """Close, behind what has gathered."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Cut; what has gathered is lost."""
        self._pieces, self._size = [], 0
        self._transport.abort()
