"""Clients that stall, crawl, vanish, flood and lie: each is dealt with, others do not notice, nothing is left."""

import asyncio
import gc
import json
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from archer_ws.core.limits import BAD_MESSAGES_MAX, LANE_BYTES_MAX, Limits
from archer_ws.server import peer_progress
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.raw_websocket import TEXT, RawWebSocket, frame, open_descriptors, raw_websocket, request
from tests.fakes.scripted_server import Exchange, Reply, Step, Wait
from tests.test_socket.conftest import HELLO, Socketed, StartSocketed, assert_quiet, lines, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors and memory in /proc")

LIMIT_S = 60
#: A client that reads nothing takes so much before it blocks the server, at most.
SMALL_BUFFER = 4096


def memory_bytes() -> int:
    """The resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def pace(seconds: float) -> None:
    """Let time pass, where slowness itself is what is tested."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()


@asynccontextmanager
async def nothing_left(archer: Socketed) -> AsyncIterator[None]:
    """No task, descriptor or connection more at the end than at the beginning."""

    def census() -> tuple[int, int, int, int]:
        connections = archer.server.server_state.connections
        return len(asyncio.all_tasks()), open_descriptors(), len(connections), archer.app.state.services.sockets.count

    await until(lambda: not archer.protocols and not archer.ollama.open_connections)
    # The prepared provider's pooled connections may go meanwhile: fewer is no leak.
    before = census()
    yield
    await until(lambda: all(now <= then for now, then in zip(census(), before, strict=True)))


@asynccontextmanager
async def reading_nothing(archer: Socketed) -> AsyncIterator[RawWebSocket]:
    async with raw_websocket(archer.address, receive_buffer=SMALL_BUFFER) as raw:
        assert " 101 " in await raw.head()
        yield raw


def by_question(answers: dict[str, list[str | Step]]) -> Callable[[Exchange], Reply]:
    """Ollama's answer to each question."""
    return lambda exchange: ollama_stream(*answers[exchange.json()["messages"][-1]["content"]])


def ask(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


#: A sixtieth of the real ones.
SHORT = Limits(write_deadline_s=0.5, look_every_s=0.1)


async def test_a_stalled_reader_is_cut_at_the_deadline_others_do_not_notice_and_its_stream_can_be_resumed(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    pieces = [f"{number}:{'x' * 1000} " for number in range(600)]
    tokens = [asyncio.Event() for _ in range(60)]
    paced = [step for number, event in enumerate(tokens) for step in (Wait(event), f"{number} ")]
    # Long enough for a busy machine to read some tokens meanwhile.
    limits = replace(SHORT, write_deadline_s=2)
    async with asyncio.timeout(LIMIT_S), start_socketed(limits=limits) as archer, nothing_left(archer):
        archer.answer(by_question({"long": list(pieces), "paced": list(paced)}))
        async with reading_nothing(archer) as stalled, archer.peer() as other:
            await stalled.send(request("chat/send", 1, stream_id="long", messages=ask("long")))
            await other.call("chat/send", stream_id="paced", messages=ask("paced"))
            await until(lambda: any(not protocol.writable.is_set() for protocol in archer.protocols))
            began = time.monotonic()
            came_meanwhile = 0
            for number, event in enumerate(tokens):
                event.set()
                await other.text("paced", f"{number} ")
                came_meanwhile += len(archer.protocols) == 2
                await pace(0.02)
            await until(lambda: len(archer.protocols) == 1)
            assert time.monotonic() - began > 1.5, "cut before its deadline"
            assert came_meanwhile > 5, "the other client waited for the one that stalls"
            assert (await other.ended("paced")).ended is not None
            await other.call("stream/subscribe", stream_id="long")
            assert (await other.ended("long")).content == "".join(pieces)
    assert len(lines(caplog, "websocket_stalled")) == 1
    assert_quiet(caplog)


async def test_where_the_system_tells_nothing_a_stalled_reader_is_cut_by_the_transports_buffer(
    start_socketed: StartSocketed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    def untold(_: object) -> tuple[int, int]:
        raise OSError

    monkeypatch.setattr(peer_progress, "_kernel_sample", untold)
    async with asyncio.timeout(LIMIT_S), start_socketed(limits=SHORT) as archer, nothing_left(archer):
        archer.answer(ollama_stream(*["x" * 1000] * 600))
        async with reading_nothing(archer) as stalled:
            await stalled.send(request("chat/send", 1, stream_id="s", messages=HELLO))
            await until(lambda: any(not protocol.writable.is_set() for protocol in archer.protocols))
            await until(lambda: not archer.protocols)
    assert len(lines(caplog, "websocket_stalled")) == 1


@pytest.mark.parametrize("receive_buffer", [SMALL_BUFFER, None], ids=["small buffer", "the system's buffer"])
async def test_a_reader_that_crawls_outlives_many_deadlines_and_ping_timeouts(
    start_socketed: StartSocketed,
    caplog: pytest.LogCaptureFixture,
    receive_buffer: int | None,
) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(limits=replace(SHORT, ping_interval_s=0.1, ping_timeout_s=0.5)) as archer,
        nothing_left(archer),
    ):
        archer.answer(ollama_stream(*["y" * 1000] * 1500))
        async with raw_websocket(archer.address, receive_buffer=receive_buffer) as slow:
            await slow.head()
            await slow.send(request("chat/send", 1, stream_id="s", messages=HELLO))
            await until(lambda: any(not protocol.writable.is_set() for protocol in archer.protocols))
            for _ in range(80):
                # 60 KB/s where the deadlines are a sixtieth of the real ones; TCP's window opens by 100 KB at a time.
                assert await slow.crawl(3072)
                await pace(0.05)
            assert len(archer.protocols) == 1
            assert not archer.protocols[0].writable.is_set(), "it has caught up: nothing was tested"
    assert not lines(caplog, "websocket_stalled")
    assert not lines(caplog, "websocket_silent")


async def test_a_reader_that_lags_is_alive_while_it_answers_the_pings_between_the_messages(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    # All is delivered into the client's buffer, and the pong that is asked for comes only behind it.
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(limits=Limits(ping_interval_s=0.2, ping_timeout_s=1.0)) as archer,
        nothing_left(archer),
    ):
        archer.answer(ollama_stream(*["z" * 1000] * 200))
        async with raw_websocket(archer.address, receive_buffer=2_000_000) as slow:
            await slow.head()
            await slow.send(request("chat/send", 1, stream_id="s", messages=HELLO))
            await until(lambda: any(each.replied.is_set() for each in archer.ollama.exchanges if "chat" in each.path))
            for _ in range(50):
                assert await slow.crawl(3072)
                await pace(0.05)
            assert len(archer.protocols) == 1
            # Now it stops: that is noticed.
            await until(lambda: not archer.protocols)
    assert len(lines(caplog, "websocket_silent")) == 1


async def test_clients_that_vanish_without_a_close_frame_leave_nothing(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, nothing_left(archer):
        archer.answer(ollama_stream(*["v" * 1000] * 300))
        for number in range(30):
            async with reading_nothing(archer) as raw:
                await raw.send(request("chat/send", 1, stream_id=f"s{number}", messages=HELLO))
                await raw.send(frame(TEXT, b"half a message", fin=False))
                if number % 3:
                    await raw.read(100)
                if number % 2:
                    # A reset instead of an end.
                    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        manager = archer.app.state.services.manager
        await until(lambda: manager.running == 0)
    assert_quiet(caplog)


async def test_the_memory_of_clients_that_vanish_is_freed_at_once_and_not_by_the_garbage_collector(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, nothing_left(archer):

        async def vanish(sent: bytes, is_there: Callable[[], bool]) -> None:
            async with reading_nothing(archer) as raw:
                await raw.send(sent)
                await until(is_there)
            await until(lambda: archer.app.state.services.sockets.count == 0 and not archer.protocols)

        def has_full_lane() -> bool:
            connections = archer.app.state.services.sockets._connections
            return any(not connection.context.writer.has_room for connection in connections)

        def has_half_message() -> bool:
            return any(len(protocol._reader.buffer) > 800_000 for protocol in archer.protocols)

        def has_asked() -> bool:
            return any(each.context.has_spoken for each in archer.app.state.services.sockets._connections)

        asked = b"".join(request("rpc.discover", number) for number in range(20))
        long = request("session/list", 1, padding="p" * 900_000)
        half = long[:-1]
        refused = request("chat/send", 1, session_id="none", messages=[{"role": "user", "content": "p" * 900_000}])
        ways = ((asked, has_full_lane), (long, has_asked), (refused, has_asked), (half, has_half_message))
        for sent, is_there in ways:
            await vanish(sent, is_there)
        gc.collect()
        gc.disable()
        try:
            memory = memory_bytes()
            for sent, is_there in ways:
                for _ in range(30):
                    await vanish(sent, is_there)
            assert memory_bytes() - memory < 20_000_000
        finally:
            gc.enable()
    assert_quiet(caplog)


@pytest.mark.parametrize(
    "junk",
    [bytes(range(256)), frame(TEXT, b"[" * 5000), frame(TEXT, b"{}"), frame(TEXT, b"9" * 10_000), frame(TEXT, b"\xc3")],
    ids=["noise", "deep JSON", "no requests", "long numbers", "not UTF-8"],
)
async def test_megabytes_of_junk_harm_nobody(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture, junk: bytes
) -> None:
    sent = 0

    async def pour() -> None:
        """A new connection for each that is closed."""
        nonlocal sent
        piece = junk * (65_536 // len(junk))
        while True:
            async with raw_websocket(archer.address) as raw:
                try:
                    await raw.head()
                    async with asyncio.timeout(0.2):
                        for _ in range(8):
                            await raw.send(piece)
                            sent += len(piece)
                        await raw.until_gone()
                except (ConnectionError, TimeoutError, EOFError):
                    pass

    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, nothing_left(archer), archer.peer() as other:
        memory = memory_bytes()
        pouring = asyncio.create_task(pour())
        answered = 0
        while answered < 10 or sent < 1_000_000:
            await other.call("ping")
            answered += 1
            await asyncio.sleep(0)
        assert not pouring.done()
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
        assert memory_bytes() - memory < 50_000_000
    assert len(lines(caplog, "websocket_violation")) <= 1
    assert_quiet(caplog)


async def test_a_flood_of_pings_by_a_client_that_never_reads_is_stopped_at_the_lanes_bound(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed() as archer,
        nothing_left(archer),
        reading_nothing(archer) as flood,
    ):
        await until(lambda: archer.app.state.services.sockets.count == 1)
        (connection,) = archer.app.state.services.sockets._connections
        memory = memory_bytes()
        # The identities are as long as they may be: the lane fills sooner.
        piece = b"".join(
            frame(TEXT, json.dumps({"jsonrpc": "2.0", "id": "i" * 250 + str(n), "method": "ping"}).encode())
            for n in range(200)
        )

        async def pour() -> None:
            while True:
                await flood.send(piece)

        pouring = asyncio.create_task(pour())
        await until(lambda: not connection.context.writer._has_room.is_set(), timeout_s=40)
        async with archer.peer() as other:
            for _ in range(20):
                assert await other.call("ping") == {}
        assert not pouring.done()
        assert connection.context.writer._lane_bytes < LANE_BYTES_MAX + 1000
        (protocol,) = archer.protocols
        assert protocol.transport.get_write_buffer_size() < 256 * 1024
        assert memory_bytes() - memory < 30_000_000
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
    assert_quiet(caplog)


async def test_a_handshake_that_never_ends_is_closed(start_socketed: StartSocketed) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(limits=Limits(head_deadline_s=0.3)) as archer,
        nothing_left(archer),
    ):
        host, port = archer.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /api/v1/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: ")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_fifty_megabytes_of_header_fields_are_refused_early(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, nothing_left(archer):
        memory = memory_bytes()
        sent = 0
        connection = socket.socket()
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        host, port = archer.address.split(":")
        await loop.sock_connect(connection, (host, int(port)))
        await loop.sock_sendall(connection, b"GET /api/v1/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        field = b"X-Field: " + b"x" * 8000 + b"\r\n"
        with suppress(ConnectionError):
            while sent < 50_000_000:
                await loop.sock_sendall(connection, field)
                sent += len(field)
        connection.close()
        # What the buffers of both systems hold comes on top of what the server read.
        assert sent < 20_000_000
        assert memory_bytes() - memory < 5_000_000


async def test_ids_in_flight_twice_are_refused_and_end_the_socket_when_they_go_on(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed() as archer,
        nothing_left(archer),
        raw_websocket(archer.address) as raw,
    ):
        await raw.head()
        await raw.send(request("model/list", 1) * (BAD_MESSAGES_MAX + 2))
        refused = 0
        while (received := await raw.frame())[0] == TEXT:
            answer = json.loads(received[1])
            refused += answer["id"] is None and answer["error"]["code"] == -32600
        assert refused == BAD_MESSAGES_MAX + 1
        assert int.from_bytes(received[1][:2]) == 4504
    assert_quiet(caplog)
