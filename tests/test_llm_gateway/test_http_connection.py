"""One HTTP/1.1 connection to a provider: what comes of each answer's bytes, however they come."""

import asyncio
import gc
import gzip
import socket
import ssl
import weakref
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from archer_ws.core.limits import PROVIDER_HEAD_BYTES, PROVIDER_SLICE_BYTES, PROVIDER_UNREAD_BYTES
from archer_ws.llm_gateway.transport.connection import (
    ConnectError,
    ConnectTimeout,
    Origin,
    ProviderConnection,
    connect,
)
from archer_ws.llm_gateway.transport.content_coding import DecodingError
from archer_ws.llm_gateway.transport.parsing import HttpResponse, NotHttp
from archer_ws.llm_gateway.transport.pool import StreamPool
from archer_ws.llm_gateway.transport.response import BodyTooLong
from tests.fakes.raw_http import RawConnection, raw_http_server, soon

REQUEST = b"POST /chat HTTP/1.1\r\nHost: provider\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
#: The most that asyncio reads at once, in bytes.
LARGEST_READ = 256 * 1024


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, *fields: str) -> bytes:
    """An answer with this body, and its length."""
    lines = ["HTTP/1.1 200 OK", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Talk:
    """A request that was sent, and both ends of its connection."""

    def __init__(self, connection: ProviderConnection, peer: RawConnection) -> None:
        self.connection = connection
        self.peer = peer
        #: Whether the connection was given back, fit for another request.
        self.was_kept = False
        self.asking = asyncio.create_task(connection.ask(REQUEST, b"{}", on_over=self._keep))

    def _keep(self, connection: ProviderConnection) -> None:
        assert connection is self.connection
        self.was_kept = True

    async def answered(self, wire: bytes) -> HttpResponse:
        """The answer, once these bytes were sent."""
        self.peer.send(wire)
        return await soon(self.asking)


@asynccontextmanager
async def talking() -> AsyncIterator[Talk]:
    async with raw_http_server() as server:
        connection = await connect(Origin("127.0.0.1", server.port, None), 5)
        gone = asyncio.Event()
        connection.on_lost = gone.set
        talk = Talk(connection, await server.next_connection())
        assert await talk.peer.request() == REQUEST + b"{}"
        yield talk
        connection.abort()
        await soon(gone.wait())
        await asyncio.gather(talk.asking, return_exceptions=True)


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    async with talking() as one:
        yield one


async def heard(*wire: bytes, ended: bool = False) -> tuple[HttpResponse, bytes]:
    """An answer and its body, had these bytes come read by read; no network is needed for that."""
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    for data in wire:
        answer.feed(data)
    if ended:
        answer.end()
    try:
        await soon(answer.head)
        return answer, await soon(answer.read())
    finally:
        await answer.aclose()


async def test_each_piece_is_read_when_it_comes(talk: Talk) -> None:
    answer = await talk.answered(CHUNKED)
    assert answer.status == 200
    for piece in (b"one", b"two", b"three"):
        reading = asyncio.create_task(answer.read_some())
        await asyncio.sleep(0)
        talk.peer.send(chunk(piece))
        assert await soon(reading) == piece
    talk.peer.send(LAST_CHUNK)
    assert [await soon(answer.read_some()) for _ in range(3)] == [b"", b"", b""]


async def test_pieces_that_nobody_read_yet_are_joined() -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    for data in (CHUNKED, chunk(b"one"), chunk(b"two") + chunk(b"three")):
        answer.feed(data)
    assert await soon(answer.read_some()) == b"onetwothree"
    answer.feed(chunk(b"four"))
    assert await soon(answer.read_some()) == b"four"
    await answer.aclose()


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (whole(b"twelve bytes"), b"twelve bytes"),
        (CHUNKED + chunk(b"twelve") + chunk(b" bytes") + LAST_CHUNK, b"twelve bytes"),
        (CHUNKED + b"6;x=y\r\ntwelve\r\n" + b"0\r\nTrailer: 1\r\n\r\n", b"twelve"),
        (whole(b""), b""),
        (CHUNKED + LAST_CHUNK, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (whole(gzip.compress(b"twelve bytes"), "Content-Encoding: gzip"), b"twelve bytes"),
    ],
    ids=["length", "chunks", "extension and trailer", "length 0", "no chunk", "204", "gzip"],
)
async def test_a_body_is_the_same_wherever_its_bytes_are_cut(wire: bytes, body: bytes) -> None:
    for at in range(1, len(wire)):
        assert (await heard(wire[:at], wire[at:]))[1] == body, at
    assert (await heard(wire))[1] == body
    assert (await heard(*(bytes([byte]) for byte in wire)))[1] == body


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\n"])
async def test_without_length_and_chunks_a_body_ends_with_its_connection(talk: Talk, head: bytes) -> None:
    answer = await talk.answered(head + b"some")
    assert await soon(answer.read_some()) == b"some"
    talk.peer.send(b" more")
    await talk.peer.close()
    assert await soon(answer.read()) == b" more"
    assert await soon(answer.read_some()) == b""
    await answer.aclose()
    assert not talk.was_kept


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome",
        CHUNKED + chunk(b"some"),
        CHUNKED + b"9\r\nsome",
        CHUNKED + chunk(b"some") + b"0\r\n",
    ],
    ids=["length", "between chunks", "in a chunk", "in the last chunk"],
)
async def test_a_body_that_is_cut_short_gives_what_came_and_then_fails(talk: Talk, wire: bytes) -> None:
    answer = await talk.answered(wire)
    await talk.peer.close()
    assert await soon(answer.read_some()) == b"some"
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await soon(answer.read_some())
    await answer.aclose()
    assert not talk.was_kept


async def test_a_compressed_body_that_is_cut_short_fails(talk: Talk) -> None:
    answer = await talk.answered(whole(gzip.compress(b"some"), "Content-Encoding: gzip")[:-1])
    await talk.peer.close()
    with pytest.raises(ConnectionResetError):
        await soon(answer.read())


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", CHUNKED])
async def test_a_body_whose_connection_is_reset_is_not_whole(head: bytes) -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    answer.feed(head)
    answer.end(ConnectionResetError("by the peer"))
    with pytest.raises(ConnectionResetError, match="by the peer"):
        await soon(answer.read())
    await answer.aclose()


async def test_a_reader_that_waits_is_told_that_the_body_broke_off(talk: Talk) -> None:
    answer = await talk.answered(CHUNKED)
    reading = asyncio.create_task(answer.read_some())
    await asyncio.sleep(0)
    talk.peer.writer.transport.abort()
    with pytest.raises(ConnectionResetError):
        await soon(reading)


async def test_chunks_that_are_none_give_what_came_and_then_fail(talk: Talk) -> None:
    answer = await talk.answered(CHUNKED + chunk(b"some") + b"no chunk\r\n")
    assert await soon(answer.read_some()) == b"some"
    with pytest.raises(NotHttp):
        await soon(answer.read_some())


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [
        ("gzip", gzip.compress(b"some text")),
        ("x-gzip", gzip.compress(b"some text")),
        ("GZIP ", gzip.compress(b"some text")),
        ("deflate", zlib.compress(b"some text")),
        ("identity", b"some text"),
        ("", b"some text"),
    ],
    ids=["gzip", "old name", "in capitals", "deflate", "identity", "empty"],
)
async def test_a_compressed_body_is_decompressed_though_nobody_asked(encoding: str, compressed: bytes) -> None:
    answer, body = await heard(whole(compressed, f"Content-Encoding: {encoding}"))
    assert body == b"some text"
    # An SDK that makes its error of the answer would decompress it once more.
    assert answer.headers.get("content-encoding", "identity") in {"identity", ""}


@pytest.mark.parametrize(
    "fields",
    [
        ["Transfer-Encoding: chunked", "Content-Length: 4"],
        ["Content-Length: 40000", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: identity, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding: chunked;q=1"],
        ['Transfer-Encoding: "chunked"'],
        ["Transfer-Encoding: chunked,"],
        ["Transfer-Encoding:", "transfer-encoding: CHUNKED", "Content-Length: 4"],
    ],
    ids=str,
)
async def test_chunks_are_read_as_such_however_the_head_says_it_and_the_connection_is_not_used_again(
    talk: Talk, fields: list[str]
) -> None:
    head = "\r\n".join(["HTTP/1.1 200 OK", *fields, "Content-Type: a/b", "", ""]).encode()

    answer = await talk.answered(head + chunk(b"some") + chunk(b" text") + LAST_CHUNK)

    assert await soon(answer.read()) == b"some text"
    assert answer.content_type == "a/b"
    await answer.aclose()
    assert not talk.was_kept


@pytest.mark.parametrize(
    "fields",
    [
        ["Content-Length: 4", "Content-Length: 4"],
        ["Content-Length: 4, 4"],
        ["Transfer-Encoding: identity", "Content-Length: 4"],
        ["Transfer-Encoding:", "Content-Length: 4"],
    ],
    ids=str,
)
async def test_a_length_that_is_told_twice_is_a_length(fields: list[str]) -> None:
    wire = "\r\n".join(["HTTP/1.1 200 OK", *fields, "", ""]).encode() + b"some"
    for at in range(1, len(wire)):
        assert (await heard(wire[:at], wire[at:]))[1] == b"some", at


async def test_lengths_that_differ_are_no_answer(talk: Talk) -> None:
    with pytest.raises(NotHttp):
        await talk.answered(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nsome")


async def test_a_body_compressed_by_its_transfer_is_unpacked() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"

    assert (await heard(head + chunk(gzip.compress(b"some text")) + LAST_CHUNK))[1] == b"some text"


async def test_trailer_fields_are_dropped() -> None:
    wire = CHUNKED + chunk(b"some") + b"0\r\nContent-Type: evil\r\nX-Late: 1\r\n\r\n"

    answer, body = await heard(wire)

    assert (body, dict(answer.headers)) == (b"some", {"transfer-encoding": "chunked"})


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"a: b\r\n" * 50_000, id="trailer fields"),
        pytest.param(b"a: " + b"b" * 200_000, id="one trailer field"),
        pytest.param(b";" + b"x" * 200_000, id="an extension of a chunk"),
    ],
)
@pytest.mark.parametrize("size", [100, 1_000_000])
async def test_what_has_no_end_and_is_no_body_breaks_the_answer_off(endless: bytes, size: int) -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    answer.feed(CHUNKED + chunk(b"some"))
    assert await soon(answer.read_some()) == b"some"
    end = b"5" + endless if endless.startswith(b";") else b"0\r\n" + endless
    for start in range(0, len(end), size):
        answer.feed(end[start : start + size])

    with pytest.raises(NotHttp):
        await soon(answer.read_some())
    await answer.aclose()


async def test_trailer_fields_without_end_in_one_read_with_the_body_break_it_off() -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    answer.feed(CHUNKED + chunk(b"some") + b"0\r\n" + b"a: b\r\n" * 50_000 + b"\r\n")

    assert await soon(answer.read_some()) == b"some"
    with pytest.raises(NotHttp):
        await soon(answer.read_some())
    await answer.aclose()


async def test_header_fields_sent_many_times_are_joined() -> None:
    answer, _ = await heard(whole(b"", *["x-many: 1"] * 3000))

    assert answer.headers["x-many"] == ", ".join(["1"] * 3000)


async def test_between_the_slices_of_a_large_read_others_have_their_turn() -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    body = b"\n" * (4 * PROVIDER_SLICE_BYTES)
    answer.feed(CHUNKED + chunk(body) + LAST_CHUNK)
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    others_run = asyncio.create_task(others())
    pieces = [piece async for piece in answer.reads()]
    others_run.cancel()

    assert b"".join(pieces) == body
    assert max(map(len, pieces)) == PROVIDER_SLICE_BYTES
    assert len(turns) >= len(pieces) - 1
    await answer.aclose()


async def test_a_large_read_of_lines_as_providers_have_them_comes_in_one_piece() -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    body = (b"data: " + b"x" * 200 + b"\n\n") * 1000
    answer.feed(CHUNKED + chunk(body) + LAST_CHUNK)

    assert await soon(answer.read_some()) == body
    await answer.aclose()


async def test_a_body_that_unpacks_to_much_is_read_in_slices_and_its_server_waits() -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    answer.feed(whole(gzip.compress(b"\n" * 10_000_000), "Content-Encoding: gzip"))

    for _ in range(3):
        assert await soon(answer.read_some()) == b"\n" * PROVIDER_SLICE_BYTES
    with pytest.raises(BodyTooLong):
        await soon(answer.read(1_000_000))
    await answer.aclose()


async def test_a_connection_on_which_anything_waits_is_not_silent(talk: Talk) -> None:
    answer = await talk.answered(whole(b"some"))
    assert await soon(answer.read()) == b"some"
    await answer.aclose()
    assert talk.connection.is_silent
    # The loop has had no turn to read it when the next request would be sent.
    talk.peer.writer.transport.get_extra_info("socket")._sock.send(b"HTTP/1.1 200 OK\r\n\r\n")
    assert not talk.connection.is_silent


async def test_a_broken_compression_is_told(talk: Talk) -> None:
    compressed = gzip.compress(b"some text")
    answer = await talk.answered(whole(compressed[:10] + b"\xff" * len(compressed), "Content-Encoding: gzip"))
    with pytest.raises(DecodingError):
        await soon(answer.read())
    await answer.aclose()
    assert not talk.was_kept


async def test_a_compression_that_is_not_known_is_told(talk: Talk) -> None:
    with pytest.raises(DecodingError, match="br"):
        await talk.answered(whole(b"some", "Content-Encoding: br"))
    assert await talk.peer.client_left()


async def test_signs_of_life_before_the_answer_are_skipped(talk: Talk) -> None:
    talk.peer.send(b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n")
    talk.peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
    answer = await talk.answered(whole(b"some"))
    assert (answer.status, await soon(answer.read())) == (200, b"some")
    assert dict(answer.headers) == {"content-length": "4"}
    await answer.aclose()
    assert talk.was_kept


async def test_header_fields_are_asked_for_in_lower_case_and_joined_where_sent_twice() -> None:
    fields = ("X-Two: a ", "Content-Type: Text/Event-Stream ; charset=utf-8", "x-two:\tb", "X-None:")
    answer, _ = await heard(whole(b"", *fields))
    assert answer.headers["x-two"] == "a, b"
    assert answer.headers["x-none"] == ""
    assert answer.content_type == "text/event-stream"


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01x",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * PROVIDER_HEAD_BYTES,
    ],
    ids=["another protocol", "another version", "no number", "an upgrade", "a head without end"],
)
async def test_what_is_no_answer_is_told_and_its_connection_closed(talk: Talk, wire: bytes) -> None:
    with pytest.raises(NotHttp):
        await talk.answered(wire)
    assert await talk.peer.client_left()


async def test_signs_of_life_without_end_are_no_answer(talk: Talk) -> None:
    sign = b"HTTP/1.1 102 Processing\r\n\r\n"
    with pytest.raises(NotHttp):
        await talk.answered(sign * (PROVIDER_HEAD_BYTES // len(sign) + 1))


async def test_a_long_head_is_read() -> None:
    answer, body = await heard(whole(b"some", f"X-Long: {'x' * (PROVIDER_HEAD_BYTES - 100)}"))
    assert (len(answer.headers["x-long"]), body) == (PROVIDER_HEAD_BYTES - 100, b"some")


@pytest.mark.parametrize("wire", [b"", b"HTTP/1.1 200 OK\r\nContent-"], ids=["nothing", "half a head"])
async def test_a_server_that_closes_before_the_head_is_told(talk: Talk, wire: bytes) -> None:
    talk.peer.send(wire)
    await talk.peer.close()
    with pytest.raises(ConnectionResetError):
        await soon(talk.asking)


async def test_cancelled_before_the_head_the_connection_is_closed_and_nothing_logged(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    talk.asking.cancel()
    assert await talk.peer.client_left()
    assert talk.asking.cancelled()
    assert not talk.was_kept
    assert not caplog.records


async def test_a_failure_that_nobody_waits_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    answer.feed(b"SSH-2.0-OpenSSH_9.6\r\n")
    await answer.aclose()
    del answer
    gc.collect()  # "exception was never retrieved" is told then
    assert not caplog.records


async def test_a_head_that_comes_with_the_cancelling_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    waiting = asyncio.ensure_future(answer.head)
    waiting.cancel()
    answer.feed(whole(b"some"))
    answer.end()
    await answer.aclose()
    assert not caplog.records


async def test_closing_before_the_end_closes_the_connection_at_once(talk: Talk) -> None:
    answer = await talk.answered(CHUNKED + chunk(b"some"))
    assert await soon(answer.read_some()) == b"some"
    await answer.aclose()
    assert await talk.peer.client_left()
    await answer.aclose()
    assert not talk.was_kept


async def test_who_reads_a_closed_answer_is_told_and_does_not_wait(talk: Talk) -> None:
    answer = await talk.answered(CHUNKED)
    reading = asyncio.create_task(answer.read_some())
    await asyncio.sleep(0)
    await answer.aclose()
    with pytest.raises(ConnectionResetError):
        await soon(reading)
    with pytest.raises(ConnectionResetError):
        await soon(answer.read_some())


async def test_a_read_that_is_given_up_loses_nothing() -> None:
    answer = HttpResponse(asyncio.Transport(), lambda _: None)
    answer.feed(CHUNKED)
    reading = asyncio.create_task(answer.read_some())
    await asyncio.sleep(0)
    reading.cancel()
    answer.feed(chunk(b"some"))
    assert await soon(answer.read_some()) == b"some"
    await soon(asyncio.wait({reading}))
    assert reading.cancelled()
    await answer.aclose()


async def test_a_reader_that_does_not_read_makes_the_server_wait(talk: Talk) -> None:
    body = bytes(32 * 1024 * 1024)
    answer = await talk.answered(whole(body))
    # No turn takes more than one read off the server: it waits where nothing went in hundreds of them.
    unsent, still = talk.peer.writer.transport.get_write_buffer_size(), 0
    while still < 500:
        await asyncio.sleep(0)
        before, unsent = unsent, talk.peer.writer.transport.get_write_buffer_size()
        assert unsent, "all was taken, though nobody reads"
        still = still + 1 if unsent == before else 0
    first = await soon(answer.read_some())
    assert len(first) <= PROVIDER_UNREAD_BYTES + LARGEST_READ
    assert first + await soon(answer.read(len(body))) == body
    await answer.aclose()
    assert talk.was_kept


class NotedTransport(asyncio.Transport):
    """A transport that only notes when it is to stop reading, and when to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def pause_reading(self) -> None:
        self.told.append("pause")

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        self.told.append("resume")


async def test_only_what_lies_unread_counts() -> None:
    transport = NotedTransport()
    answer = HttpResponse(transport, lambda _: None)
    answer.feed(CHUNKED)

    async def read(size: int) -> None:
        while size:
            size -= len(await soon(answer.read_some()))

    for _ in range(2):
        answer.feed(chunk(bytes(PROVIDER_UNREAD_BYTES)))
        await read(PROVIDER_UNREAD_BYTES)
    assert not transport.told
    answer.feed(chunk(bytes(PROVIDER_UNREAD_BYTES)) + chunk(b"1") + chunk(b"2"))
    assert transport.told == ["pause"]
    await read(PROVIDER_UNREAD_BYTES + 2)
    assert transport.told == ["pause", "resume"]
    await answer.aclose()


async def test_few_chunks_of_one_byte_lie_unread() -> None:
    transport = NotedTransport()
    answer = HttpResponse(transport, lambda _: None)
    answer.feed(CHUNKED)
    # As many bytes on the wire as may lie unread, a sixth of them in the body.
    fed = 0
    while not transport.told:
        answer.feed(chunk(b"x") * (LARGEST_READ // 8 // 6))
        fed += LARGEST_READ // 8 // 6

    assert fed * 6 < PROVIDER_UNREAD_BYTES + LARGEST_READ
    await answer.aclose()


async def test_nobody_listening_is_told_with_the_cause() -> None:
    async with raw_http_server() as server:
        pass
    with pytest.raises(ConnectError) as caught:
        await soon(connect(Origin("127.0.0.1", server.port, None), 5))
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 64], ids=["unknown", "no label", "too long"])
async def test_a_name_that_leads_nowhere_is_told(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def resolved(name: str, *rest: Any, **more: Any) -> Any:
        # Names of this kind are never known, but some machines take long to say so.
        if name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(name, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with pytest.raises(ConnectError) as caught:
        await soon(connect(Origin(host, 80, None), 5))
    assert isinstance(caught.value.__cause__, socket.gaierror | UnicodeError)


async def test_a_connection_that_is_not_made_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("aiohappyeyeballs.start_connection", silent)
    with pytest.raises(ConnectTimeout):
        await soon(connect(Origin("127.0.0.1", 80, None), 0.01))


def anonymous_tls(protocol: int) -> ssl.SSLContext:
    """TLS without certificates: a way that only who asks for it goes, and so only these tests."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


async def test_an_answer_comes_over_tls_and_the_server_is_told_which_host_is_meant() -> None:
    server_tls = anonymous_tls(ssl.PROTOCOL_TLS_SERVER)
    names: list[str | None] = []
    server_tls.sni_callback = lambda _, name, __: names.append(name)
    async with raw_http_server(tls=server_tls) as server:
        origin = Origin("localhost", server.port, anonymous_tls(ssl.PROTOCOL_TLS_CLIENT))
        connection = await soon(connect(origin, 5))
        gone = asyncio.Event()
        connection.on_lost = gone.set
        talk = Talk(connection, await server.next_connection())
        await talk.peer.request()
        answer = await talk.answered(whole(b"some"))
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
        assert talk.was_kept
        connection.abort()
        await soon(gone.wait())
        assert await talk.peer.client_left()
    assert names == ["localhost"]


async def test_a_server_that_does_not_prove_who_it_is_gets_no_connection() -> None:
    async with raw_http_server(tls=anonymous_tls(ssl.PROTOCOL_TLS_SERVER)) as server:
        with pytest.raises(ConnectError):
            await soon(connect(Origin("localhost", server.port, ssl.create_default_context()), 5))


async def test_a_server_that_never_begins_with_tls_is_not_waited_for() -> None:
    async with raw_http_server() as server:
        with pytest.raises(ConnectTimeout):
            await soon(connect(Origin("localhost", server.port, ssl.create_default_context()), 0.05))
        peer = await server.next_connection()
        async with asyncio.timeout(10):
            await peer.reader.read()


async def test_a_lost_connection_is_freed_at_once_and_not_by_the_garbage_collector() -> None:
    gc.disable()
    try:
        async with raw_http_server() as server:
            pool = StreamPool(connect_s=5, keep_alive_s=60, tls=ssl.create_default_context())
            asking = asyncio.create_task(pool.post(f"http://127.0.0.1:{server.port}/chat", b"{}", {}))
            peer = await server.next_connection()
            await peer.request()
            peer.send(CHUNKED + chunk(b"some"))
            answer = await soon(asking)
            (connection,) = pool._open
            freed = asyncio.Event()
            weakref.finalize(connection, freed.set)
            del connection, asking

            await answer.aclose()
            del answer

            await soon(freed.wait())
    finally:
        gc.enable()
