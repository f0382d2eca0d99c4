"""A WebSocket client that does what no decent one does: frames of any kind, and reading only when it is told to."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG, CONT = 1, 2, 8, 9, 10, 0


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame as a client sends it."""
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 65536:
        head += struct.pack("!BH", mask_bit | 126, len(payload))
    else:
        head += struct.pack("!BQ", mask_bit | 127, len(payload))
    # A mask of zeros leaves the payload as it is.
    return head + (bytes(4) if masked else b"") + payload


def request(method: str, identity: int, **params: Any) -> bytes:
    """A JSON-RPC request's frame."""
    call = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
    return frame(TEXT, json.dumps(call).encode())


class RawWebSocket:
    """An open connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = bytearray()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, most: int = 65536) -> bytes:
        """Some bytes; none at the end."""
        return await asyncio.get_running_loop().sock_recv(self.socket, most)

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            more = await self.read()
            if not more:
                raise EOFError
            self._buffer += more
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def head(self) -> str:
        """The handshake's answer."""
        while b"\r\n\r\n" not in self._buffer:
            more = await self.read()
            if not more:
                raise EOFError
            self._buffer += more
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        return head.decode()

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        first, length = await self._exactly(2)
        if length == 126:
            (length,) = struct.unpack("!H", await self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._exactly(8))
        return first & 0x0F, await self._exactly(length)

    async def crawl(self, most: int) -> int:
        """Read a little, and answer the pings that are whole by now; how many bytes came."""
        more = await self.read(most)
        self._buffer += more
        while len(self._buffer) >= 2:
            length, start = self._buffer[1], 2
            if length >= 126:
                size = 2 if length == 126 else 8
                start += size
                length = int.from_bytes(self._buffer[2:start])
            if len(self._buffer) < start + length:
                break
            if self._buffer[0] & 0x0F == PING:
                await self.send(frame(PONG, bytes(self._buffer[start : start + length])))
            del self._buffer[: start + length]
        return len(more)

    async def close_code(self) -> int:
        """The code of the server's close frame; frames before it are passed over."""
        return (await self.close_frame())[0]

    async def close_frame(self) -> tuple[int, str]:
        """The code and the reason of the server's close frame; frames before it are passed over."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2]), payload[2:].decode()

    async def until_gone(self) -> None:
        """Read until the connection has ended, in whatever way."""
        try:
            while await self.read():
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        self.socket.close()


@asynccontextmanager
async def raw_websocket(
    address: str,
    path: str = "/api/v1/ws",
    *headers: str,
    receive_buffer: int | None = None,
    method: str = "GET",
    version: str = "13",
) -> AsyncIterator[RawWebSocket]:
    """A connection whose upgrade was asked for; `head` has the answer."""
    host, _, port = address.rpartition(":")
    connection = socket.socket()
    connection.setblocking(False)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw = RawWebSocket(connection)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {address}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            f"Sec-WebSocket-Version: {version}",
            *headers,
        ]
        await raw.send("\r\n".join([*lines, "", ""]).encode())
        yield raw
    finally:
        raw.close()


def open_descriptors() -> int:
    """How many this process has (Linux)."""
    return len(list(Path("/proc/self/fd").iterdir()))
