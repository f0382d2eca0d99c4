"""A transport that joins everything written within one iteration of the event loop into a single write.

Most of the cost of sending a token is the system call for its frame. Under load a connection writes many frames in one
iteration, one for each of its streams that received a token. A frame that is alone is sent a few microseconds later.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: Above this size, what has gathered is written at once: joining more saves nothing. In bytes.
CORK_BYTES_MAX = 64 * 1024


class CorkedTransport:
    """Passes every method through to the transport, except those that write or end writing.

    Args:
        transport: what to write to.
        loop: the event loop whose iterations are meant.
        on_backlog: called before each further write while the transport still has unsent data from earlier ones.
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
        """Write at the end of this loop iteration, or at once when much has gathered."""
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= CORK_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered, if anything."""
        pieces = self._pieces
        if not pieces:
            return
        self._pieces, self._size = [], 0
        transport = self._transport
        if self._has_ended or transport.is_closing():
            return  # Nothing may be written after a close, and a transport accepts nothing after write_eof.
        if transport.get_write_buffer_size():
            self._on_backlog()
        transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def write_eof(self) -> None:
        """Write what has gathered, then end writing; later writes are dropped."""
        self.flush()
        self._has_ended = True
        # asyncio raises what uvloop does not: the peer is gone, and has reset the connection at that last write.
        with suppress(OSError):
            self._transport.write_eof()

    def close(self) -> None:
        """Write what has gathered, then close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Abort the connection; what has gathered is dropped."""
        self._pieces, self._size = [], 0
        self._transport.abort()
