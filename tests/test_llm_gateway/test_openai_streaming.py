"""Streamed answers of the OpenAI adapter: their text, their end, and the connection when somebody leaves early."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import structlog

from archer_ws.core.exceptions import ProviderError, UpstreamTruncated
from archer_ws.llm_gateway.decoding.completion import ErrorReported
from archer_ws.llm_gateway.openai.client import OpenAIClient
from archer_ws.llm_gateway.openai.decoder import ChatStreamDecoder
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.transport.response import StreamedResponse
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole, StreamChunk, TokenUsage
from tests.fakes.openai_api import DONE, adapter_for, chunk, delta, ending, event, finish, stream, text_stream, usage
from tests.fakes.scripted_server import Abort, Reply, ScriptedServer, Step, Wait, forever, scripted_server

MESSAGES = [ChatMessage(role=MessageRole.USER, content="hi")]


@asynccontextmanager
async def serving(*replies: Reply) -> AsyncIterator[tuple[ScriptedServer, OpenAIAdapter]]:
    async with asyncio.timeout(30), scripted_server(*replies) as server, adapter_for(server) as adapter:
        yield server, adapter


async def received(adapter: OpenAIAdapter) -> tuple[list[StreamChunk], BaseException | None]:
    """The chunks of an answer, and what it ended with."""
    chunks: list[StreamChunk] = []
    try:
        async for piece in adapter.stream_chat(MESSAGES):
            chunks.append(piece)  # noqa: PERF401 - what came before a failure is kept
    except (UpstreamTruncated, ProviderError) as error:
        return chunks, error
    return chunks, None


def text(chunks: list[StreamChunk]) -> str:
    return "".join(piece.content for piece in chunks)


def said(choice: dict[str, Any]) -> bytes:
    return event({"id": "c", "choices": [choice]})


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - no event tells it; the time-out bounds it
            await asyncio.sleep(0)


async def test_a_stream_yields_text_reason_and_usage() -> None:
    async with serving(text_stream(["Hel", "lo ", "\U0001f600"])) as (server, adapter):
        chunks, error = await received(adapter)
        sent = (await server.exchange()).json()
    assert error is None
    assert text(chunks) == "Hello \U0001f600"
    assert [piece.finish_reason for piece in chunks if piece.finish_reason] == ["stop"]
    assert [piece.usage for piece in chunks if piece.usage] == [
        TokenUsage(prompt_tokens=3, completion_tokens=5, total_tokens=8, cached_tokens=0, reasoning_tokens=0)
    ]
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}


async def test_a_stream_is_asked_for_uncompressed() -> None:
    async with serving(text_stream(["x"])) as (server, adapter):
        await received(adapter)
        assert (await server.exchange()).headers["accept-encoding"] == "identity"


async def test_options_reach_the_stream_request() -> None:
    async with serving(text_stream(["x"])) as (server, adapter):
        options = ChatOptions(stop=("END",), seed=1)
        async for _ in adapter.stream_chat(MESSAGES, "gpt-4o", 0.5, 9, options=options):
            pass
        sent = (await server.exchange()).json()
    assert (sent["stop"], sent["seed"], sent["temperature"], sent["max_tokens"]) == (["END"], 1, 0.5, 9)


async def test_the_first_chunk_follows_the_headers_and_is_empty() -> None:
    text_may_come = asyncio.Event()
    async with (
        serving(stream(Wait(text_may_come), delta("x"), *ending())) as (_, adapter),
        aclosing(adapter.stream_chat(MESSAGES)) as chunks,
    ):
        assert await anext(chunks) == StreamChunk(content="")
        text_may_come.set()
        assert (await anext(chunks)).content == "x"


async def test_a_read_without_text_tells_that_the_provider_is_alive() -> None:
    text_may_come = asyncio.Event()
    async with (
        serving(stream(b": still busy\n\n", Wait(text_may_come), delta("x"), *ending())) as (_, adapter),
        aclosing(adapter.stream_chat(MESSAGES)) as chunks,
    ):
        assert await anext(chunks) == StreamChunk(content="")
        assert await anext(chunks) == StreamChunk(content="")
        text_may_come.set()
        assert (await anext(chunks)).content == "x"


async def test_what_comes_in_one_read_is_one_chunk_for_each_run_of_a_kind() -> None:
    pieces = [
        chunk({"reasoning_content": "let "}),
        chunk({"reasoning": "me see"}),
        delta("Hel"),
        delta("lo"),
        chunk({"reasoning": "wait"}),
        delta("!"),
        *ending(),
    ]
    async with serving(stream(b"".join(pieces))) as (_, adapter):
        chunks, _error = await received(adapter)
    assert [(piece.content, piece.reasoning) for piece in chunks] == [
        ("", None),
        ("", "let me see"),
        ("Hello", None),
        ("", "wait"),
        ("!", None),
    ]
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage is not None


async def test_both_names_of_reasoning_in_one_piece_count_once() -> None:
    async with serving(stream(chunk({"reasoning_content": "hm", "reasoning": "hm"}), *ending())) as (_, adapter):
        chunks, _error = await received(adapter)
    assert "".join(piece.reasoning or "" for piece in chunks) == "hm"


@pytest.mark.parametrize("text", ["Hi", "", None])
@pytest.mark.parametrize("name", ["text", "thinking", "thoughts", "reasoning_text", "reasoning_details"])
def test_text_under_another_name_is_read(name: str, text: str | None) -> None:
    chunks = ChatStreamDecoder().feed(said({"index": 0, "delta": {"content": "", name: text}}))

    assert "".join(chunk.content + (chunk.reasoning or "") for chunk in chunks) == (text or "")


@pytest.mark.parametrize("other", [{"text": "Hi"}, {"message": {"content": "Hi"}}, {"message": "Hi"}], ids=str)
def test_text_beside_an_empty_delta_is_read(other: dict[str, Any]) -> None:
    chunks = ChatStreamDecoder().feed(said({"index": 0, "delta": {}, **other}))

    assert [chunk.content for chunk in chunks] == ["Hi"]


@pytest.mark.parametrize("last", [DONE, DONE.rstrip()], ids=["a line end", "no line end"])
def test_text_in_parts_of_a_foreign_form_is_not_dropped_in_silence(last: bytes) -> None:
    decoder = ChatStreamDecoder()
    parts = [{"type": "text", "text": "and more"}]
    with structlog.testing.capture_logs() as lines:
        decoder.feed(said({"index": 0, "delta": {"content": "Hi"}}))
        decoder.feed(said({"index": 0, "delta": {"content": "", "blocks": parts}}))
        decoder.feed(last)
        decoder.finish()

    assert [(line["event"], line["kinds"]) for line in lines] == [("answer_parts_left_out", ["blocks"])]


@pytest.mark.parametrize("last", [DONE, DONE.rstrip()], ids=["a line end", "no line end"])
def test_arguments_of_a_call_without_a_name_do_not_break_text_that_ends_with_done(last: bytes) -> None:
    decoder = ChatStreamDecoder()
    decoder.feed(said({"index": 0, "delta": {"content": "Hi"}}))
    decoder.feed(said({"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}))
    decoder.feed(last)
    decoder.finish()

    assert (decoder.fault, decoder.finish_reason) == (None, "stop")


def test_an_error_beside_an_empty_delta_is_an_error() -> None:
    decoder = ChatStreamDecoder()
    decoder.feed(said({"index": 0, "delta": {}, "error": {"message": "the queue is full"}}))

    assert isinstance(decoder.fault, ErrorReported)


async def test_a_refusal_is_text() -> None:
    pieces = [chunk({"refusal": "I "}), chunk({"refusal": "can't", "content": None}), *ending()]
    async with serving(stream(*pieces)) as (_, adapter):
        chunks, _error = await received(adapter)
    assert text(chunks) == "I can't"


async def test_only_the_first_choice_counts() -> None:
    pieces = [delta("a"), chunk({"content": "b"}, index=1, finish_reason="length"), delta("c"), *ending()]
    async with serving(stream(*pieces)) as (_, adapter):
        chunks, _error = await received(adapter)
    assert text(chunks) == "ac"
    assert [piece.finish_reason for piece in chunks if piece.finish_reason] == ["stop"]


async def test_a_surrogate_pair_cut_by_the_provider_comes_in_halves() -> None:
    """Joining them is the session's: only there all chunks of a stream pass."""
    first = b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
    second = b'data: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n'
    second_may_come = asyncio.Event()
    async with serving(stream(first, Wait(second_may_come), second, *ending())) as (_, adapter):
        contents = []
        async for piece in adapter.stream_chat(MESSAGES):
            contents.append(piece.content)
            if piece.content == "\ud83d":
                second_may_come.set()
    assert "".join(contents) == "\ud83d\ude00"


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([delta("x"), finish(), DONE], id="no usage"),
        pytest.param([delta("x"), finish(), usage()], id="finish reason and no [DONE]"),
        pytest.param([delta("x"), DONE], id="[DONE] and no finish reason"),
        pytest.param([delta("x"), b"data: [DONE]"], id="[DONE] and no line end"),
        pytest.param([delta("x"), finish(), Abort()], id="reset after the finish reason"),
        pytest.param([delta("x"), finish(), DONE, b"data: garbage\n\n", delta("y")], id="something after [DONE]"),
        pytest.param([delta("x"), finish(), DONE, forever()], id="[DONE] and the body stays open"),
        pytest.param([b": ping\r\n\r\ndata:\r\n\r\n", delta("x"), *ending()], id="comments and empty events"),
        pytest.param([event({"choices": [], "prompt_filter_results": []}), delta("x"), *ending()], id="Azure"),
    ],
)
async def test_an_answer_with_an_end_marker_is_whole(steps: list[Step]) -> None:
    async with serving(stream(*steps)) as (_, adapter):
        chunks, error = await received(adapter)
    assert error is None
    assert text(chunks) == "x"


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([], id="at once"),
        pytest.param([delta("x")], id="after text"),
        pytest.param([delta("x"), b"data: [DO"], id="in the end marker"),
        pytest.param([delta("x"), b'data: {"choices'], id="in an event"),
        pytest.param([delta("x"), Abort()], id="by a reset"),
        pytest.param([delta("x"), chunk({}, finish_reason="error")], id="by its own word"),
    ],
)
async def test_an_answer_that_just_stops_is_truncated(steps: list[Step]) -> None:
    async with serving(stream(*steps)) as (_, adapter):
        chunks, error = await received(adapter)
    assert isinstance(error, UpstreamTruncated)
    assert error.retryable
    # A reset may overtake the text before it.
    assert text(chunks) in ("x", "")
    if Abort not in map(type, steps):
        assert text(chunks) == ("x" if steps else "")


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (Reply([b"<html>no</html>"], content_type="text/html; charset=utf-8"), "text/html"),
        (Reply([b"hello there"], content_type="text/plain"), "other than an event stream"),
        (Reply([b"{}"]), "application/json"),
        (Reply([b"{"]), "not JSON"),
        (stream(delta("x"), b"data: {nope\n\n"), "not JSON"),
        (stream(delta("x"), b"data: [1]\n\n"), "not an object"),
        (stream(delta("x"), b'data: "\xff"\n\n'), "not an object"),
        (stream(delta("x"), chunk({"content": 7})), "not text"),
    ],
)
async def test_what_is_no_chat_stream_says_to_check_the_address(reply: Reply, what: str) -> None:
    async with serving(reply) as (_, adapter):
        chunks, error = await received(adapter)
    assert isinstance(error, ProviderError)
    assert what in error.message
    assert "address" in (error.hint or "")
    # What came before is handed on first.
    assert text(chunks) == ("x" if reply.content_type == "text/event-stream" else "")


@pytest.mark.parametrize("wanted", ["", "x"], ids=["before the first token", "between tokens"])
async def test_closing_the_stream_closes_the_connection_at_once(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    responses: list[StreamedResponse] = []
    stream_chat = OpenAIClient.stream_chat

    async def keeping(self: OpenAIClient, body: dict[str, Any], *, principal: str) -> StreamedResponse:
        # Held, so that it is not the garbage collector that closes it.
        responses.append(await stream_chat(self, body, principal=principal))
        return responses[-1]

    monkeypatch.setattr(OpenAIClient, "stream_chat", keeping)
    async with serving(stream(delta("x"), forever(), headers={"connection": "keep-alive"})) as (server, adapter):
        async with aclosing(adapter.stream_chat(MESSAGES)) as chunks:
            async for piece in chunks:
                if piece.content == wanted:
                    break
        assert responses
        # Not returned to the pool half-read either: the server sees it closed.
        async with asyncio.timeout(5):
            await (await server.exchange()).client_left.wait()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(before_headers=[forever()]), id="before the headers"),
        pytest.param(Reply([b'{"error":', forever()], status=500), id="in an error's body"),
        pytest.param(Reply([b'{"error":', forever()]), id="in a JSON body"),
        pytest.param(stream(forever()), id="before the first token"),
        pytest.param(stream(b"data: {", forever()), id="in an event"),
        pytest.param(stream(delta("x"), forever()), id="between tokens"),
        pytest.param(stream(delta("x"), finish(), forever()), id="before the end marker"),
    ],
)
async def test_cancelling_the_reader_closes_the_connection(reply: Reply) -> None:
    async with serving(reply) as (server, adapter):
        seen: list[StreamChunk] = []

        async def read() -> None:
            async for piece in adapter.stream_chat(MESSAGES):
                seen.append(piece)  # noqa: PERF401 - what came before the cancel is looked at

        reader = asyncio.create_task(read())
        exchange = await server.exchange()
        expected = reply.content_type == "text/event-stream" and any(b"x" in s for s in reply.steps if type(s) is bytes)
        await until(lambda: not expected or any(piece.content for piece in seen))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not exchange.client_left.is_set()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        async with asyncio.timeout(5):
            await exchange.client_left.wait()


@pytest.mark.parametrize("is_pushed", [False, True], ids=["pulled", "pushed"])
@pytest.mark.parametrize(
    "told",
    [
        pytest.param(event({"error": {"message": "the queue is full"}}), id="OpenAI's"),
        pytest.param(b'error: {"message": "the queue is full"}\n\n', id="llama.cpp's"),
        pytest.param(
            event({"choices": [{"index": 0, "delta": {}}], "x_groq": {"error": "the queue is full"}}), id="Groq's"
        ),
    ],
)
async def test_an_error_in_the_stream_closes_a_connection_that_the_provider_leaves_open(
    told: bytes, is_pushed: bool
) -> None:
    pushed: list[object] = []
    options = ChatOptions(on_chunk=pushed.append) if is_pushed else ChatOptions()
    async with asyncio.timeout(20), serving(stream(delta("x"), told, forever())) as (server, adapter):
        with pytest.raises(ProviderError, match="the queue is full"):
            async for _ in adapter.stream_chat(MESSAGES, options=options):
                pass
        await (await server.exchange()).client_left.wait()
    assert bool(pushed) is is_pushed


async def test_cancelling_a_whole_answer_closes_the_connection() -> None:
    for reply in (Reply(before_headers=[forever()]), Reply([b"{", forever()])):
        async with serving(reply) as (server, adapter):
            asking = asyncio.create_task(adapter.chat(MESSAGES))
            exchange = await server.exchange()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            async with asyncio.timeout(5):
                await exchange.client_left.wait()


async def test_a_cancel_after_any_number_of_loop_steps_leaves_no_connection() -> None:
    """From before the connection is made to the end of the answer, wherever the steps happen to fall."""
    async with asyncio.timeout(60), scripted_server() as server, adapter_for(server) as adapter:
        server.responder = lambda _: text_stream(["x"] * 5)
        await adapter.prepare()

        async def read() -> None:
            async for _ in adapter.stream_chat(MESSAGES):
                pass

        for steps in range(60):
            reader = asyncio.create_task(read())
            for _ in range(steps):
                await asyncio.sleep(0)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await until(lambda: server.open_connections == 0)
        assert 0 < len(server.exchanges) < 60


async def test_a_connection_read_to_its_end_is_used_again() -> None:
    connections = 0
    answer_was_seen = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
                body = b"".join([delta("x"), *ending()])
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                    b"%x\r\n%b\r\n" % (len(body), body)
                )
                # The body's end comes a moment after [DONE].
                await answer_was_seen.wait()
                answer_was_seen.clear()
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    async with (
        asyncio.timeout(30),
        listening,
        scripted_server() as unused,
        adapter_for(unused, base_url=url) as adapter,
    ):
        for _ in range(3):
            async for piece in adapter.stream_chat(MESSAGES):
                if piece.usage:
                    answer_was_seen.set()
    assert connections == 1


async def test_as_many_streams_run_at_once_as_the_concurrency_says() -> None:
    all_here = asyncio.Event()
    async with asyncio.timeout(30), scripted_server() as server, adapter_for(server, concurrency=150) as adapter:

        def respond(_: object) -> Reply:
            if len(server.exchanges) == 150:
                all_here.set()
            return stream(Wait(all_here), delta("x"), *ending())

        server.responder = respond
        answers = await asyncio.gather(*(received(adapter) for _ in range(150)))
    assert [text(chunks) for chunks, _ in answers] == ["x"] * 150
