"""The WebSocket protocol class alone: junk, floods, keepalive, and what a client may hold on to."""

import asyncio
import json

import pytest
import websockets

from archer_ws.core.limits import WS_SLICE_BYTES, Limits
from archer_ws.server.ws_protocol import MARK_BYTES, MARK_EVERY_BYTES
from tests.fakes.raw_websocket import BINARY, CLOSE, CONT, PING, PONG, TEXT, frame, raw_websocket
from tests.test_socket.conftest import StartEcho, answers, assert_quiet, lines, until

MAX = 1024 * 1024
LIMIT_S = 20


@pytest.mark.parametrize(
    ("junk", "code"),
    [
        pytest.param(frame(TEXT, b"\xff\xfe"), 1007, id="not UTF-8"),
        pytest.param(frame(TEXT, b"\xce", fin=False) + frame(CONT, b"\xff"), 1007, id="fragments not UTF-8"),
        pytest.param(frame(TEXT, b"\xff") * 3, 1007, id="not UTF-8 more than once"),
        pytest.param(frame(TEXT, b"hi", rsv=0x40), 1002, id="reserved bit"),
        pytest.param(frame(3, b"hi"), 1002, id="reserved opcode"),
        pytest.param(frame(CONT, b"hi"), 1002, id="continuation of nothing"),
        pytest.param(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002, id="message within a message"),
        pytest.param(frame(PING, b"hi", fin=False), 1002, id="fragmented ping"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="long ping"),
        pytest.param(frame(TEXT, b"hi", masked=False), 1002, id="not masked"),
        pytest.param(frame(CLOSE, b"\x03"), 1002, id="half a close code"),
        pytest.param(frame(CLOSE, (999).to_bytes(2)), 1002, id="forbidden close code"),
        pytest.param(frame(TEXT, b"x" * (MAX + 1)), 1009, id="more than 1 MiB"),
        pytest.param((frame(TEXT, b"x" * MAX, fin=False) + frame(CONT, b"x")), 1009, id="fragments over 1 MiB"),
        pytest.param(bytes(range(256)) * 4000, 1002, id="noise"),
    ],
)
async def test_junk_closes_with_its_code_one_line_and_no_harm_to_others(
    start_echo: StartEcho, caplog: pytest.LogCaptureFixture, junk: bytes, code: int
) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_echo() as echo,
        websockets.connect(f"ws://{echo.address}/", proxy=None) as other,
        raw_websocket(echo.address, "/") as raw,
    ):
        assert " 101 " in await raw.head()
        await raw.send(junk)
        assert await raw.close_code() == code
        await raw.until_gone()
        await answers(other)
    assert len(lines(caplog, "websocket_violation")) == 1
    assert_quiet(caplog)


async def test_the_close_code_reaches_a_client_that_goes_on_sending(start_echo: StartEcho) -> None:
    async with asyncio.timeout(LIMIT_S), start_echo() as echo, raw_websocket(echo.address, "/") as raw:
        await raw.head()
        await raw.send(frame(3))
        # Without lingering the server's system answers this with a reset, which discards the close frame.
        await raw.send(bytes(4_000_000))
        assert await raw.close_code() == 1002


async def test_many_violations_are_told_in_one_line(start_echo: StartEcho, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(LIMIT_S), start_echo() as echo:
        for _ in range(5):
            async with raw_websocket(echo.address, "/") as raw:
                await raw.head()
                await raw.send(frame(3))
                assert await raw.close_code() == 1002
    assert len(lines(caplog, "websocket_violation")) == 1


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING) * 3000,
        frame(PONG) * 3000,
        frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 3000,
        frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 5000 + frame(CONT) + frame(TEXT, b"late"),
        (frame(PING) + frame(PONG)) * 1500 + frame(CLOSE, b"\x03\xe8"),
    ],
    ids=["pings", "pongs", "empty fragments", "fragments, and an end", "both, and a close"],
)
async def test_a_flood_of_frames_that_say_nothing_is_closed_quietly(
    start_echo: StartEcho, caplog: pytest.LogCaptureFixture, flood: bytes
) -> None:
    async with asyncio.timeout(LIMIT_S), start_echo() as echo, raw_websocket(echo.address, "/") as raw:
        await raw.head()
        await raw.send(flood)
        code, reason = await raw.close_frame()
        assert (code, reason.partition(":")[0]) == (4504, "protocol_violation")
        await raw.until_gone()
    assert len(lines(caplog, "websocket_violation")) == 1
    assert_quiet(caplog)


@pytest.mark.parametrize(
    "junk",
    [frame(3), frame(CONT, b"x"), frame(TEXT, b"\xff"), frame(PING, b"x", fin=False), frame(TEXT, b"x", masked=False)],
    ids=["an opcode", "a fragment of nothing", "not UTF-8", "a ping in pieces", "no mask"],
)
@pytest.mark.parametrize(
    "around", [frame(PING, b"p"), frame(PONG, b"p"), frame(TEXT, b'"x"')], ids=["ping", "pong", "text"]
)
async def test_what_stands_beside_a_violation_changes_nothing(
    start_echo: StartEcho, caplog: pytest.LogCaptureFixture, junk: bytes, around: bytes
) -> None:
    async with asyncio.timeout(LIMIT_S), start_echo() as echo:
        for pieces in ([around + junk + around], [around, junk, around], [around + junk, around * 50]):
            async with raw_websocket(echo.address, "/") as raw:
                await raw.head()
                for piece in pieces:
                    await raw.send(piece)
                assert await raw.close_code() in {1002, 1007}
                await raw.until_gone()
    assert_quiet(caplog)


async def test_a_message_in_tiny_fragments_is_one_buffer_and_arrives_whole(start_echo: StartEcho) -> None:
    pieces = 20_000
    async with asyncio.timeout(LIMIT_S), start_echo() as echo, raw_websocket(echo.address, "/") as raw:
        await raw.head()
        await raw.send(frame(TEXT, b"x", fin=False) + frame(CONT, b"x", fin=False) * pieces + frame(PING, b"?"))
        assert await raw.frame() == (PONG, b"?")
        assert len(echo.protocol().frames) == 1
        await raw.send(frame(CONT, b"!"))
        assert await raw.frame() == (TEXT, b"x" * (pieces + 1) + b"!")


async def test_thousands_of_messages_in_one_read_wait_unparsed(start_echo: StartEcho) -> None:
    async with asyncio.timeout(LIMIT_S), start_echo() as echo, raw_websocket(echo.address, "/") as raw:
        await raw.head()
        echo.may_receive.clear()
        count = 60_000
        sending = asyncio.create_task(raw.send(frame(TEXT, b"") * count))
        protocol = echo.protocol()
        await until(lambda: bool(protocol._unparsed))
        for _ in range(50):
            await asyncio.sleep(0)
            assert protocol.queue.qsize() <= WS_SLICE_BYTES // 6 + 1
        echo.may_receive.set()
        for _ in range(count):
            assert await raw.frame() == (TEXT, b"")
        await sending


async def test_what_comes_while_a_message_waits_is_not_parsed_and_reading_pauses(start_echo: StartEcho) -> None:
    async with asyncio.timeout(LIMIT_S), start_echo() as echo, raw_websocket(echo.address, "/") as raw:
        await raw.head()
        echo.may_receive.clear()
        protocol = echo.protocol()
        await raw.send(frame(TEXT, b"received"))
        assert await raw.frame() == (TEXT, b"received")
        await raw.send(frame(TEXT, b"waits"))
        await until(lambda: not protocol.queue.empty())
        assert not protocol.read_paused
        await raw.send(frame(PING, b"behind it") + frame(TEXT, b"too"))
        await until(lambda: protocol.read_paused)
        assert protocol.queue.qsize() == 1
        echo.may_receive.set()
        frames = [await raw.frame() for _ in range(3)]
        assert sorted(frames) == [(TEXT, b"too"), (TEXT, b"waits"), (PONG, b"behind it")]
        await until(lambda: not protocol.read_paused)


async def test_pongs_to_a_client_that_does_not_read_do_not_pile_up(start_echo: StartEcho) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_echo(limits=Limits(idle_frames_max=10**9)) as echo,
        raw_websocket(echo.address, "/", receive_buffer=4096) as raw,
    ):
        await raw.head()
        protocol = echo.protocol()
        for _ in range(20):
            await raw.send(frame(PING, b"p" * 125) * 1000)
        await raw.send(frame(PING, b"last"))
        await until(lambda: protocol._late_pong is not None and b"last" in protocol._late_pong)
        assert protocol.transport.get_write_buffer_size() < 256 * 1024
        while (await raw.frame()) != (PONG, b"last"):
            pass


async def test_frames_sent_before_the_handshake_is_answered_are_kept(start_echo: StartEcho) -> None:
    async with asyncio.timeout(LIMIT_S), start_echo() as echo, raw_websocket(echo.address, "/") as raw:
        echo.may_accept.clear()
        await until(lambda: bool(echo.server.server_state.tasks))
        await raw.send(frame(PING, b"early") + frame(TEXT, b"bird"))
        protocol = echo.protocol()
        await until(lambda: bool(protocol._unparsed))
        echo.may_accept.set()
        assert " 101 " in await raw.head()
        assert await raw.frame() == (PONG, b"early")
        assert await raw.frame() == (TEXT, b"bird")


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        ("Sec-WebSocket-Version: 12", "Sec-WebSocket-Version"),
        ("Sec-WebSocket-Protocol: archer.ticket.SECRET, a@b", "Sec-WebSocket-Protocol"),
        ("Content-Length: 5", "InvalidMessage"),
        ("Transfer-Encoding: chunked", "InvalidMessage"),
    ],
    ids=["two versions", "no list of protocols", "a body", "a chunked body"],
)
async def test_an_upgrade_that_cannot_be_is_answered_logged_and_closed(
    start_echo: StartEcho, caplog: pytest.LogCaptureFixture, header: str, cause: str
) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_echo() as echo,
        raw_websocket(echo.address, "/", header) as raw,
    ):
        head = await raw.head()
        assert " 400 " in head
        assert "Content-Length: 0" not in head
        await raw.until_gone()
    (line,) = lines(caplog, "handshake_refused")
    assert cause in line.getMessage()
    assert "SECRET" not in caplog.text
    assert_quiet(caplog)


@pytest.mark.parametrize("version", ["8", "14", "SECRET"])
async def test_a_handshake_with_another_version_is_told_the_one_that_is_understood(
    start_echo: StartEcho, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    async with asyncio.timeout(LIMIT_S), start_echo() as echo, raw_websocket(echo.address, "/", version=version) as raw:
        status, *fields = (await raw.head()).split("\r\n")
        assert status == "HTTP/1.1 426 Upgrade Required"
        assert {"Sec-WebSocket-Version: 13", "Upgrade: websocket", "Connection: Upgrade"} < set(fields)
        await raw.until_gone()
    (line,) = lines(caplog, "handshake_refused")
    assert "Sec-WebSocket-Version" in line.getMessage()
    assert "SECRET" not in caplog.text
    assert_quiet(caplog)


async def test_a_handshake_may_have_as_many_fields_as_any_other_head(start_echo: StartEcho) -> None:
    fields = [f"X-More-{number}: x" for number in range(1000)]
    async with asyncio.timeout(LIMIT_S), start_echo() as echo, raw_websocket(echo.address, "/", *fields) as raw:
        assert " 101 " in await raw.head()
        await raw.send(frame(TEXT, b"hi"))
        assert await raw.frame() == (TEXT, b"hi")


async def test_a_peer_that_does_not_answer_pings_is_closed(
    start_echo: StartEcho, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.2}
    async with asyncio.timeout(LIMIT_S), start_echo(**config) as echo, raw_websocket(echo.address, "/") as raw:
        await raw.head()
        await until(lambda: not echo.server.server_state.connections)
        assert await raw.close_code() == 1011
    assert len(lines(caplog, "websocket_silent")) == 1
    assert_quiet(caplog)


def test_a_peer_that_falls_silent_after_a_late_pong_is_closed(
    start_echo: StartEcho, caplog: pytest.LogCaptureFixture
) -> None:
    uvloop = pytest.importorskip("uvloop")  # its timers differ from asyncio's where the time is short

    async def fall_silent(address: str, pause_s: float) -> int | None:
        async with raw_websocket(address, "/") as raw:
            await raw.head()
            for _ in range(2):
                await raw.send(frame(TEXT, json.dumps("x" * MARK_EVERY_BYTES).encode()))
            pings: dict[int, bytes] = {}
            while len(pings) < 2:  # the mark between the messages, and the one that keeps the connection alive
                opcode, payload = await raw.frame()
                if opcode == PING:
                    pings[len(payload)] = payload
            await asyncio.sleep(pause_s)
            await raw.send(frame(PONG, pings[MARK_BYTES]))
            return await raw.close_code()

    async def close_all() -> list[int | None]:
        # The loop counts whole milliseconds: a part of one is left when the timer strikes, as by a rounding error.
        config = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.2004}
        async with asyncio.timeout(LIMIT_S), start_echo(**config) as echo:
            return await asyncio.gather(*(fall_silent(echo.address, number / 200) for number in range(20)))

    assert uvloop.run(close_all()) == [1011] * 20
    assert_quiet(caplog)


async def test_a_pong_that_we_do_not_read_is_not_held_against_the_peer(start_echo: StartEcho) -> None:
    config = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.1}
    async with (
        asyncio.timeout(LIMIT_S),
        start_echo(**config) as echo,
        websockets.connect(f"ws://{echo.address}/", proxy=None) as client,
    ):
        await answers(client)
        echo.may_receive.clear()
        await client.send(json.dumps("you do not read this yet"))
        await client.send(json.dumps("nor this"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await client.wait_closed()
        echo.may_receive.set()
        await client.recv()
        await client.recv()
        await answers(client)


async def test_nothing_is_logged_of_a_socket_and_its_query(
    start_echo: StartEcho, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with (
        asyncio.timeout(LIMIT_S),
        start_echo() as echo,
        websockets.connect(f"ws://{echo.address}/?token=SECRET", proxy=None, logger=None) as client,
    ):
        await answers(client)
    served = [record.getMessage() for record in caplog.records if not record.name.startswith("websockets.client")]
    assert not [line for line in served if "SECRET" in line or "connection open" in line]


async def test_binary_reaches_the_application_as_bytes(start_echo: StartEcho) -> None:
    async with asyncio.timeout(LIMIT_S), start_echo() as echo, raw_websocket(echo.address, "/") as raw:
        await raw.head()
        echo.may_receive.clear()
        await raw.send(frame(BINARY, b"a", fin=False) + frame(CONT, b"b"))
        protocol = echo.protocol()
        await until(lambda: not protocol.queue.empty())
        assert await protocol.queue.get() == {"type": "websocket.receive", "bytes": b"ab"}
        echo.may_receive.set()
