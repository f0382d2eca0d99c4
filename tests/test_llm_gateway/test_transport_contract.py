"""What every carrier of requests must do alike: our own connections, httpx's and httpx2's, also through a proxy."""

import asyncio
import gc
import gzip
import ssl
import warnings
import zlib
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import httpx
import httpx2
import pytest

from archer_ws.core.limits import PROVIDER_ERROR_BYTES, PROVIDER_SLICE_BYTES, PROVIDER_UNREAD_BYTES
from archer_ws.llm_gateway.failures import ProviderIdentity, failure_from_transport
from archer_ws.llm_gateway.transport.carrier import Carrier
from archer_ws.llm_gateway.transport.connection import ConnectError, ConnectTimeout
from archer_ws.llm_gateway.transport.content_coding import DecodingError
from archer_ws.llm_gateway.transport.library import LibraryTransport
from archer_ws.llm_gateway.transport.parsing import NotHttp
from archer_ws.llm_gateway.transport.pool import StreamPool
from archer_ws.llm_gateway.transport.response import BodyTooLong, StreamedResponse
from tests.fakes.raw_http import RawConnection, RawHttpServer, raw_http_server, soon
from tests.fakes.scripted_server import Reply, scripted_server

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
TLS = ssl.create_default_context()
SECRET = "canary-key-0123456789"
IDENTITY = ProviderIdentity(
    name="acme", address="http://acme.test", auth_hint="", unavailable_hint="start acme", model_hint=""
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """An answer with this body, and its length."""
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


WHOLE = whole(b"some")


class Asking:
    """One carrier, and the server that it asks, or the proxy before one that there is not."""

    def __init__(self, name: str, server: RawHttpServer, *, connect_s: float = 5, keep_alive_s: float = 60) -> None:
        self.server = server
        self.is_proxied = name == "proxied"
        self.url = self.url_of(server)
        proxy = f"http://ada:{SECRET}@127.0.0.1:{server.port}" if self.is_proxied else None
        self.carrier: Carrier
        if name == "own":
            self.carrier = StreamPool(connect_s=connect_s, keep_alive_s=keep_alive_s, tls=TLS)
        else:
            self.carrier = LibraryTransport(
                httpx if name == "httpx" else httpx2,
                connections=8,
                connect_s=connect_s,
                keep_alive_s=keep_alive_s,
                proxy=proxy,
                tls=TLS,
            )

    def url_of(self, server: RawHttpServer) -> str:
        return "http://provider.invalid/chat" if self.is_proxied else f"http://127.0.0.1:{server.port}/chat"

    def post(
        self, headers: Mapping[str, str] | None = None, body: bytes = b"{}", principal: str = ""
    ) -> asyncio.Task[StreamedResponse]:
        return asyncio.create_task(self.carrier.post(self.url, body, headers or {}, principal=principal))

    async def answer(
        self, wire: bytes, peer: RawConnection | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[RawConnection, StreamedResponse]:
        """The answer of these bytes, over the connection of before or, where there is none, a new one."""
        asking = self.post(headers)
        peer = peer or await self.server.next_connection()
        await peer.request()
        peer.send(wire)
        return peer, await soon(asking)

    async def exchange(
        self, peer: RawConnection | None = None, wire: bytes = WHOLE, headers: Mapping[str, str] | None = None
    ) -> RawConnection:
        """An answer that is read to its end, and closed; what it came over."""
        peer, answer = await self.answer(wire, peer, headers)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
        return peer


CARRIERS = ["own", "httpx2", "httpx", "proxied"]


@asynccontextmanager
async def asking_by(name: str, *, connect_s: float = 5, keep_alive_s: float = 60) -> AsyncIterator[Asking]:
    async with raw_http_server() as server:
        asking = Asking(name, server, connect_s=connect_s, keep_alive_s=keep_alive_s)
        try:
            yield asking
        finally:
            await soon(asking.carrier.close())


@pytest.fixture(params=CARRIERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def asking(name: str) -> AsyncIterator[Asking]:
    async with asking_by(name) as one:
        yield one


async def test_each_piece_is_read_when_it_comes(asking: Asking) -> None:
    peer, answer = await asking.answer(CHUNKED)
    assert answer.status == 200
    for piece in (b"one", b"two", b"three"):
        reading = asyncio.create_task(answer.read_some())
        await asyncio.sleep(0)
        peer.send(chunk(piece))
        assert await soon(reading) == piece
    peer.send(LAST_CHUNK)
    assert [await soon(answer.read_some()) for _ in range(3)] == [b"", b"", b""]
    await answer.aclose()


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (whole(b"twelve bytes"), b"twelve bytes"),
        (CHUNKED + chunk(b"twelve") + chunk(b" bytes") + LAST_CHUNK, b"twelve bytes"),
        (CHUNKED + b"6;x=y\r\ntwelve\r\n" + LAST_CHUNK, b"twelve"),
        (whole(b""), b""),
        (CHUNKED + LAST_CHUNK, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (whole(gzip.compress(b"twelve bytes"), "Content-Encoding: gzip"), b"twelve bytes"),
        (whole(gzip.compress(b"twelve ") + gzip.compress(b"bytes"), "Content-Encoding: gzip"), b"twelve bytes"),
        (whole(zlib.compress(b"twelve bytes"), "Content-Encoding: deflate"), b"twelve bytes"),
        (whole(b"twelve bytes", "Content-Encoding: identity"), b"twelve bytes"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + whole(b"twelve"), b"twelve"),
    ],
    ids=[
        "length", "chunks", "extension", "length 0", "no chunk", "204", "gzip", "gzip in members", "deflate",
        "identity", "signs of life",
    ],
)  # fmt: skip
async def test_a_body_is_what_was_sent_however_it_was(asking: Asking, wire: bytes, body: bytes) -> None:
    for at in (len(wire), len(wire) // 2, len(wire) - 1):
        request = asking.post()
        peer = await asking.server.next_connection()
        await peer.request()
        peer.send(wire[:at])
        await asyncio.sleep(0)
        peer.send(wire[at:])
        answer = await soon(request)
        assert await soon(answer.read()) == body
        # An SDK that makes its error of the answer would decompress it once more.
        assert "content-encoding" not in answer.headers
        await answer.aclose()
        await soon(asking.carrier.close())


async def test_trailer_fields_are_dropped(asking: Asking) -> None:
    _, answer = await asking.answer(CHUNKED + chunk(b"some") + b"0\r\nContent-Type: evil\r\nX-Late: 1\r\n\r\n")
    assert await soon(answer.read()) == b"some"
    assert dict(answer.headers) == {"transfer-encoding": "chunked"}
    await answer.aclose()


async def test_header_fields_are_asked_for_in_lower_case_and_joined_where_sent_twice(asking: Asking) -> None:
    fields = ("X-Two: a", "Content-Type: Text/Event-Stream ; charset=utf-8", "x-two: b", "X-None:")
    _, answer = await asking.answer(whole(b"", *fields))
    assert (answer.headers["x-two"], answer.headers["x-none"]) == ("a, b", "")
    assert answer.content_type == "text/event-stream"
    await answer.aclose()


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\n"])
async def test_without_length_and_chunks_a_body_ends_with_its_connection(asking: Asking, head: bytes) -> None:
    peer, answer = await asking.answer(head + b"some")
    assert await soon(answer.read_some()) == b"some"
    peer.send(b" more")
    await peer.close()
    assert await soon(answer.read()) == b" more"
    await answer.aclose()


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
async def test_a_body_that_is_cut_short_gives_what_came_and_then_fails(asking: Asking, wire: bytes) -> None:
    peer, answer = await asking.answer(wire)
    assert await soon(answer.read_some()) == b"some"
    await peer.close()
    with pytest.raises(ConnectionResetError):
        await soon(answer.read_some())
    await answer.aclose()


async def test_a_reader_that_waits_is_told_that_the_body_broke_off(asking: Asking) -> None:
    peer, answer = await asking.answer(CHUNKED)
    reading = asyncio.create_task(answer.read_some())
    await asyncio.sleep(0)
    peer.writer.transport.abort()
    with pytest.raises(ConnectionResetError):
        await soon(reading)
    await answer.aclose()


async def test_chunks_that_are_none_give_what_came_and_then_fail(asking: Asking) -> None:
    peer, answer = await asking.answer(CHUNKED + chunk(b"some") + b"no chunk\r\n")
    assert await soon(answer.read_some()) == b"some"
    with pytest.raises(NotHttp):
        await soon(answer.read_some())
    await answer.aclose()
    assert await peer.client_left()


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nsome",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 20_000,
    ],
    ids=["another protocol", "no number", "two lengths", "a field without end", "fields without end"],
)
async def test_what_is_no_answer_is_told_and_its_connection_closed(asking: Asking, wire: bytes) -> None:
    request = asking.post()
    peer = await asking.server.next_connection()
    await peer.request()
    peer.send(wire)
    with pytest.raises(NotHttp):
        await soon(request)
    assert await peer.client_left()


@pytest.mark.parametrize(
    "endless",
    [b"0\r\n" + b"a: b\r\n" * 50_000, b"0\r\na: " + b"b" * 200_000, b"5;" + b"x" * 200_000],
    ids=["trailer fields", "one trailer field", "an extension of a chunk"],
)
async def test_what_has_no_end_and_is_no_body_breaks_the_answer_off(asking: Asking, endless: bytes) -> None:
    peer, answer = await asking.answer(CHUNKED + chunk(b"some"))
    assert await soon(answer.read_some()) == b"some"
    peer.send(endless)
    with pytest.raises(NotHttp):
        await soon(answer.read_some())
    await answer.aclose()
    assert await peer.client_left()


async def test_what_little_unpacks_to_much_is_given_slice_by_slice(asking: Asking) -> None:
    packed = gzip.compress(b"\n" * 30_000_000)
    assert len(packed) < PROVIDER_UNREAD_BYTES  # all of it may come in one read
    _, answer = await asking.answer(whole(packed, "Content-Encoding: gzip"))
    for _ in range(20):
        assert 0 < len(await soon(answer.read_some())) <= PROVIDER_SLICE_BYTES
    with pytest.raises(BodyTooLong):
        await soon(answer.read(1_000_000))
    await answer.aclose()


async def test_between_the_slices_of_what_is_unpacked_others_have_their_turn(asking: Asking) -> None:
    _, answer = await asking.answer(whole(gzip.compress(b"\n" * (8 * PROVIDER_SLICE_BYTES)), "Content-Encoding: gzip"))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    await soon(answer.read())
    running.cancel()
    assert turns >= 8
    await answer.aclose()


async def test_of_an_error_that_unpacks_to_much_only_the_beginning_is_kept(asking: Asking) -> None:
    packed = gzip.compress(b"x" * 30_000_000)
    _, answer = await asking.answer(whole(packed, "Content-Encoding: gzip", status="500 Oh"))
    assert await soon(answer.beginning()) == b"x" * PROVIDER_ERROR_BYTES
    await answer.aclose()


async def test_a_broken_compression_is_told(asking: Asking) -> None:
    packed = gzip.compress(b"some text")
    _, answer = await asking.answer(whole(packed[:10] + b"\xff" * len(packed), "Content-Encoding: gzip"))
    with pytest.raises(DecodingError):
        await soon(answer.read())
    await answer.aclose()


async def test_a_compression_that_is_not_known_is_told_and_the_connection_closed(asking: Asking) -> None:
    with pytest.raises(DecodingError, match="br"):
        await asking.answer(whole(b"some", "Content-Encoding: br"))
    assert await asking.server.connections[0].client_left()


async def test_a_request_that_is_cancelled_before_its_answer_leaves_the_connection(
    asking: Asking, caplog: pytest.LogCaptureFixture
) -> None:
    request = asking.post()
    peer = await asking.server.next_connection()
    await peer.request()
    request.cancel()
    assert await peer.client_left()
    assert request.cancelled()
    del request
    gc.collect()  # "exception was never retrieved" is told then
    assert not caplog.records
    await asking.exchange()


async def test_an_answer_that_is_left_before_its_end_closes_its_connection_at_once(asking: Asking) -> None:
    peer, answer = await asking.answer(CHUNKED + chunk(b"some"))
    assert await soon(answer.read_some()) == b"some"
    await answer.aclose()
    assert await peer.client_left()
    await answer.aclose()
    with pytest.raises(ConnectionResetError):
        await soon(answer.read_some())
    assert await asking.exchange() is not peer


async def test_a_read_that_is_cancelled_and_closed_leaves_the_connection(asking: Asking) -> None:
    peer, answer = await asking.answer(CHUNKED)
    reading = asyncio.create_task(answer.read_some())
    await asyncio.sleep(0)
    reading.cancel()
    await soon(asyncio.wait({reading}))
    await answer.aclose()
    assert await peer.client_left()


async def test_a_reader_that_does_not_read_makes_the_server_wait(asking: Asking) -> None:
    body = bytes(32 * 1024 * 1024)
    peer, answer = await asking.answer(whole(body))
    # No turn takes more than one read off the server: it waits where nothing went in hundreds of them.
    unsent, still = peer.writer.transport.get_write_buffer_size(), 0
    while still < 500:
        await asyncio.sleep(0)
        before, unsent = unsent, peer.writer.transport.get_write_buffer_size()
        assert unsent, "all was taken, though nobody reads"
        still = still + 1 if unsent == before else 0
    assert await soon(answer.read(len(body))) == body
    await answer.aclose()


async def test_nobody_listening_is_told_as_such(name: str) -> None:
    async with asking_by(name) as asking:
        pass
    with pytest.raises(ConnectError) as caught:
        await soon(asking.post())
    assert "nothing answers" in failure_from_transport(IDENTITY, caught.value).message
    await soon(asking.carrier.close())


async def asked_where_tls_never_begins(asking: Asking) -> tuple[RawConnection, asyncio.Task[StreamedResponse]]:
    """A request that waits for the server's part of the handshake."""
    asking.url = asking.url.replace("http:", "https:")
    request = asking.post()
    peer = await asking.server.next_connection()
    if asking.is_proxied:
        assert (await peer.request()).startswith(b"CONNECT provider.invalid:443")
        peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
    return peer, request


async def all_that_comes(peer: RawConnection) -> bytes:
    """What the client sends until it leaves."""
    try:
        return await soon(peer.reader.read())
    except ConnectionError:
        return b""


async def test_a_connection_that_is_not_made_in_time_is_told_and_closed(name: str) -> None:
    async with asking_by(name, connect_s=0.05) as asking:
        peer, request = await asked_where_tls_never_begins(asking)
        with pytest.raises(ConnectTimeout):
            await soon(request)
        await all_that_comes(peer)


async def test_a_request_that_is_cancelled_while_its_connection_is_made_leaves_nothing_open(asking: Asking) -> None:
    for _ in range(10):  # more than there may be at once
        peer, request = await asked_where_tls_never_begins(asking)
        assert (await soon(peer.reader.readexactly(2))) == b"\x16\x03", "the handshake begins"
        request.cancel()
        await all_that_comes(peer)
        assert request.cancelled()
    asking.url = asking.url.replace("https:", "http:")
    await asking.exchange()


@pytest.mark.parametrize("wire", [b"", b"HTTP/1.1 200 OK\r\nContent-"], ids=["nothing", "half a head"])
async def test_a_server_that_closes_before_the_head_is_told(asking: Asking, wire: bytes) -> None:
    request = asking.post()
    peer = await asking.server.next_connection()
    await peer.request()
    peer.send(wire)
    await peer.close()
    with pytest.raises(ConnectionResetError) as caught:
        await soon(request)
    assert "was lost" in failure_from_transport(IDENTITY, caught.value).message


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent", "304 Not Modified"])
@pytest.mark.parametrize("to", ["http://{there}/moved", "/elsewhere", "http://[", "javascript:alert(1)"])
async def test_a_redirect_is_an_answer_and_takes_nothing_anywhere(asking: Asking, status: str, to: str) -> None:
    async with scripted_server(Reply([b"there"])) as there:
        location = to.format(there=there.url.removeprefix("http://"))
        _, answer = await asking.answer(whole(b"", f"Location: {location}", status=status))
        assert (answer.status, answer.headers["location"]) == (int(status[:3]), location)
        assert await soon(answer.read()) == b""
        await answer.aclose()
        assert there.exchanges == []
    assert len(asking.server.connections) == 1


async def test_a_request_is_sent_as_it_was_given_and_nothing_is_added(asking: Asking) -> None:
    asking.url += "?api-version=1&x=%20"
    request = asking.post({"Content-Type": "application/json", "X-Name": "é", "Authorization": "Bearer key"}, b"[1]")
    peer = await asking.server.next_connection()
    head, _, body = (await peer.request()).partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    host = "provider.invalid" if asking.is_proxied else f"127.0.0.1:{asking.server.port}"
    origin = "http://provider.invalid" if asking.is_proxied else ""
    assert (first, body) == (f"POST {origin}/chat?api-version=1&x=%20 HTTP/1.1", b"[1]")
    assert {field.lower() for field in fields if not field.lower().startswith("proxy-")} == {
        f"host: {host}",
        "content-length: 3",
        "content-type: application/json",
        "x-name: é",
        "authorization: bearer key",
    }
    peer.send(WHOLE)
    await (await soon(request)).aclose()


async def test_a_get_has_no_body(asking: Asking) -> None:
    request = asyncio.create_task(asking.carrier.post(asking.url, b"", {}, "GET"))
    peer = await asking.server.next_connection()
    head = await peer.request()
    assert head.startswith(b"GET ")
    assert b"content-length" not in head.lower()
    peer.send(WHOLE)
    await (await soon(request)).aclose()


async def test_cookies_are_not_kept(asking: Asking) -> None:
    peer = await asking.exchange(wire=whole(b"some", "Set-Cookie: seen=1; Path=/"))
    request = asking.post()
    assert b"cookie" not in (await peer.request()).lower()
    peer.send(WHOLE)
    await (await soon(request)).aclose()


async def test_the_environment_has_no_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    async with asking_by(name) as asking:
        await asking.exchange()


@pytest.mark.parametrize("text", ["a\r\nX-Other: b", "a\nb", "a\rb", "a\0b"])
async def test_a_control_character_in_a_header_is_refused_before_anything_is_sent(asking: Asking, text: str) -> None:
    with pytest.raises(ConnectError, match="control character") as caught:
        await soon(asking.post({"X-Key": f"{SECRET}{text}"}))
    assert SECRET not in str(caught.value)
    assert not asking.server.connections


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/x", "ftp://127.0.0.1/x", "http://[::1/x", "http://a..é/x"])
async def test_what_is_no_http_address_can_not_be_connected_to(asking: Asking, url: str) -> None:
    with pytest.raises(ConnectError, match="not an HTTP address"):
        await soon(asking.carrier.post(url, b"{}", {}))


@pytest.mark.parametrize(
    "wire",
    [b"", b"SSH-2.0-x\r\n\r\n", whole(b"", "Content-Encoding: br"), b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
    ids=["nothing", "no HTTP", "an unknown compression", "no length"],
)
async def test_no_error_says_what_was_sent(asking: Asking, wire: bytes) -> None:
    asking.url = asking.url.replace("http://", f"http://ada:{SECRET}@") + f"?key={SECRET}"
    request = asking.post({"Authorization": f"Bearer {SECRET}"}, SECRET.encode())
    peer = await asking.server.next_connection()
    await peer.request()
    peer.send(wire)
    await peer.close()
    with pytest.raises((OSError, NotHttp, DecodingError)) as caught:
        await soon(request)
    told: BaseException | None = caught.value
    while told is not None:
        assert SECRET not in f"{told} {told!r}"
        told = told.__cause__ or told.__context__


async def test_a_user_in_the_url_is_told_unless_a_header_tells_another(asking: Asking) -> None:
    asking.url = asking.url.replace("http://", "http://ada:word@")
    for headers, sent in (({}, b"Basic YWRhOndvcmQ="), ({"authorization": "Bearer key"}, b"Bearer key")):
        request = asking.post(headers)
        peer = await asking.server.next_connection()
        fields = dict(line.lower().split(b": ", 1) for line in (await peer.request()).split(b"\r\n")[1:-2])
        assert fields[b"authorization"] == sent.lower()
        assert b"word" not in fields[b"host"]
        peer.send(WHOLE)
        await (await soon(request)).aclose()
        await soon(asking.carrier.close())


async def test_a_connection_whose_answer_was_read_to_its_end_is_used_again(asking: Asking) -> None:
    peer = await asking.exchange()
    await asking.exchange(peer, CHUNKED + chunk(b"some") + LAST_CHUNK)
    await asking.exchange(peer)
    assert len(asking.server.connections) == 1


async def test_answers_at_the_same_time_have_a_connection_each(asking: Asking) -> None:
    (one, first), (other, second) = [await asking.answer(CHUNKED + chunk(b"some")) for _ in range(2)]
    assert one is not other
    for peer, answer in ((one, first), (other, second)):
        peer.send(LAST_CHUNK)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()


async def test_one_principals_answer_never_comes_over_a_connection_that_carried_anothers(asking: Asking) -> None:
    peers: dict[str, RawConnection] = {}
    for principal in ("ada", "bob", "ada", "bob"):
        request = asking.post(principal=principal)
        peer = peers.get(principal) or await asking.server.next_connection()
        peers[principal] = peer
        await peer.request()
        peer.send(WHOLE)
        answer = await soon(request)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()
    assert peers["ada"] is not peers["bob"]
    assert len(asking.server.connections) == 2


@pytest.mark.parametrize(
    ("wire", "headers"),
    [
        (whole(b"some", "Connection: close"), {}),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nsome", {}),
        (WHOLE, {"Connection": "close"}),
    ],
    ids=["the server said so", "HTTP/1.0", "we asked for it"],
)
async def test_a_connection_that_is_to_be_closed_is(asking: Asking, wire: bytes, headers: dict[str, str]) -> None:
    peer = await asking.exchange(wire=wire, headers=headers)
    assert await peer.client_left()
    assert await asking.exchange() is not peer


async def test_a_connection_on_which_something_came_unasked_is_not_used_again(asking: Asking) -> None:
    peer = await asking.exchange()
    # At once, and not in some turn of the loop: it is there when the next request would be sent.
    peer.writer.transport.get_extra_info("socket")._sock.send(whole(b"evil"))
    assert await asking.exchange() is not peer
    assert await peer.client_left()


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(asking: Asking) -> None:
    peer = await asking.exchange()
    await peer.close()
    assert await asking.exchange() is not peer


async def test_a_request_that_crosses_the_close_of_its_kept_connection_is_sent_again_over_another() -> None:
    """Over our own connections alone: the library's tell the loss."""
    async with asking_by("own") as asking:
        peer = await asking.exchange()
        request = asking.post()
        await peer.request()
        await peer.close()
        other = await asking.server.next_connection()
        await other.request()
        other.send(WHOLE)
        answer = await soon(request)
        assert await soon(answer.read()) == b"some"
        await answer.aclose()


async def test_an_idle_connection_is_closed_after_a_while(name: str) -> None:
    async with asking_by(name, keep_alive_s=0.01) as asking:
        peer = await asking.exchange()
        assert await peer.client_left()
        assert await asking.exchange() is not peer


async def test_close_closes_idle_connections_and_busy_ones_and_whoever_waits_is_told(asking: Asking) -> None:
    idle = await asking.exchange()
    busy, answer = await asking.answer(CHUNKED, idle)
    other, _ = await asking.answer(CHUNKED)
    waiting = asking.post()
    asked = await asking.server.next_connection()
    await asked.request()
    reading = asyncio.create_task(answer.read_some())
    await asyncio.sleep(0)
    await soon(asking.carrier.close())
    for peer in (busy, other, asked):
        assert await peer.client_left()
    for left in (reading, waiting):
        with pytest.raises(ConnectionResetError):
            await soon(left)
    await answer.aclose()
    await soon(asking.carrier.close())


async def test_connections_whose_loop_is_closed_can_be_closed_from_another(name: str) -> None:
    async with raw_http_server() as server:

        async def left_open() -> Carrier:
            asking = Asking(name, server)
            answer = await soon(asking.post())
            assert await soon(answer.read()) == b"some"
            await answer.aclose()
            return asking.carrier

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # that its connection was left open is the point
            with ThreadPoolExecutor(1) as thread:
                leaving = asyncio.wrap_future(thread.submit(asyncio.run, left_open()))
                peer = await server.next_connection()
                await peer.request()
                peer.send(WHOLE)
                carrier = await soon(leaving)
            await soon(carrier.close())
            del carrier, leaving
            await asyncio.sleep(0)  # the loop lets go of them as well
            gc.collect()
        assert await peer.client_left()
