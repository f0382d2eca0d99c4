"""How much of what was written to a connection its peer has received, and whether the peer has closed it.

On Linux the kernel reports this exactly (TCP_INFO), so data in the kernel's own buffer counts as not received. On other
systems only the transport's buffer is known, and what has left it counts as received; whether the peer has closed the
connection is then known only from reading it.
"""

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

if sys.platform == "linux":
    # Not at the first use: without memory or a free descriptor nothing can be loaded.
    import fcntl
    import termios

#: The states (tcpi_state, the first byte) of a connection that its peer has closed or reset: CLOSE, CLOSE_WAIT and
#: LAST_ACK (linux/tcp_states.h).
_CLOSED_STATES = frozenset({7, 8, 9})
#: The offset of tcpi_bytes_acked (u64) in struct tcp_info (linux/tcp.h).
_BYTES_ACKED_AT = 120


@dataclass(frozen=True, slots=True)
class Progress:
    """A connection's outbound side at one moment, in bytes.

    `taken` only ever grows; its zero is arbitrary. `waiting` is what the peer has not received yet. `has_left` is
    whether the peer is known to have closed the connection.
    """

    taken: int
    waiting: int
    has_left: bool = False


class PeerProgress:
    """Watches one connection's outbound side; each sample costs two system calls."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._socket: Any = transport.get_extra_info("socket")
        self._is_exact = sys.platform == "linux"
        self._drained = 0
        self._buffered = 0

    def sample(self) -> Progress:
        """How much the peer has received by now, and how much waits."""
        buffered = self._transport.get_write_buffer_size()
        if self._is_exact:
            try:
                taken, in_kernel, has_left = _kernel_sample(self._socket)
            except (OSError, ValueError, struct.error, AttributeError):
                # Not TCP, already closed, or a sandbox that forbids the call.
                self._is_exact = False
            else:
                return Progress(taken, in_kernel + buffered, has_left)
        self._drained += max(0, self._buffered - buffered)
        self._buffered = buffered
        return Progress(self._drained, buffered)


def _kernel_sample(connection: Any) -> tuple[int, int, bool]:
    """Bytes acknowledged by the peer, bytes in the kernel's send buffer, and whether the peer has closed."""
    if sys.platform != "linux":
        raise ValueError("no such call")
    described: bytes = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_AT + 8)
    (taken,) = struct.unpack_from("Q", described, _BYTES_ACKED_AT)
    (in_kernel,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    return taken, in_kernel, described[0] in _CLOSED_STATES


def bound_send_buffer(transport: asyncio.Transport, size: int) -> None:
    """Limit what the kernel buffers for a peer that does not read to about `size` bytes."""
    connection: Any = transport.get_extra_info("socket")
    if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def cut(transport: asyncio.Transport) -> None:
    """Abort the connection, and make the kernel drop its unsent data instead of retrying for minutes."""
    connection: Any = transport.get_extra_info("socket")
    if sys.platform != "win32" and connection is not None:
        with suppress(OSError):  # It is closed already.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
