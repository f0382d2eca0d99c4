"""What the Ollama adapter asks for, and what it makes of answers, streams and lists."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import respx

from archer_ws.core.exceptions import ArcherError, ProviderTimeout, UpstreamTruncated
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.ollama.client import is_near
from archer_ws.llm_gateway.ollama_adapter import OllamaAdapter
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole, StreamChunk, TokenUsage
from tests.fakes.ollama_api import (
    adapter_at,
    ollama_answer,
    ollama_end,
    ollama_line,
    ollama_server,
    ollama_stream,
    ollama_tags,
)
from tests.fakes.scripted_server import Exchange, Reply, Wait, forever, scripted_server

HOST = "http://ollama.test:11434"
MESSAGES = [
    ChatMessage(role=MessageRole.SYSTEM, content="Be brief."),
    ChatMessage(role=MessageRole.USER, content="Hi 😀", name="Ada"),
]


async def collected(adapter: OllamaAdapter, **extra: Any) -> list[StreamChunk]:
    async with asyncio.timeout(10):
        return [chunk async for chunk in adapter.stream_chat(MESSAGES, **extra)]


@respx.mock
async def test_a_request_has_the_options_in_ollamas_words_and_no_names() -> None:
    route = respx.post(f"{HOST}/api/chat").respond(json={"message": {"content": "Hello"}, "done": True})
    async with adapter_at(HOST) as adapter:
        await adapter.chat(
            MESSAGES, "qwen3", 0.0, 64, options=ChatOptions(stop=("END",), top_p=0.9, seed=0, on_progress=None)
        )
    assert Exchange("POST", "", {}, route.calls.last.request.content).json() == {
        "model": "qwen3",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi 😀"}],
        "stream": False,
        "truncate": False,
        "shift": False,
        "options": {"temperature": 0.0, "num_predict": 64, "top_p": 0.9, "seed": 0, "stop": ["END"]},
    }


@respx.mock
async def test_what_a_request_does_not_say_is_left_to_ollama() -> None:
    route = respx.post(f"{HOST}/api/chat").respond(json={"message": {"content": "Hello"}, "done": True})
    async with adapter_at(HOST) as adapter:
        answer = await adapter.chat(MESSAGES)
    sent = Exchange("POST", "", {}, route.calls.last.request.content).json()
    assert sent["model"] == answer.model == "llama3.2"
    assert sent["options"] == {}


async def test_a_whole_answer_has_text_reasoning_reason_and_usage() -> None:
    async with (
        scripted_server(ollama_answer("42", thinking="6 x 7", done_reason="length", completion_tokens=0)) as server,
        adapter_at(server.url) as adapter,
    ):
        answer = await adapter.chat(MESSAGES)
    assert (answer.content, answer.reasoning, answer.finish_reason) == ("42", "6 x 7", "length")
    assert (answer.provider, answer.model) == ("ollama", "llama3.2")
    assert answer.usage == TokenUsage(prompt_tokens=11, completion_tokens=0, total_tokens=11)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"error": "the runner crashed"}, "provider_error"),
        ({"message": {"content": "Hal"}, "done": False}, "upstream_truncated"),
        ({"status": "ok"}, "provider_error"),
        ([], "provider_error"),
    ],
)
async def test_an_answer_that_is_none_fails(value: object, kind: str) -> None:
    async with scripted_server(Reply.of_json(value)) as server, adapter_at(server.url) as adapter:
        with pytest.raises(ArcherError) as caught:
            await adapter.chat(MESSAGES)
    assert caught.value.kind == kind


async def test_a_chat_takes_no_longer_than_its_time() -> None:
    async with (
        scripted_server(ollama_stream("Hi", before_headers=[forever()])) as server,
        adapter_at(server.url, total_s=1) as adapter,
    ):
        await adapter.prepare()
        with pytest.raises(ProviderTimeout):
            await adapter.chat(MESSAGES)
        async with asyncio.timeout(20):
            await (await server.exchange()).client_left.wait()


async def test_a_stream_begins_with_an_empty_chunk_when_the_headers_are_there() -> None:
    first_token = asyncio.Event()
    async with (
        scripted_server(ollama_stream(Wait(first_token), "Hi", " there")) as server,
        adapter_at(server.url) as adapter,
    ):
        stream = adapter.stream_chat(MESSAGES)
        async with asyncio.timeout(5):
            assert await anext(stream) == StreamChunk(content="")
        first_token.set()
        chunks = [chunk async for chunk in stream]
        exchange = await server.exchange()
    assert exchange.json()["stream"] is True
    assert exchange.headers["accept-encoding"] == "identity"
    assert "".join(chunk.content for chunk in chunks) == "Hi there"
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage == TokenUsage(prompt_tokens=11, completion_tokens=2, total_tokens=13)


async def test_reasoning_comes_as_reasoning() -> None:
    reply = ollama_stream(ollama_line(thinking="6 x 7"), "42")
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        chunks = await collected(adapter)
    assert "".join(chunk.reasoning or "" for chunk in chunks) == "6 x 7"
    assert "".join(chunk.content for chunk in chunks) == "42"


async def test_a_last_line_without_an_end_counts() -> None:
    reply = ollama_stream("Hi", ollama_end().removesuffix(b"\n"), end=False)
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        assert (await collected(adapter))[-1].finish_reason == "stop"


async def test_a_stream_without_the_end_marker_is_truncated_and_keeps_its_text() -> None:
    chunks = []
    async with scripted_server(ollama_stream("Hi", end=False)) as server, adapter_at(server.url) as adapter:
        with pytest.raises(UpstreamTruncated):  # noqa: PT012 - what came before the end is tested too
            async for chunk in adapter.stream_chat(MESSAGES):
                chunks.append(chunk.content)  # noqa: PERF401 - likewise
    assert "".join(chunks) == "Hi"


async def test_a_body_held_open_after_the_end_marker_holds_up_nothing() -> None:
    async with (
        scripted_server(ollama_stream("Hi", ollama_end(), forever(), end=False)) as server,
        adapter_at(server.url) as adapter,
    ):
        async with asyncio.timeout(5):
            chunks = await collected(adapter)
            await (await server.exchange()).client_left.wait()
    assert chunks[-1].finish_reason == "stop"


async def test_a_finished_stream_leaves_its_connection_to_the_next() -> None:
    connections = 0
    closed = asyncio.Event()
    body = ollama_line("Hi") + ollama_end()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readline():
            length = 0
            while (line := await reader.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            await reader.readexactly(length)
            writer.write(head + b"%x\r\n%b\r\n" % (len(body), body))
            await writer.drain()
            writer.write(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        async with adapter_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as adapter:
            for _ in range(3):
                await collected(adapter)
        await closed.wait()
    assert connections == 1


async def test_a_host_may_have_a_path() -> None:
    async with scripted_server(ollama_tags("a:b")) as server, adapter_at(f"{server.url}/ollama/") as adapter:
        assert (await adapter.health_check()).available
        assert (await server.exchange()).path == "/ollama/api/tags"


@respx.mock
async def test_a_password_in_the_host_is_sent_but_never_shown() -> None:
    route = respx.get("https://ada:secret@ollama.test/api/tags").respond(401)
    async with adapter_at("https://ada:secret@ollama.test") as adapter:
        status = await adapter.health_check()
    assert route.calls.last.request.headers["authorization"].startswith("Basic ")
    respx.get("https://ada:secret@ollama.test/api/tags").mock(side_effect=httpx.ConnectError("refused"))
    async with adapter_at("https://ada:secret@ollama.test") as adapter:
        refused = await adapter.health_check()
    assert "https://ollama.test" in (refused.error or "")
    assert "secret" not in f"{status} {refused}"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("http://localhost:11434", True),
        ("http://127.0.0.1:11434", True),
        ("http://[::1]:11434", True),
        ("http://192.168.1.7:11434", True),
        ("http://ollama:11434", True),
        ("http://host.docker.internal:11434", True),
        ("http://gpu.local", True),
        ("https://ollama.example.com", False),
        ("http://8.8.8.8:11434", False),
    ],
)
def test_a_server_nearby_is_known_by_its_name(host: str, expected: bool) -> None:
    assert is_near(host) is expected


async def test_a_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with scripted_server(ollama_tags("a:b")) as server, adapter_at(server.url) as adapter:
        assert (await adapter.health_check()).available


def test_one_adapter_serves_one_event_loop_after_another() -> None:
    with running_server({"/api/chat": ollama_answer("Hello")}) as url:
        adapter = OllamaAdapter(host=url, default_model="llama3.2", timeouts=Timeouts(), concurrency=1)
        assert [asyncio.run(adapter.chat(MESSAGES)).content for _ in range(2)] == ["Hello", "Hello"]


@contextmanager
def running_server(answers: dict[str, Reply]) -> Iterator[str]:
    """A scripted server in a thread of its own; yields its address."""
    started, stop = threading.Event(), asyncio.Event()
    place: list[Any] = []

    async def serve() -> None:
        async with scripted_server(responder=ollama_server(answers)) as server:
            place.extend([server.url, asyncio.get_running_loop()])
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(10)
        yield place[0]
    finally:
        place[1].call_soon_threadsafe(stop.set)
        thread.join(10)


def test_the_adapter_loads_httpx_late() -> None:
    # In a process of its own: other tests have imported it into this one.
    code = "import sys, archer_ws.llm_gateway.ollama_adapter; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
