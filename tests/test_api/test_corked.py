"""What is written within one turn of the loop goes in one piece, in order, and never behind a close."""

import asyncio
import socket
from typing import cast

import pytest

from archer_ws.server.corked_transport import CORK_BYTES_MAX, CorkedTransport


class Recording:
    """A transport that notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.closing = False
        self.waiting_bytes = 0

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def write_eof(self) -> None:
        self.done.append("eof")

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes


@pytest.fixture
def under() -> Recording:
    return Recording()


@pytest.fixture
async def corked(under: Recording) -> CorkedTransport:
    return CorkedTransport(
        cast(asyncio.Transport, under), asyncio.get_running_loop(), lambda: under.done.append("backlog")
    )


async def test_a_turn_s_writes_go_in_one_piece(under: Recording, corked: CorkedTransport) -> None:
    corked.write(b"a")
    corked.write(b"b")
    assert under.done == []
    await asyncio.sleep(0)
    corked.write(b"c")
    await asyncio.sleep(0)
    assert under.done == [b"ab", b"c"]


async def test_much_goes_at_once(under: Recording, corked: CorkedTransport) -> None:
    corked.write(b"a")
    corked.write(bytes(CORK_BYTES_MAX))
    assert under.done == [b"a" + bytes(CORK_BYTES_MAX)]
    await asyncio.sleep(0)
    assert len(under.done) == 1


@pytest.mark.parametrize(("end", "told"), [("close", "close"), ("write_eof", "eof")])
async def test_an_end_comes_behind_what_was_written(
    under: Recording, corked: CorkedTransport, end: str, told: str
) -> None:
    corked.write(b"a")
    getattr(corked, end)()
    await asyncio.sleep(0)
    assert under.done == [b"a", told]


async def test_an_abort_drops_what_was_written(under: Recording, corked: CorkedTransport) -> None:
    corked.write(b"a")
    corked.abort()
    await asyncio.sleep(0)
    assert under.done == ["abort"]


async def test_nothing_is_written_to_a_transport_that_is_closing(under: Recording, corked: CorkedTransport) -> None:
    corked.write(b"a")
    under.closing = True
    await asyncio.sleep(0)
    assert under.done == []


async def test_a_backlog_is_told_before_it_grows(under: Recording, corked: CorkedTransport) -> None:
    corked.write(b"a")
    await asyncio.sleep(0)
    under.waiting_bytes = 1
    corked.write(b"b")
    await asyncio.sleep(0)
    assert under.done == [b"a", "backlog", b"b"]


async def test_what_is_written_after_much_went_at_once_goes_with_the_turn_s_end(
    under: Recording, corked: CorkedTransport
) -> None:
    corked.write(bytes(CORK_BYTES_MAX))
    corked.write(b"a")
    assert len(under.done) == 1
    await asyncio.sleep(0)
    assert under.done[1:] == [b"a"]


async def test_all_else_is_the_transport_s_own(under: Recording, corked: CorkedTransport) -> None:
    under.waiting_bytes = 7
    assert corked.get_write_buffer_size() == 7
    assert not corked.is_closing()


async def test_an_end_for_a_peer_that_has_gone_unnoticed_raises_nothing() -> None:
    made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    class Unread(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            made.set_result(transport)

    server = await asyncio.get_running_loop().create_server(Unread, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        socket.create_connection(server.sockets[0].getsockname()).close()
        transport = await made
        corked = CorkedTransport(transport, asyncio.get_running_loop(), lambda: None)
        corked.write(b"the peer's system refuses this")
        corked.write_eof()
        corked.abort()
