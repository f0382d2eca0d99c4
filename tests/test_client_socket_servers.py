"""The Python client and what other servers do: close codes, gaps, other protocols, and when to try again."""

import asyncio
import json
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
import websockets

from archer_ws.client import (
    Archer,
    Backoff,
    ChatStream,
    ClientError,
    ClosedByServer,
    Delta,
    NotArcher,
    Refused,
    Unreachable,
    connect,
)
from archer_ws.client.dialling import Address
from archer_ws.sessions.streams.events import StreamDelta, as_fields
from tests.conftest import Archer as Server
from tests.conftest import StartArcher
from tests.fakes.scripted_archer import ACCEPTED, WELCOME, Postponing, Scripted, answer, listening, refuse, tell
from tests.fakes.scripted_server import Reply, scripted_server

LIMIT_S = 60

pytestmark = pytest.mark.usefixtures("no_client_task_left")


async def text_of(stream: ChatStream) -> str:
    return "".join([delta async for delta in stream])


def impatient(url: str, **options: Any) -> Archer:
    """A client that connects again without waiting."""
    return connect(url, backoff=Backoff(0, 0), **options)


async def test_nobody_there_is_told_at_once_with_the_command_that_helps() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match=f"nothing answers at http://127.0.0.1:{port}") as caught:
        async with asyncio.timeout(LIMIT_S), connect(f"127.0.0.1:{port}"):
            pass
    assert caught.value.hint is not None
    assert "archer-ws serve" in caught.value.hint
    assert f"--port {port} --provider local" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "ftp://localhost",
        "http://",
        "http://localhost:99999",
        "http://exa mple:1",
        "http://exa\x01mple:1",
        "http://me:pw@localhost",
        "",
        "http://a..b",
        f"http://{'a' * 64}.org",
    ],
)
def test_what_is_no_url_of_a_server_is_told(url: str) -> None:
    with pytest.raises(ClientError, match="is not the URL of a server"):
        connect(url)


@pytest.mark.parametrize("url", ["http://me:s3cret@localhost", "http://me:s3?cret@localhost", "http://x/?token=s3cret"])
def test_a_password_or_token_in_a_url_is_not_shown(url: str) -> None:
    with pytest.raises(ClientError) as caught:
        Address(url)
    assert str(caught.value) == "a URL with a user or a query is not the URL of a server"


@pytest.mark.parametrize(
    ("url", "socket_url"),
    [
        ("localhost:8000", "ws://localhost:8000/api/v1/ws"),
        ("https://example.com/archer/", "wss://example.com/archer/api/v1/ws"),
        ("ws://[::1]:8000/api/v1/ws", "ws://[::1]:8000/api/v1/ws"),
    ],
)
def test_the_socket_is_found_below_the_servers_url(url: str, socket_url: str) -> None:
    assert Address(url).socket_url == socket_url


async def test_a_proxy_is_not_asked_for_this_machines_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        await answer(connection, request, {})

    async with asyncio.timeout(LIMIT_S), scripted_server() as proxy, listening(Scripted(serve)) as url:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with connect(url) as client:
            await client.ping()
        assert proxy.exchanges == []


@pytest.mark.parametrize(
    "reply",
    [
        Reply([b"<html>hello</html>"], content_type="text/html"),
        Reply([b"not found"], status=404, content_type="text/plain"),
        Reply(status=301, headers={"location": "ws://127.0.0.1:1/"}),
        Reply(status=403),
    ],
)
async def test_a_server_of_another_kind_is_recognised(reply: Reply) -> None:
    async with asyncio.timeout(LIMIT_S), scripted_server(reply) as server:
        with pytest.raises(NotArcher):
            async with impatient(server.url):
                pass


@pytest.mark.parametrize(
    "body", [b'{"error": "not found"}', b'{"error": {"message": "none", "type": "x"}}', b"[" * 9999]
)
async def test_what_only_resembles_the_error_of_an_archer_server_is_none(body: bytes) -> None:
    reply = Reply([body], status=404, content_type="application/json")
    async with asyncio.timeout(LIMIT_S), scripted_server(reply) as server:
        with pytest.raises(NotArcher, match="responded with 404"):
            async with impatient(server.url):
                pass


async def test_a_proxy_that_passes_no_websockets_on_is_told_in_the_words_of_the_server(
    archer: Server,
) -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As nginx does without further settings: without the fields that are for this connection alone."""
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        kept = [line for line in head if not line.lower().startswith((b"connection:", b"upgrade:"))]
        answers, requests = await asyncio.open_connection(*archer.address.split(":"))
        requests.write(b"\r\n".join([kept[0], b"Connection: close", *kept[1:]]))
        writer.write(await answers.read())
        requests.close()
        writer.close()

    async with asyncio.timeout(LIMIT_S), await asyncio.start_server(forward, "127.0.0.1", 0) as proxy:
        with pytest.raises(Unreachable, match="is a WebSocket, and this request asks for none") as caught:
            async with impatient(f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"):
                pass
    assert caught.value.hint is not None
    assert "a proxy before the server took the Upgrade header out" in caught.value.hint


async def test_a_name_that_the_server_does_not_go_by_is_told_in_its_words(start_archer: StartArcher) -> None:
    async with asyncio.timeout(LIMIT_S), start_archer(allowed_hosts=["testserver"]) as archer:
        with pytest.raises(Unreachable, match=r"this server does not answer to 127\.0\.0\.1") as caught:
            async with impatient(f"http://{archer.address}"):
                pass
    assert caught.value.hint is not None
    assert "ALLOWED_HOSTS" in caught.value.hint


async def test_a_server_that_is_no_http_server_is_recognised() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        writer.close()

    async with asyncio.timeout(LIMIT_S), await asyncio.start_server(greet, "127.0.0.1", 0) as listening:
        with pytest.raises(NotArcher):
            async with impatient(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"):
                pass


async def test_a_message_that_is_too_large_for_this_client_is_told_as_that_and_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("archer_ws.client.dialling.MESSAGE_BYTES_MAX", 10_000)

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        await answer(connection, request, {"text": "x" * 10_000})

    scripted = Scripted(serve)
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        with pytest.raises(ClosedByServer, match=f"this client can't read what {url} sent: .*exceeds limit of 10000"):
            await client.ping()
    assert [each["method"] for each in scripted.asked] == ["initialize", "ping"]


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 4500, 4501, 4504, 4505, 4999])
async def test_a_close_for_good_fails_all_that_waits_at_once(code: int) -> None:
    async def serve(connection: websockets.ServerConnection, _: dict[str, Any]) -> None:
        await connection.close(code, "because")

    scripted = Scripted(serve)
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        stream, pinging = client.chat("Why?"), asyncio.create_task(client.ping())
        for waiting in (text_of(stream), pinging, client.ping(), text_of(client.chat("And?"))):
            with pytest.raises(ClosedByServer, match="for good") as caught:
                await waiting
            assert caught.value.code == code
    assert [each["method"] for each in scripted.asked].count("initialize") == 1


@pytest.mark.parametrize("code", [1001, None, 1011, 1012, 1013, 4000, 4003, 4499])
async def test_a_passing_close_is_mended(code: int | None) -> None:
    closed = False

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        nonlocal closed
        if closed:
            await answer(connection, request, {})
            return
        closed = True
        if code is None:  # 1005 on the wire is a close frame without a code
            connection.protocol.send_close()
            connection.send_data()
        else:
            await connection.close(code)

    async with asyncio.timeout(LIMIT_S), listening(Scripted(serve)) as url, impatient(url) as client:
        await client.ping()
    assert closed


@pytest.mark.parametrize("frame", ["hello", "[]", b"binary", '{"jsonrpc":"2.0","id":true}', "[" * 100_000])
async def test_frames_of_another_protocol_are_told(frame: str | bytes) -> None:
    async def serve(connection: websockets.ServerConnection, _: dict[str, Any]) -> None:
        await connection.send(frame)

    async with asyncio.timeout(LIMIT_S), listening(Scripted(serve)) as url, impatient(url) as client:
        with pytest.raises(NotArcher):
            await client.ping()


async def test_a_websocket_server_without_our_subprotocol_is_recognised() -> None:
    async def echo(connection: websockets.ServerConnection) -> None:
        async for text in connection:
            await connection.send(text)

    async with asyncio.timeout(LIMIT_S), listening(echo, subprotocols=None) as url:
        with pytest.raises(NotArcher, match="but not"):
            async with impatient(url):
                pass


async def test_closing_sends_what_is_to_be_sent_and_says_goodbye() -> None:
    codes: asyncio.Queue[int | None] = asyncio.Queue()

    async def serve(_: websockets.ServerConnection, request: dict[str, Any]) -> None:
        assert request["method"] in {"chat/send", "stream/cancel"}

    scripted = Scripted(serve)

    async def until_closed(connection: websockets.ServerConnection) -> None:
        await scripted(connection)
        codes.put_nowait(connection.close_code)

    async with asyncio.timeout(LIMIT_S), listening(until_closed) as url:
        async with impatient(url) as client:
            for number in range(20):
                async with client.chat("x" * 500_000, stream_id=str(number)):
                    pass
        assert await codes.get() == 1000
    assert [each["method"] for each in scripted.asked].count("stream/cancel") == 20


async def test_closing_that_is_cancelled_leaves_no_connection_to_a_server_that_does_not_read() -> None:
    is_over = asyncio.Event()

    async def unread(connection: websockets.ServerConnection) -> None:
        await answer(connection, json.loads(await connection.recv()), WELCOME)
        connection.transport.pause_reading()
        await is_over.wait()
        connection.transport.abort()

    is_closing = asyncio.Event()

    async def chatting(url: str) -> None:
        async with impatient(url) as client:
            for number in range(60):  # more than the buffers between them hold
                client.chat("x" * 500_000, stream_id=str(number))
            asyncio.get_running_loop().call_soon(is_closing.set)

    async with asyncio.timeout(LIMIT_S), listening(unread) as url:
        chat = asyncio.create_task(chatting(url))
        await is_closing.wait()
        chat.cancel()
        with pytest.raises(asyncio.CancelledError):
            await chat
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("archer-")] == []
        is_over.set()


LOOP: dict[str, Any] = {}
LOOP["loop"] = LOOP


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), float("nan"), float("inf"), LOOP, {(1, 2): 3}])
async def test_what_is_not_json_fails_its_own_request_and_no_other(value: Any) -> None:
    is_ending = asyncio.Event()

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        if request["method"] == "ping":
            await answer(connection, request, {})
            return
        stream_id = request["params"]["stream_id"]
        await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})
        await is_ending.wait()
        await tell(connection, "stream/ended", stream_id=stream_id, seq=1, status="completed", text_bytes=0)

    scripted = Scripted(serve)
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        other = client.chat("Why?")
        with pytest.raises(ClientError, match="session/create can't be sent as JSON"):
            await client.sessions.create(metadata={"value": value})
        with pytest.raises(ClientError, match="chat/send can't be sent as JSON"):
            await text_of(client.chat([{"role": "user", "content": value}]))
        is_ending.set()
        assert await text_of(other) == ""
        await client.ping()
    assert [each["method"] for each in scripted.asked] == ["initialize", "chat/send", "ping"]


async def test_missing_events_are_asked_for_again_doubled_ones_dropped_and_unknown_ones_passed_over() -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = request["params"]["stream_id"]
        await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})

        async def delta(first: int, last: int, content: str) -> None:
            params = StreamDelta(stream_id=stream_id, from_=first, seq=last, content=content)
            await tell(connection, "stream/delta", **as_fields(params))

        if request["method"] == "chat/send":
            await tell(connection, "stream/applause", stream_id=stream_id, seq=1)
            await delta(2, 3, "one ")
            await delta(2, 3, "one ")
            await delta(5, 5, "three ")
            await delta(6, 6, "four ")
        else:
            assert request["params"]["after"] == 3
            await delta(4, 6, "two three four")
            await delta(4, 6, "two three four")
            await tell(connection, "stream/ended", stream_id=stream_id, seq=7, status="applauded", text_bytes=1)

    async with asyncio.timeout(LIMIT_S), listening(Scripted(serve)) as url, impatient(url) as client:
        stream = client.chat("Why?")
        assert await text_of(stream) == stream.text == "one two three four"
        assert stream.ended is not None
        assert stream.ended.status == "applauded"


@pytest.mark.parametrize("kind", ["storage_unavailable", "draining", "too_many_streams"])
async def test_a_stream_that_the_server_cannot_deliver_for_the_moment_is_asked_for_again(kind: str) -> None:
    postponing = Postponing(kind)
    async with asyncio.timeout(LIMIT_S), listening(Scripted(postponing)) as url, impatient(url) as client:
        assert await text_of(client.chat("Why?")) == "one two"
    assert postponing.refusals == 0


async def test_a_stream_that_the_server_has_not_accepted_is_not_asked_for_again() -> None:
    not_now = {"kind": "overloaded", "message": "not now", "retryable": True, "retry_after_ms": 1, "request_id": "r"}

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        error = {"code": -32001, "message": "not now", "data": not_now}
        await refuse(connection, request, error)

    scripted = Scripted(serve)
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        for stream in (client.chat("Why?"), client.resume("s")):
            with pytest.raises(Refused, match="not now"):
                await text_of(stream)
    assert [each["method"] for each in scripted.asked[1:]] == ["chat/send", "stream/subscribe"]


async def test_a_server_that_keeps_leaving_out_events_is_told_and_not_asked_for_ever() -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = request["params"]["stream_id"]
        await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})
        await tell(connection, "stream/delta", stream_id=stream_id, from_=2, seq=2, content="two")

    scripted = Scripted(serve)
    async with asyncio.timeout(LIMIT_S), listening(scripted) as url, impatient(url) as client:
        with pytest.raises(NotArcher, match="leaves out"):
            await text_of(client.chat("Why?"))
    assert len(scripted.asked) < 10


async def test_a_trimmed_log_discards_the_text_that_came() -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = request["params"]["stream_id"]
        await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})
        await tell(connection, "stream/delta", stream_id=stream_id, from_=1, seq=1, content="old")
        await tell(connection, "stream/delta", stream_id=stream_id, from_=9, seq=9, content="new", reset=True)
        await tell(connection, "stream/ended", stream_id=stream_id, seq=10, status="completed", text_bytes=1)

    async with asyncio.timeout(LIMIT_S), listening(Scripted(serve)) as url, impatient(url) as client:
        stream = client.chat("Why?")
        events = [event async for event in stream.events()]
        assert stream.text == "new"
        assert getattr(events[-2], "reset", False)


async def test_a_reset_is_told_also_where_it_brings_no_text_that_is_known() -> None:
    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        stream_id = request["params"].get("stream_id", "")
        await answer(connection, request, {"stream_id": stream_id, **ACCEPTED})
        if request["method"] == "ping":
            return
        await tell(connection, "stream/delta", stream_id=stream_id, from_=1, seq=1, content="old")
        await tell(connection, "stream/delta", stream_id=stream_id, from_=1, seq=2, arguments="{}", reset=True)
        await tell(connection, "stream/delta", stream_id=stream_id, from_=3, seq=3, content="new")
        await tell(connection, "stream/ended", stream_id=stream_id, seq=4, status="completed", text_bytes=1)

    async with asyncio.timeout(LIMIT_S), listening(Scripted(serve)) as url, impatient(url) as client:
        stream = client.chat("Why?")
        while stream.ended is None:
            await client.ping()
        events = [event async for event in stream.events()]
        assert stream.text == "new"
        assert events[0] == Delta(reset=True)
        assert events[2] == Delta(content="new")


async def test_a_delete_that_had_to_be_repeated_finds_its_own_work_done() -> None:
    deletions = 0

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        nonlocal deletions
        deletions += 1
        if deletions == 1:
            connection.transport.abort()
            return
        gone = {"kind": "session_not_found", "message": "no such session", "retryable": False, "request_id": "r"}
        error = {"code": -32023, "message": "no such session", "data": gone}
        await refuse(connection, request, error)

    async with asyncio.timeout(LIMIT_S), listening(Scripted(serve)) as url, impatient(url) as client:
        await client.sessions.delete("s")
        with pytest.raises(Refused):
            await client.sessions.delete("s")
    assert deletions == 3


def test_backoff_doubles_to_its_cap_jitters_fully_and_begins_anew() -> None:
    highest = Backoff(chance=lambda: 1.0)
    assert [highest.next_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 20, 20]
    highest.reset()
    assert highest.next_s() == 0.5
    assert Backoff(chance=lambda: 0.0).next_s() == 0


async def test_a_successful_request_resets_the_backoff_and_a_mere_connection_does_not() -> None:
    resets: list[str] = []

    class Noted(Backoff):
        def reset(self) -> None:
            resets.append("reset")

    async def serve(connection: websockets.ServerConnection, request: dict[str, Any]) -> None:
        await answer(connection, request, {})

    async with asyncio.timeout(LIMIT_S), listening(Scripted(serve)) as url, connect(url, backoff=Noted()) as client:
        assert resets == []
        await client.ping()
        assert resets == ["reset"]
