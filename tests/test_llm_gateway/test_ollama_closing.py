"""Leaving Ollama at every moment of an answer, and what is told while it loads a model."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

import pytest

from archer_ws.llm_gateway import ollama_adapter
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.ollama.models import loaded_models
from archer_ws.llm_gateway.ollama_adapter import OllamaAdapter
from archer_ws.llm_gateway.transport.response import StreamedResponse
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole, ProgressPhase, StreamChunk
from tests.fakes.ollama_api import Answer, adapter_at, ollama_ps, ollama_server, ollama_stream
from tests.fakes.scripted_server import Abort, Exchange, Reply, ScriptedServer, Wait, forever, scripted_server

MESSAGES = [ChatMessage(role=MessageRole.USER, content="Hi")]
#: A cancelled request must be gone within milliseconds; this is for a busy machine.
AT_ONCE_S = 1.0


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as running:
        yield running


@pytest.fixture
async def adapter(server: ScriptedServer) -> AsyncIterator[OllamaAdapter]:
    timeouts = Timeouts(loading_after_s=0)
    made = OllamaAdapter(host=server.url, default_model="llama3.2", timeouts=timeouts, concurrency=2)
    yield made
    await made.aclose()


class Listener:
    """Reads a stream in a task of its own; `text_came` is set with the first text."""

    def __init__(self, adapter: OllamaAdapter, options: ChatOptions | None = None) -> None:
        self.answered, self.text_came = asyncio.Event(), asyncio.Event()
        self.text = ""
        self.task = asyncio.create_task(self._listen(adapter, options))

    async def _listen(self, adapter: OllamaAdapter, options: ChatOptions | None) -> None:
        async for chunk in adapter.stream_chat(MESSAGES, options=options):
            self.answered.set()
            self.text += chunk.content
            if self.text:
                self.text_came.set()

    async def cancel(self) -> None:
        self.task.cancel()
        async with asyncio.timeout(AT_ONCE_S):
            await asyncio.wait({self.task})
        assert self.task.cancelled()


async def has_left(exchange: Exchange) -> bool:
    async with asyncio.timeout(AT_ONCE_S):
        return await exchange.client_left.wait()


async def test_cancel_before_headers_closes_upstream(server: ScriptedServer, adapter: OllamaAdapter) -> None:
    server.enqueue(ollama_stream("Hi", before_headers=[forever()]))
    listener = Listener(adapter)
    exchange = await server.exchange()
    await listener.cancel()
    assert await has_left(exchange)


async def test_cancel_before_first_token_closes_upstream(server: ScriptedServer, adapter: OllamaAdapter) -> None:
    server.enqueue(ollama_stream(forever()))
    listener = Listener(adapter)
    exchange = await server.exchange()
    async with asyncio.timeout(5):
        await listener.answered.wait()
    await listener.cancel()
    assert await has_left(exchange)


async def test_cancel_between_tokens_closes_upstream(server: ScriptedServer, adapter: OllamaAdapter) -> None:
    server.enqueue(ollama_stream("Hi", forever()))
    listener = Listener(adapter)
    exchange = await server.exchange()
    async with asyncio.timeout(5):
        await listener.text_came.wait()
    await listener.cancel()
    assert await has_left(exchange)


async def test_cancel_of_a_whole_answer_closes_upstream(server: ScriptedServer, adapter: OllamaAdapter) -> None:
    server.enqueue(Reply(before_headers=[forever()]))
    task = asyncio.create_task(adapter.chat(MESSAGES))
    exchange = await server.exchange()
    task.cancel()
    assert await has_left(exchange)
    await asyncio.wait({task})
    assert task.cancelled()


@pytest.mark.parametrize("chunks_read", [1, 2], ids=["before first token", "between tokens"])
async def test_closing_the_stream_closes_upstream(
    server: ScriptedServer, adapter: OllamaAdapter, chunks_read: int
) -> None:
    server.enqueue(ollama_stream("Hi", forever()) if chunks_read == 2 else ollama_stream(forever()))
    stream = cast(AsyncGenerator[StreamChunk, None], adapter.stream_chat(MESSAGES))
    async with asyncio.timeout(5):
        for _ in range(chunks_read):
            await anext(stream)
        await stream.aclose()
    assert await has_left(await server.exchange())


async def test_closing_at_the_last_chunk_closes_upstream(server: ScriptedServer, adapter: OllamaAdapter) -> None:
    server.enqueue(Reply([*ollama_stream("Hi").steps, forever()]))
    stream = cast(AsyncGenerator[StreamChunk, None], adapter.stream_chat(MESSAGES))
    async with asyncio.timeout(5):
        while (await anext(stream)).finish_reason is None:
            pass
        await stream.aclose()
    assert await has_left(await server.exchange())


async def test_a_body_that_does_not_end_behind_the_last_line_is_closed(
    server: ScriptedServer, adapter: OllamaAdapter
) -> None:
    server.enqueue(Reply([*ollama_stream("Hi").steps, forever()]))
    listener = Listener(adapter)
    async with asyncio.timeout(5):
        await listener.task
    assert listener.text == "Hi"
    assert await has_left(await server.exchange())


async def test_cancel_behind_the_last_line_closes_upstream(
    server: ScriptedServer, adapter: OllamaAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_draining = asyncio.Event()

    async def drain(response: StreamedResponse) -> None:
        is_draining.set()
        await response.read_some()

    monkeypatch.setattr(ollama_adapter, "drain", drain)
    server.enqueue(Reply([*ollama_stream("Hi").steps, forever()]))
    listener = Listener(adapter)
    async with asyncio.timeout(5):
        await is_draining.wait()
    await listener.cancel()
    assert await has_left(await server.exchange())


class Load:
    """A server whose model loads until `finish` is set, and what is told of it meanwhile."""

    def __init__(self, server: ScriptedServer, ps: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.finish, self.reported, self.list_was_read = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.told: list[tuple[ProgressPhase, str | None]] = []
        self.options = ChatOptions(on_progress=self._tell)
        self._server = server
        chat = ollama_stream("Hi", before_headers=[Wait(self.finish)])
        server.responder = ollama_server({"/api/chat": chat, "/api/ps": ps})
        read_list = loaded_models

        def reading(reply: object) -> set[str]:
            # What follows the reading runs in the same step of the loop as this.
            self.list_was_read.set()
            return read_list(reply)

        monkeypatch.setattr(ollama_adapter, "loaded_models", reading)

    def _tell(self, phase: ProgressPhase, detail: str | None) -> None:
        self.told.append((phase, detail))
        self.reported.set()

    async def exchange(self, path: str) -> Exchange:
        """The request for that path, once it is there; two are made, in any order."""
        for number in range(2):
            found = await self._server.exchange(number)
            if found.path == path:
                return found
        raise AssertionError(f"nobody asked for {path}")


async def test_a_model_being_loaded_is_told_once(
    server: ScriptedServer, adapter: OllamaAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(server, ollama_ps("other:7b"), monkeypatch)
    listener = Listener(adapter, load.options)
    async with asyncio.timeout(5):
        await load.reported.wait()
        assert not listener.answered.is_set()
        load.finish.set()
        await listener.task
    assert listener.text == "Hi"
    assert load.told == [("loading", "llama3.2 is being loaded")]
    assert sorted(exchange.path for exchange in server.exchanges) == ["/api/chat", "/api/ps"]


async def test_a_whole_answer_tells_of_loading_too(
    server: ScriptedServer, adapter: OllamaAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(server, ollama_ps(), monkeypatch)
    task = asyncio.create_task(adapter.chat(MESSAGES, options=load.options))
    async with asyncio.timeout(5):
        await load.reported.wait()
    task.cancel()
    assert await has_left(await load.exchange("/api/chat"))


async def test_a_loaded_model_that_thinks_long_is_not_told_as_loading(
    server: ScriptedServer, adapter: OllamaAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(server, ollama_ps("Llama3.2:latest"), monkeypatch)
    listener = Listener(adapter, load.options)
    async with asyncio.timeout(5):
        await load.list_was_read.wait()
        load.finish.set()
        await listener.task
    assert load.told == []


async def test_a_model_in_the_cloud_is_not_asked_about(
    server: ScriptedServer, adapter: OllamaAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(server, ollama_ps(), monkeypatch)
    load.finish.set()
    async with asyncio.timeout(5):
        async for _ in adapter.stream_chat(MESSAGES, "gpt-oss:120b-cloud", options=load.options):
            pass
    assert [exchange.path for exchange in server.exchanges] == ["/api/chat"]


async def test_an_answer_in_time_asks_nothing(server: ScriptedServer) -> None:
    server.enqueue(ollama_stream("Hi"))
    async with adapter_at(server.url, loading_after_s=3600) as adapter:
        listener = Listener(adapter, ChatOptions(on_progress=lambda _phase, _detail: None))
        async with asyncio.timeout(5):
            await listener.task
    assert [exchange.path for exchange in server.exchanges] == ["/api/chat"]


@pytest.mark.parametrize(
    "ps",
    [
        Reply.of_json({"error": "broken"}, 500),
        Reply([b"<html>"]),
        Reply(before_headers=[Abort()]),
        Reply.of_json({"models": "none"}),
    ],
)
async def test_a_question_about_loading_that_fails_harms_nothing(
    server: ScriptedServer, adapter: OllamaAdapter, monkeypatch: pytest.MonkeyPatch, ps: Reply
) -> None:
    load = Load(server, ps, monkeypatch)
    listener = Listener(adapter, load.options)
    await load.exchange("/api/ps")
    async with asyncio.timeout(5):
        for question in [task for task in asyncio.all_tasks() if "_watch_load" in repr(task)]:
            await asyncio.wait({question})
        load.finish.set()
        await listener.task
    assert listener.text == "Hi"


async def test_a_question_without_answer_ends_when_the_answer_begins(
    server: ScriptedServer, adapter: OllamaAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(server, Reply(before_headers=[forever()]), monkeypatch)
    listener = Listener(adapter, load.options)
    question = await load.exchange("/api/ps")
    load.finish.set()
    async with asyncio.timeout(5):
        await listener.task
    assert listener.text == "Hi"
    assert await has_left(question)
    assert load.told == []


async def test_cancel_while_loading_closes_the_question_too(
    server: ScriptedServer, adapter: OllamaAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(server, Reply(before_headers=[forever()]), monkeypatch)
    listener = Listener(adapter, load.options)
    # Both are there: a cancel before the one would leave nothing of it to close.
    question, chat = await load.exchange("/api/ps"), await load.exchange("/api/chat")
    await listener.cancel()
    assert not [task for task in asyncio.all_tasks() if "OllamaAdapter" in repr(task)]
    assert await has_left(chat)
    assert await has_left(question)
