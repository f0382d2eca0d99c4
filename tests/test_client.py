"""The client of the HTTP interface: its parsing, its errors, and how an answer is shown."""

import asyncio
import io
import json
import socket
from typing import Any

import pytest

from archer_ws.client.events import (
    ClientError,
    Ended,
    Progress,
    Reasoning,
    Refused,
    ServerSentEvents,
    Started,
    StreamEvent,
    Text,
    Unreachable,
    parse_event,
)
from archer_ws.client.sse import ArcherClient
from archer_ws.client.terminal import Terminal, answer, messages
from tests.fakes.scripted_server import Abort, Reply, forever, scripted_server

REQUEST = {"messages": [{"role": "user", "content": "Why?"}]}
PROXIES = ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy")


def event(name: str = "", **data: Any) -> bytes:
    named = f"event: {name}\n" if name else ""
    return f"{named}id: 1\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def piece(text: str) -> bytes:
    return event(content=text, finish_reason=None)


def ended(status: str = "completed", **fields: Any) -> bytes:
    return event("ended", content="", status=status, **fields) + b"data: [DONE]\n\n"


def stream(*steps: bytes | Abort) -> Reply:
    return Reply(steps, content_type="text/event-stream; charset=utf-8")


async def events_of(*replies: Reply) -> list[StreamEvent]:
    async with asyncio.timeout(10), scripted_server(*replies) as server, ArcherClient(server.url) as client:
        return [each async for each in client.chat(REQUEST)]


def test_line_separators_of_unicode_inside_json_do_not_end_a_line() -> None:
    text = "one\u2028two\u2029three\x85four\x0bfive"
    assert ServerSentEvents().feed(f"data: {text}\n\n".encode()) == [("", text.encode())]


def test_events_are_the_same_wherever_the_reads_are_cut() -> None:
    raw = b": keep-alive\n\nevent: started\nid: 1\ndata: {}\n\ndata: \xc3\xa4\ndata:b\n\nevent: x\n\r\ndata: c\r\n\r\n"
    expected = [("started", b"{}"), ("", b"\xc3\xa4\nb"), ("", b"c")]
    for size in range(1, len(raw) + 1):
        decoder = ServerSentEvents()
        found = [each for start in range(0, len(raw), size) for each in decoder.feed(raw[start : start + size])]
        assert found == expected, size


def test_an_event_that_was_not_closed_is_not_an_event() -> None:
    assert ServerSentEvents().feed(b"data: half\n") == []


def test_an_endless_event_is_an_error_and_not_all_memory() -> None:
    decoder = ServerSentEvents()
    mebibyte = b"x" * 1024 * 1024
    for _ in range(16):
        decoder.feed(mebibyte)
    with pytest.raises(ClientError, match="more than"):
        decoder.feed(mebibyte)


def test_events_of_a_newer_server_are_passed_over() -> None:
    assert parse_event("applause", b'{"content": "clap"}') is None
    assert parse_event("", b'{"content": "", "image": "..."}') is None
    assert parse_event("", b"[DONE]") is None


@pytest.mark.parametrize("data", [b"hello", b"[1]", b'"text"', b"[" * 100_000])
def test_what_is_not_a_json_object_is_an_error_in_words(data: bytes) -> None:
    with pytest.raises(ClientError, match="not a JSON object"):
        parse_event("", data)


async def test_an_answer_comes_as_typed_events() -> None:
    error = {"kind": "provider_error", "message": "it broke", "hint": "Mend it.", "retryable": False, "request_id": "r"}
    found = await events_of(
        stream(
            event("progress", content="", phase="loading", detail="a model"),
            event("started", content="", provider="ollama", model="llama3.2"),
            event(content="", reasoning="Hm."),
            piece("Blue"),
            ended("failed", error=error),
        )
    )
    assert found[:4] == [
        Progress("loading", "a model"),
        Started("ollama", "llama3.2"),
        Reasoning("Hm."),
        Text("Blue"),
    ]
    end = found[4]
    assert isinstance(end, Ended)
    assert end.error is not None
    assert (end.status, end.error.kind, end.error.message, end.error.hint) == (
        "failed",
        "provider_error",
        "it broke",
        "Mend it.",
    )


async def test_a_refusal_has_the_servers_words() -> None:
    error = {"kind": "draining", "message": "the server is about to stop", "hint": "Connect again in a moment."}
    with pytest.raises(Refused) as caught:
        await events_of(Reply.of_json({"error": error}, status=503))
    assert (caught.value.kind, caught.value.message, caught.value.hint) == tuple(error.values())


@pytest.mark.parametrize(
    "reply",
    [
        Reply([b"<html>hello</html>"], content_type="text/html"),
        Reply([b"not found"], status=404, content_type="text/plain"),
        Reply.of_json({"error": "gone"}, status=500),
        Reply.of_json([1, 2]),
    ],
)
async def test_a_server_of_another_kind_is_recognised(reply: Reply) -> None:
    with pytest.raises(Refused, match="not as an Archer server does"):
        await events_of(reply)


@pytest.mark.parametrize("cut", [stream(piece("Blu"), Abort()), stream(piece("Blu"))])
async def test_a_stream_without_its_end_is_an_error(cut: Reply) -> None:
    with pytest.raises(Unreachable):
        await events_of(cut)


async def test_an_end_that_came_is_not_spoiled_by_what_happens_to_the_connection_then() -> None:
    found = await events_of(stream(ended(), Abort()))
    assert isinstance(found[-1], Ended)


async def test_nobody_there_is_told_with_the_command_that_helps() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with asyncio.timeout(10), ArcherClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(Unreachable, match=f"nothing answers at http://127.0.0.1:{port}") as caught:
            await client.create_session()
    assert caught.value.hint is not None
    assert "archer-ws serve --provider local" in caught.value.hint


async def test_a_proxy_is_not_asked_for_this_machines_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(10), scripted_server() as proxy, scripted_server(stream(ended())) as server:
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.url)
        async with ArcherClient(server.url) as client:
            assert [each async for each in client.chat(REQUEST)]
        assert proxy.exchanges == []


async def test_the_token_goes_into_the_header_and_nowhere_else() -> None:
    async with asyncio.timeout(10), scripted_server(stream(ended())) as server:
        async with ArcherClient(server.url, "s3cret") as client:
            assert [each async for each in client.chat(REQUEST)]
        exchange = server.exchanges[0]
        assert exchange.headers["authorization"] == "Bearer s3cret"
        assert b"s3cret" not in exchange.body
        assert "s3cret" not in exchange.path


@pytest.mark.parametrize("url", ["ftp://localhost", "http://", "http://localhost:99999", "http://me:pw@localhost", ""])
def test_what_is_no_url_of_a_server_is_told(url: str) -> None:
    with pytest.raises(ClientError, match="is not the URL of a server"):
        ArcherClient(url)


@pytest.mark.parametrize("token", ["two words", "nötig", "line\n"])
def test_a_token_that_no_header_can_carry_is_told_without_showing_it(token: str) -> None:
    with pytest.raises(ClientError) as caught:
        ArcherClient("http://localhost", token)
    assert token not in caught.value.message


class Screen(io.StringIO):
    """A terminal, or a file."""

    def __init__(self, *, is_tty: bool = True) -> None:
        super().__init__()
        self.tty = is_tty
        self.written = asyncio.Event()

    def write(self, text: str, /) -> int:
        self.written.set()
        return super().write(text)

    def isatty(self) -> bool:
        return self.tty


def shown(*shown_events: StreamEvent, is_tty: bool = True) -> tuple[str, str]:
    out, err = Screen(is_tty=is_tty), Screen()
    terminal = Terminal(out, err)
    for each in shown_events:
        terminal.show(each)
    terminal.end_line()
    return out.getvalue(), err.getvalue()


def test_a_models_text_cannot_steer_the_terminal() -> None:
    nasty = "a\x1b[2J\x1b]0;title\x07b\r\x08c\x9b31md\te\nf\x7f ä 語"
    assert shown(Text(nasty))[0] == "a[2J]0;titlebc31md\te\nf ä 語\n"


def test_a_file_gets_the_text_as_it_is() -> None:
    assert shown(Text("a\x1b[0m\r\n"), is_tty=False)[0] == "a\x1b[0m\r\n"


def test_reasoning_is_dimmed_on_a_terminal_and_left_out_of_a_file() -> None:
    thought = (Reasoning("Hm"), Reasoning("..."), Text("Blue"))
    assert shown(*thought)[0] == "\x1b[2mHm...\x1b[0m\n\nBlue\n"
    assert shown(*thought, is_tty=False)[0] == "Blue\n"


def test_reasoning_that_is_broken_off_leaves_the_terminal_as_it_was() -> None:
    assert shown(Reasoning("Hm"))[0] == "\x1b[2mHm\x1b[0m\n"


def test_progress_and_notices_stay_out_of_the_answer() -> None:
    out, err = shown(Progress("loading", "mod\x1bel"), Text("Blue"))
    assert out == "Blue\n"
    assert err == "[loading: model]\n"


def test_each_piece_is_flushed_as_it_comes() -> None:
    buffer = io.BytesIO()
    terminal = Terminal(io.TextIOWrapper(buffer, encoding="utf-8", write_through=False), Screen())
    terminal.show(Text("Bl"))
    assert buffer.getvalue() == b"Bl"


@pytest.mark.parametrize(
    ("end", "is_whole", "told"),
    [
        (ended(), True, ""),
        (ended(finish_reason="length"), True, "[the answer was cut off: --max-tokens allows more]\n"),
        (ended("cancelled", reason="draining"), False, "[cancelled: the server is stopping]\n"),
        (
            ended("incomplete", error={"kind": "upstream_truncated", "message": "it just stopped"}),
            False,
            "[the answer is incomplete]\narcher-ws: it just stopped\n",
        ),
        (
            ended("failed", error={"kind": "provider_auth", "message": "wrong key", "hint": "Set it."}),
            False,
            "archer-ws: wrong key\n  Set it.\n",
        ),
        (ended("applauded"), False, "[applauded]\n"),
    ],
)
async def test_how_an_answer_ended_is_told(end: bytes, is_whole: bool, told: str) -> None:
    out, err = Screen(is_tty=False), Screen()
    reply = stream(piece("Blue"), end)
    async with asyncio.timeout(10), scripted_server(reply) as server, ArcherClient(server.url) as client:
        assert await answer(client, REQUEST, Terminal(out, err)) is is_whole
    assert out.getvalue() == "Blue\n"
    assert err.getvalue() == told


async def test_a_cancelled_answer_closes_its_stream_and_tells_the_server() -> None:
    endless = Reply([piece("Blu"), forever()], content_type="text/event-stream")
    cancelled = Reply.of_json({"outcome": "cancelling"})
    out = Screen()
    async with asyncio.timeout(10), scripted_server(endless, cancelled) as server, ArcherClient(server.url) as client:
        answering = asyncio.create_task(answer(client, REQUEST, Terminal(out, Screen())))
        exchange = await server.exchange(0)
        await out.written.wait()
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        await exchange.client_left.wait()
        told = await server.exchange(1)
        assert (told.method, told.path) == ("DELETE", f"/api/v1/streams/{exchange.json()['stream_id']}")
    assert out.getvalue() == "Blu\n"


async def test_a_server_that_does_not_answer_a_cancel_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archer_ws.client.sse.CANCEL_LIMIT_S", 0.1)
    silent = Reply(before_headers=[forever()])
    async with asyncio.timeout(10), scripted_server(silent) as server, ArcherClient(server.url) as client:
        await client.cancel("x")


def test_what_a_shell_passed_on_that_is_not_unicode_becomes_question_marks() -> None:
    assert messages("a\udcffb", "sys\udc80") == [
        {"role": "system", "content": "sys?"},
        {"role": "user", "content": "a?b"},
    ]
