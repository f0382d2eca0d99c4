"""How much a peer has received is known until the end, whatever has become of the machine."""

import asyncio
import sys

import pytest

from archer_ws.server.peer_progress import PeerProgress


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it exactly")
async def test_a_connection_is_watched_although_nothing_more_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fcntl", "termios"):
        monkeypatch.setitem(sys.modules, name, None)  # An import of it fails.
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"waits")
        await reader.read()
        assert PeerProgress(writer.transport).sample().has_left  # type: ignore[arg-type] # it is a Transport, too
        writer.close()
