"""Stopping with open sockets (protocol section 9), by our server and by plain uvicorn."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from structlog.contextvars import bound_contextvars

from archer_ws.core.limits import Limits
from tests.conftest import StartArcher
from tests.fakes.ollama_api import ollama_line, ollama_stream
from tests.fakes.raw_websocket import CLOSE, PING, PONG, TEXT, frame, raw_websocket, request
from tests.fakes.rpc_peer import RpcError, RpcPeer, SocketTransport
from tests.fakes.scripted_server import Wait, forever
from tests.processes import server
from tests.test_socket.conftest import HELLO, StartSocketed, assert_quiet, lines, until

LIMIT_S = 30


def close_code(peer: RpcPeer) -> int | None:
    assert isinstance(peer.transport, SocketTransport)
    return peer.transport.close_code


def draining_notices(peer: RpcPeer) -> list[Any]:
    return [frame["params"] for frame in peer.others if frame["method"] == "server/draining"]


@pytest.mark.parametrize(("drain_s", "remaining_ms"), [(300, 300_000), (1e308, 2**53 - 1)])
async def test_with_nothing_running_sockets_are_closed_with_4000_at_once(
    start_socketed: StartSocketed, drain_s: float, remaining_ms: int
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(drain_s=drain_s) as archer, archer.peer() as peer:
        await peer.call("ping")
        archer.server.request_stop("test")
        await peer.closed.wait()
        assert close_code(peer) == 4000
        assert draining_notices(peer) == [{"remaining_ms": remaining_ms}]
        await archer.running


async def test_a_running_stream_ends_first_and_new_work_is_refused(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    more = asyncio.Event()
    async with asyncio.timeout(LIMIT_S), start_socketed(drain_s=300) as archer, archer.peer() as peer:
        archer.answer(ollama_stream("Because ", Wait(more), "it is."))
        await peer.call("chat/send", stream_id="s", messages=HELLO)
        await peer.text("s", "Because ")
        archer.server.request_stop("test")
        await peer.until(lambda: bool(draining_notices(peer)))
        with pytest.raises(RpcError) as caught:
            await peer.call("chat/send", messages=HELLO)
        assert (caught.value.code, caught.value.kind) == (-32040, "draining")
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(archer.url, proxy=None)
        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body or b"")["error"]["kind"] == "draining"
        # A page can't read that, and asks.
        async with httpx.AsyncClient(trust_env=False) as http:
            asked = await http.post(archer.url.replace("ws", "http", 1))
        assert (asked.status_code, asked.json()["error"]["kind"]) == (503, "draining")
        more.set()
        seen = await peer.ended("s")
        assert seen.content == "Because it is."
        assert seen.ended is not None
        assert seen.ended["status"] == "completed"
        await peer.closed.wait()
        assert close_code(peer) == 4000
        await archer.running
    assert_quiet(caplog)


async def test_at_the_deadline_streams_end_as_cancelled_and_the_end_is_delivered_before_the_close(
    start_socketed: StartSocketed,
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(drain_s=0.2) as archer, archer.peer() as peer:
        archer.answer(ollama_stream("Because ", forever()))
        await peer.call("chat/send", stream_id="s", messages=HELLO)
        await peer.text("s", "Because ")
        archer.server.request_stop("test")
        seen = await peer.ended("s")
        assert seen.ended is not None
        assert (seen.ended["status"], seen.ended["reason"]) == ("cancelled", "draining")
        await peer.closed.wait()
        assert close_code(peer) == 4000
        await archer.running


async def test_a_client_that_lags_gets_all_events_before_the_close(start_socketed: StartSocketed) -> None:
    piece = ollama_line("\x01" * 100_000)
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(drain_s=0.2) as archer,
        raw_websocket(archer.address, receive_buffer=4096) as raw,
        archer.peer() as other,
    ):
        await raw.head()
        archer.answer(ollama_stream(*[piece] * 5, forever(), end=False))
        await raw.send(request("chat/send", 1, stream_id="s", messages=HELLO))
        await until(lambda: any(not protocol.writable.is_set() for protocol in archer.protocols))
        archer.server.request_stop("test")
        # The other one is closed: so was this one, but for what it has not read.
        await other.closed.wait()
        texts = []
        while (received := await raw.frame())[0] != CLOSE:
            if received[0] == TEXT:
                texts.append(json.loads(received[1]))
        assert int.from_bytes(received[1][:2]) == 4000
        assert texts[-1]["method"] == "stream/ended"
        assert texts[-1]["params"]["reason"] == "draining"
        assert sum(len(each["params"].get("content", "")) for each in texts if "params" in each) == 500_000
        await archer.running


async def test_a_client_that_lags_and_answers_pings_gets_all_events_and_the_close(
    start_socketed: StartSocketed,
) -> None:
    # Its pongs come when all is written: they must not meet a closed connection, whose reset would drop the rest.
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(drain_s=0.2) as archer,
        raw_websocket(archer.address, receive_buffer=4096) as raw,
    ):
        await raw.head()
        archer.answer(ollama_stream(*["x" * 10_000] * 15))
        await raw.send(request("chat/send", 1, stream_id="s", messages=HELLO))
        await until(lambda: bool((stream := archer.stream("s")) and not stream.is_live))
        archer.server.request_stop("test")
        await until(lambda: archer.server.should_exit and not any(each.sockets for each in archer.server.servers))
        texts = []
        while (received := await raw.frame())[0] != CLOSE:
            if received[0] == TEXT:
                texts.append(json.loads(received[1]))
            elif received[0] == PING:
                await raw.send(frame(PONG, received[1]))
        assert int.from_bytes(received[1][:2]) == 4000
        assert "stream/ended" in [each.get("method") for each in texts]
        assert sum(len(each["params"].get("content", "")) for each in texts if "params" in each) == 150_000
        await raw.send(frame(CLOSE, received[1]))
        await archer.running


async def test_a_client_that_does_not_read_cannot_hold_up_the_stop(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    piece = ollama_line("\x01" * 400_000)
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(drain_s=0.2, limits=Limits(flush_s=0.5)) as archer,
        raw_websocket(archer.address, receive_buffer=4096) as stuck,
        archer.peer() as peer,
    ):
        archer.answer(ollama_stream(*[piece] * 5, forever(), end=False))
        await stuck.send(request("chat/send", 1, stream_id="s", messages=HELLO))
        await until(lambda: any(not protocol.writable.is_set() for protocol in archer.protocols))
        archer.server.request_stop("test")
        await peer.closed.wait()
        assert close_code(peer) == 4000
        async with asyncio.timeout(5):
            await archer.running
    assert_quiet(caplog)


async def test_sockets_and_requests_that_do_not_end_hold_up_the_stop_together_and_not_one_after_the_other(
    start_socketed: StartSocketed,
) -> None:
    piece = ollama_line("\x01" * 400_000)
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(drain_s=0.2, limits=Limits(flush_s=3)) as archer,
        raw_websocket(archer.address, receive_buffer=4096) as stuck,
        archer.peer() as peer,
    ):
        archer.answer(ollama_stream(*[piece] * 5, forever(), end=False))
        await stuck.send(request("chat/send", 1, stream_id="s", messages=HELLO))
        await until(lambda: any(not protocol.writable.is_set() for protocol in archer.protocols))
        host, _, port = archer.address.partition(":")
        _, unfinished = await asyncio.open_connection(host, int(port))
        unfinished.write(b"POST /api/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        await until(lambda: len(archer.http_connections) == 1)
        archer.server.request_stop("test")
        await peer.closed.wait()
        async with asyncio.timeout(5.5):
            await archer.running
        unfinished.close()


async def test_the_lines_about_a_stop_have_no_request_s_id_although_the_signal_comes_in_the_middle_of_one(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "archer_ws")
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        with bound_contextvars(request_id="req_another"):
            archer.server.request_stop("test")
            archer.server.request_stop("test")
        await archer.running
    told = [*lines(caplog, "stopping"), *lines(caplog, "stopping_at_once")]
    assert told
    assert not [line for line in told if "req_another" in str(line.msg)]


async def test_a_second_request_to_stop_ends_it_at_once(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(drain_s=300) as archer, archer.peer() as peer:
        archer.answer(ollama_stream("Because ", forever()))
        await peer.call("chat/send", stream_id="s", messages=HELLO)
        await peer.text("s", "Because ")
        archer.server.request_stop("test")
        await peer.until(lambda: bool(draining_notices(peer)))
        archer.server.request_stop("test")
        await peer.ended("s")
        await peer.closed.wait()
        async with asyncio.timeout(5):
            await archer.running
        assert archer.server.was_hurried


@pytest.mark.skipif(sys.platform == "win32", reason="another process can't be sent a signal there")
async def test_archer_ws_serve_drains_its_sockets_on_sigterm(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with server(ollama_stream("Because ", Wait(more), "it is."), cwd=tmp_path) as running:
        url = running.url.replace("http://", "ws://") + "/api/v1/ws"
        async with asyncio.timeout(LIMIT_S), websockets.connect(url, proxy=None) as connection:
            peer = RpcPeer(SocketTransport(connection))
            await peer.call("chat/send", stream_id="s", messages=HELLO)
            await peer.text("s", "Because ")
            running.program.send_signal(signal.SIGTERM)
            await peer.until(lambda: bool(draining_notices(peer)))
            more.set()
            assert (await peer.ended("s")).content == "Because it is."
            await peer.closed.wait()
            assert close_code(peer) == 4000
            await peer.stop()
        assert await running.program.ended(limit_s=10) == 0
        errors = await running.program.errors()
        assert "Traceback" not in errors
        assert "plain_server" not in errors


async def test_under_plain_uvicorn_the_semantics_hold_and_a_line_says_what_does_not(
    start_archer: StartArcher, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S):
        async with start_archer() as archer:
            archer.answer(ollama_stream("Because ", forever()))
            connection = await websockets.connect(f"ws://{archer.address}/api/v1/ws", proxy=None)
            peer = RpcPeer(SocketTransport(connection))
            await peer.call("chat/send", stream_id="s", messages=HELLO)
            await peer.text("s", "Because ")
            (exchange,) = [each for each in archer.ollama.exchanges if each.path == "/api/chat"]
        # The server has stopped: the socket was closed, and the stream did not outlive the application.
        await peer.closed.wait()
        assert close_code(peer) == 1012
        await exchange.client_left.wait()
        await peer.stop()
    (line,) = lines(caplog, "plain_server")
    assert "write deadline" in str(line.msg)
    assert_quiet(caplog)
