"""Clients over HTTP that send without end, stand still, or take nothing: each is let go, and others do not notice."""

import asyncio
import json
import logging
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from archer_ws.core.limits import MAX_HEAD_BYTES, PIPELINED_REQUESTS_MAX, Limits
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.scripted_server import Wait, forever
from tests.test_socket.conftest import Socketed, StartSocketed, assert_quiet, lines, until
from tests.test_socket.test_abuse import LIMIT_S, SMALL_BUFFER, memory_bytes, nothing_left, pace

TOKEN = "the-right-token-0123456789"
HOST, AUTHORIZATION = b"Host: localhost\r\n", f"Authorization: Bearer {TOKEN}\r\n".encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n"


class RawClient:
    """A connection on which every byte is the test's."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = b""

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def head(self) -> bytes:
        """The next answer's head."""
        while b"\r\n\r\n" not in self.received:
            more = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
            assert more, f"closed after {self.received!r}"
            self.received += more
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        return head

    async def answer(self) -> bytes:
        """The next answer's head, once its body has come too."""
        head = await self.head()
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(self.received) < length:
            self.received += await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        self.received = self.received[length:]
        return head

    async def rest(self) -> bytes:
        """All that comes until the end, however that comes."""
        with suppress(ConnectionError):
            while more := await asyncio.get_running_loop().sock_recv(self.socket, 65536):
                self.received += more
        return self.received

    async def flood(self, piece: bytes, most: int) -> int:
        """Send it over and over; how many bytes went before the connection ended."""
        sent = 0
        with suppress(ConnectionError):
            while sent < most:
                await self.send(piece)
                sent += len(piece)
        return sent


@asynccontextmanager
async def connected(archer: Socketed, receive_buffer: int | None = None) -> AsyncIterator[RawClient]:
    host, _, port = archer.address.rpartition(":")
    with socket.socket() as connection:
        connection.setblocking(False)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
        yield RawClient(connection)


def post(path: bytes, fields: bytes, body: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\n%b\r\n%b" % (path, HOST, fields, body)


def ask(**more: Any) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], **more}).encode()
    return post(b"/api/v1/chat/completions", b"Content-Length: %d\r\n" % len(body), body)


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"0\r\n", b"a: b\r\n" * 10_000),
        (b"0\r\nA: ", b"b" * 65_536),
        (b"0\r\n", b"a" * 65_536),
        (b"5;", b"x" * 65_536),
        (b"2\r\n{}\r\n0\r\n", b"a: b\r\n" * 10_000),
    ],
    ids=["many trailers", "one trailer's value", "one trailer's name", "a chunk's extension", "behind a body"],
)
async def test_trailers_without_end_cost_their_sender_the_connection_and_nobody_memory(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture, beginning: bytes, piece: bytes
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer, nothing_left(archer):
        memory = memory_bytes()
        async with connected(archer) as client:
            await client.send(post(b"/x", CHUNKED, beginning))
            # What the buffers of both systems hold comes on top of what the server read.
            assert await client.flood(piece, 50_000_000) < 20_000_000
        assert memory_bytes() - memory < 20_000_000
    assert_quiet(caplog)


async def test_trailers_without_end_that_nobody_has_refused_yet_are(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, nothing_left(archer), connected(archer) as client:
        # The application waits for the body's end.
        await client.send(post(b"/api/v1/sessions", CHUNKED, b"2\r\n{}\r\n0\r\n"))
        await until(lambda: any(connection._awaits_body for connection in archer.http_connections))
        await client.flood(b"a: b\r\n" * 100, MAX_HEAD_BYTES + 1000)
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")
        assert b"trailer fields are too large" in await client.rest()
    assert len(lines(caplog, "request_refused")) == 1
    assert_quiet(caplog)


async def test_a_few_trailers_are_dropped_and_the_connection_is_kept(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer, connected(archer) as client:
        for _ in range(2):
            trailers = b"X: %b\r\nY: 1\r\n" % (b"x" * 1000)
            await client.send(
                post(b"/api/v1/sessions", AUTHORIZATION + CHUNKED, b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n")
            )
            head = await client.answer()
            assert head.startswith(b"HTTP/1.1 201 ")
            assert b"connection: close" not in head.lower()


@pytest.mark.parametrize(
    ("head", "trailer", "status"),
    [
        (HOST, AUTHORIZATION, b"401"),
        (AUTHORIZATION, HOST, b"403"),
        (HOST + AUTHORIZATION, b"Origin: https://evil.example\r\n", b"201"),
        (HOST + AUTHORIZATION, b"Authorization: Bearer wrong\r\nHost: evil.example\r\n", b"201"),
        (HOST + AUTHORIZATION, b"X-Request-ID: mine\r\n", b"201"),
    ],
    ids=["a token", "a host", "an origin", "a second token and host", "an id"],
)
@pytest.mark.parametrize("in_one_piece", [True, False])
async def test_what_stands_behind_the_body_is_no_header(
    start_socketed: StartSocketed, head: bytes, trailer: bytes, status: bytes, in_one_piece: bool
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer, connected(archer) as client:
        request = b"POST /api/v1/sessions HTTP/1.1\r\n" + head + b"Content-Type: application/json\r\n" + CHUNKED
        await client.send(request + b"\r\n2\r\n{}\r\n")
        if not in_one_piece:
            await pace(0.05)
        with suppress(ConnectionError):
            await client.send(b"0\r\n" + trailer + b"\r\n")
        answer = await client.head()
        assert answer[9:12] == status
        assert b"x-request-id: mine" not in answer.lower()


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        (b"/api/v1/chat/completions", b"Content-Length: 5000000\r\n", b"401"),
        (b"/api/v1/chat/completions", CHUNKED, b"401"),
        (b"/api/v1/chat/completions", AUTHORIZATION + b"Content-Length: 50000000\r\n", b"413"),
        (b"/no/such/path", AUTHORIZATION + b"Content-Length: 5000000\r\n", b"404"),
    ],
    ids=["no credential", "no credential, in chunks", "too large", "no such path"],
)
async def test_behind_a_refusal_the_connection_ends_though_the_body_goes_on(
    start_socketed: StartSocketed, path: bytes, fields: bytes, status: bytes
) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(auth_token=TOKEN, limits=Limits(body_rest_s=0.3)) as archer,
        nothing_left(archer),
        connected(archer) as client,
    ):
        await client.send(post(path, fields))
        head = await client.head()
        assert head[9:12] == status
        assert b"connection: close" in head.lower()
        assert b'"kind"' in await client.rest()
        # It goes on for a while without being told to stop, and is cut then.
        with suppress(ConnectionError):
            for _ in range(100):
                await client.send(b" ")
                await pace(0.05)
            pytest.fail("it is still read")


async def test_an_answer_arrives_though_its_client_sends_a_whole_large_body_first(
    start_socketed: StartSocketed,
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(auth_token=TOKEN) as archer, connected(archer) as client:
        await client.send(post(b"/api/v1/chat/completions", b"Content-Length: 3000000\r\n"))
        for _ in range(30):
            await client.send(b" " * 100_000)
        assert (await client.head())[9:12] == b"401"


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        (b"/api/v1/files", AUTHORIZATION, b"413"),
        (b"/api/v1/chat/completions", AUTHORIZATION, b"413"),
        (b"/api/v1/files", b"", b"401"),
    ],
)
async def test_a_photo_that_is_too_large_is_told_so_to_clients_that_read_when_they_have_sent_it(
    start_socketed: StartSocketed, path: bytes, fields: bytes, status: bytes
) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(auth_token=TOKEN, limits=Limits(body_rest_s=2)) as archer,
        nothing_left(archer),
        connected(archer) as client,
    ):
        await client.send(post(path, fields + b"Content-Length: 60000000\r\n"))
        for _ in range(60):
            await client.send(b" " * 1_000_000)
        assert (await client.head())[9:12] == status
        assert b'"kind"' in await client.rest()


async def test_a_body_that_stands_still_is_answered_408_and_one_that_crawls_is_taken(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        start_socketed(limits=Limits(body_progress_window_s=0.4, body_progress_bytes=20)) as archer,
        nothing_left(archer),
    ):
        async with connected(archer) as client:
            await client.send(post(b"/api/v1/sessions", b"Content-Length: 5000\r\n"))
            await client.send(b" " * 10)
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 408 ")
            assert b"makes no progress" in await client.rest()
        async with connected(archer) as client:
            await client.send(post(b"/api/v1/sessions", b"Content-Length: 302\r\n"))
            for _ in range(30):
                await client.send(b" " * 10)
                await pace(0.05)
            await client.send(b"{}")
            assert (await client.head()).startswith(b"HTTP/1.1 201 ")
    (line,) = lines(caplog, "request_refused")
    assert "408" in str(line.msg)
    assert_quiet(caplog)


#: A sixtieth of the real ones.
SHORT = Limits(write_deadline_s=0.5, look_every_s=0.1)


@pytest.mark.parametrize("streams", [True, False], ids=["events", "a whole answer"])
async def test_a_client_that_takes_nothing_of_its_answer_is_cut_and_its_stream_let_go(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture, streams: bool
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(limits=SHORT) as archer, nothing_left(archer):
        archer.answer(ollama_stream(*["z" * 100_000] * 30))
        async with connected(archer, SMALL_BUFFER) as client:
            await client.send(ask(stream=streams, stream_id="s"))
            await until(lambda: archer.stream("s") is not None)
            stream = archer.stream("s")
            await until(lambda: not stream.is_live)
            # Its answer waits for a client that does not come for it.
            await until(lambda: bool(archer.http_connections))
            await until(lambda: not archer.http_connections)
            await until(lambda: not stream.is_held)
    assert len(lines(caplog, "response_stalled")) == 1
    assert_quiet(caplog)


async def test_a_client_that_stalls_on_a_stream_of_its_own_ends_it_as_one_that_leaves_does(
    start_socketed: StartSocketed,
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(limits=SHORT) as archer, nothing_left(archer):
        archer.answer(ollama_stream(*["z" * 100_000] * 30, forever()))
        async with connected(archer, SMALL_BUFFER) as client:
            await client.send(ask(stream=True, stream_id="s"))
            await until(lambda: archer.stream("s") is not None)
            await until(lambda: not archer.stream("s").is_live)
            assert archer.stream("s").status == "cancelled"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only a connection that is read is known to be closed")
@pytest.mark.parametrize("streams", [True, False], ids=["events", "a whole answer"])
@pytest.mark.parametrize("body", [b"", b"x" * 100_000], ids=["a short request", "a long request"])
@pytest.mark.parametrize("resets", [True, False], ids=["by a reset", "by a close"])
async def test_a_client_that_leaves_while_a_further_request_waits_closes_the_provider_s(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture, body: bytes, *, streams: bool, resets: bool
) -> None:
    waiting = b"POST /api/v1/sessions HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    async with asyncio.timeout(LIMIT_S), start_socketed(limits=SHORT) as archer, nothing_left(archer):
        archer.answer(ollama_stream("Blue", forever()))
        async with connected(archer) as client:
            await client.send(ask(stream=streams))
            exchange = await archer.ollama.exchange(path="/api/chat")
            (connection,) = archer.http_connections
            await client.send(waiting)
            await until(lambda: connection.flow.read_paused)
            if resets:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await exchange.client_left.wait()
    # To leave is no mistake of the application's.
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text


async def test_a_request_that_waits_behind_a_long_response_is_served_after_it(start_socketed: StartSocketed) -> None:
    may_end = asyncio.Event()
    async with asyncio.timeout(LIMIT_S), start_socketed(limits=SHORT) as archer, nothing_left(archer):
        archer.answer(ollama_stream("Blue", Wait(may_end)))
        async with connected(archer) as client:
            await client.send(ask(stream=False))
            await archer.ollama.exchange(path="/api/chat")
            (connection,) = archer.http_connections
            await client.send(b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n")
            await until(lambda: connection.flow.read_paused)
            looked = connection._look_timer
            await until(lambda: connection._look_timer is not looked)
            may_end.set()
            for _ in range(2):
                assert b" 200 " in await client.answer()


async def test_a_reader_of_events_that_crawls_outlives_many_deadlines(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed(limits=SHORT) as archer, nothing_left(archer):
        archer.answer(ollama_stream(*["y" * 1000] * 1500))
        async with connected(archer, SMALL_BUFFER) as client:
            await client.send(ask(stream=True, stream_id="s"))
            for _ in range(40):
                assert await asyncio.get_running_loop().sock_recv(client.socket, 4096)
                await pace(0.05)
            assert len(archer.http_connections) == 1
    assert not lines(caplog, "response_stalled")


async def test_http_0_9_has_no_headers_and_is_refused(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, nothing_left(archer):
        for request in (b"GET /health\r\n\r\n", b"GET /health\r\nHost: localhost\r\n\r\n"):
            async with connected(archer) as client:
                await client.send(request)
                assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
                assert b"send HTTP/1.1" in client.received
    assert len(lines(caplog, "request_unreadable")) == 1
    assert_quiet(caplog)


async def test_what_is_no_http_makes_one_line_however_often_it_comes(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, nothing_left(archer):
        for _ in range(20):
            async with connected(archer) as client:
                await client.send(b"\x16\x03\x01\x02\x00\r\n\r\n")
                assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    assert len(lines(caplog, "request_unreadable")) == 1
    assert not [record for record in caplog.records if record.name.startswith("uvicorn") and "HTTP" in str(record.msg)]


async def test_a_head_that_is_too_long_is_refused_in_whatever_pieces_it_comes(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, nothing_left(archer), connected(archer) as client:
        await client.flood(b"GET /health HTTP/1.1\r\nX: ".ljust(4 * MAX_HEAD_BYTES, b"x") + b"\r\n\r\n", 1)
        assert b" 200 " not in (await client.rest())[:20]


async def test_thousands_of_requests_at_once_end_the_connection(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, nothing_left(archer):
        async with connected(archer) as client:
            await client.flood(b"GET /health HTTP/1.1\r\n\r\n" * (PIPELINED_REQUESTS_MAX * 10), 1)
            assert (await client.rest()).count(b" 200 ") <= PIPELINED_REQUESTS_MAX
        async with connected(archer) as client:
            await client.send(b"GET /health HTTP/1.1\r\n\r\n" * 20)
            while client.received.count(b" 200 ") < 20:
                client.received += await asyncio.get_running_loop().sock_recv(client.socket, 65536)
    assert len(lines(caplog, "request_refused")) == 1
    assert_quiet(caplog)
