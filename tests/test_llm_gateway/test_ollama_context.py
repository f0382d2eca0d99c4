"""A conversation and the context that Ollama really runs its model with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.config import Settings
from archer_ws.core.exceptions import ContextTooLong, ModelNotFound, ProviderTimeout
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.streams.events import StreamEnded, StreamProgress
from archer_ws.sessions.streams.gates import ProviderGate, StreamQuota
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.stream import Stream
from tests.fakes.ollama_api import (
    Answer,
    adapter_at,
    ollama_error,
    ollama_ps,
    ollama_server,
    ollama_show,
    ollama_stream,
)
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer, forever, scripted_server

TOO_LONG = "the input length exceeds the context length"
#: About 100 tokens each.
SAID = ["x" * 400] * 100


def user(*contents: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=content) for content in contents]


def in_turns(*contents: str) -> list[ChatMessage]:
    """Questions and answers, turn by turn: what is sent is no shorter than what was said."""
    roles = (MessageRole.USER, MessageRole.ASSISTANT)
    return [ChatMessage(role=roles[number % 2], content=content) for number, content in enumerate(contents)]


def sent(exchange: Exchange) -> list[str]:
    return [message["content"] for message in exchange.json()["messages"]]


def chats(server: ScriptedServer) -> list[Exchange]:
    return [exchange for exchange in server.exchanges if exchange.path == "/api/chat"]


@asynccontextmanager
async def conversation(answers: dict[str, Answer], **settings: object) -> AsyncIterator[tuple[ScriptedServer, object]]:
    """A server that answers so, and a function that asks in a session of a hundred messages."""
    async with scripted_server(responder=ollama_server(answers)) as server:
        router = LLMRouter(Settings(_env_file=None, ollama_host=server.url, **settings))  # type: ignore[arg-type]
        store = MemoryStore()
        manager = SessionManager(
            new_log=MemoryLog,
            judge=FormatJudge(),
            gateway=router,
            orchestrator=Orchestrator(router),
            store=store,
            quota=StreamQuota(max_streams=10, max_per_principal=10),
            gates={"ollama": ProviderGate("ollama", concurrency=10, queue=10)},
        )
        await store.create("me", "s", None, None)
        await store.begin_turn("me", "s", in_turns(*SAID), stream_id="str_0")

        async def ask(max_tokens: int = 100) -> Stream:
            request = ChatRequest(messages=user("q"), session_id="s", max_tokens=max_tokens)
            held = await manager.start("me", request, request_id="r", on_disconnect="cancel")
            await held.stream.wait_ended()
            return held.stream

        yield server, ask
        await manager.aclose()
        await router.aclose()


def end_of(stream: Stream) -> StreamEnded:
    assert stream.log.ended is not None
    return stream.log.ended


async def test_a_history_is_cut_to_the_context_that_runs_and_not_to_the_one_that_was_trained() -> None:
    answers: dict[str, Answer] = {
        "/api/show": ollama_show(131_072),
        "/api/ps": ollama_ps("llama3.2:latest", context_length=4096),
        "/api/chat": ollama_stream("fine"),
    }
    async with conversation(answers) as (server, ask):
        end = end_of(await ask())  # type: ignore[operator]

        (chat,) = chats(server)
        assert 35 < len(sent(chat)) < 41
        assert end.history_dropped == 101 - len(sent(chat))
        assert chat.json()["truncate"] is False
        assert chat.json()["shift"] is False
        assert "num_ctx" not in chat.json()["options"]


async def test_what_did_not_fit_is_cut_once_more_and_asked_once_more() -> None:
    loaded = False

    def chat(exchange: Exchange) -> Reply:
        nonlocal loaded
        loaded = True
        return ollama_error(TOO_LONG, 400) if len(sent(exchange)) > 40 else ollama_stream("fine")

    answers: dict[str, Answer] = {
        "/api/show": ollama_show(131_072),
        # Only a loaded model is listed, with what it runs with.
        "/api/ps": lambda _: ollama_ps("llama3.2", context_length=4096) if loaded else ollama_ps(),
        "/api/chat": chat,
    }
    async with conversation(answers) as (server, ask):
        stream = await ask()  # type: ignore[operator]

        end = end_of(stream)
        assert (end.status, stream.log.text("content")) == ("completed", "fine")
        first, second = chats(server)
        assert len(sent(first)) == 101
        assert 35 < len(sent(second)) < 41
        assert sent(second)[-1] == "q"
        assert end.history_dropped == 101 - len(sent(second))
        told = stream.log.read(0)
        assert isinstance(told, StreamProgress)
        assert told.phase == "retrying"


async def test_what_is_still_too_long_is_halved_until_it_fits() -> None:
    """The window may be unknown to the server, too, and a token may be a byte or two."""

    def chat(exchange: Exchange) -> Reply:
        return ollama_error(TOO_LONG, 400) if len(sent(exchange)) > 15 else ollama_stream("fine")

    answers: dict[str, Answer] = {"/api/show": ollama_show(131_072), "/api/chat": chat}
    async with conversation(answers) as (server, ask):
        stream = await ask()  # type: ignore[operator]

        end = end_of(stream)
        assert (end.status, stream.log.text("content")) == ("completed", "fine")
        assert [len(sent(chat)) for chat in chats(server)] == [101, 49, 23, 11]
        assert sent(chats(server)[-1])[-1] == "q"
        assert end.history_dropped == 90


async def test_a_prompt_that_does_not_fit_by_any_means_is_told_when_no_history_is_left() -> None:
    answers: dict[str, Answer] = {"/api/show": ollama_show(131_072), "/api/chat": ollama_error(TOO_LONG, 400)}
    async with conversation(answers) as (server, ask):
        end = end_of(await ask())  # type: ignore[operator]

        assert (end.status, end.error and end.error.kind) == ("failed", "context_too_long")
        assert end.error is not None
        assert "OLLAMA_CONTEXT_LENGTH" in (end.error.hint or "")
        assert [len(sent(chat)) for chat in chats(server)] == [101, 49, 23, 11, 5, 1]


async def test_without_a_session_a_prompt_that_is_too_long_is_an_error_and_never_cut() -> None:
    async with scripted_server(ollama_error(TOO_LONG, 400)) as server, adapter_at(server.url) as adapter:
        with pytest.raises(ContextTooLong):
            await anext(adapter.stream_chat(user(*SAID)))


@pytest.mark.parametrize(
    ("ps", "parameters", "window"),
    [
        (ollama_ps("llama3.2", context_length=4096), None, 4096),
        (ollama_ps("Llama3.2:latest", context_length=200_000), None, 131_072),
        (ollama_ps("llama3.2", context_length=4096), "num_ctx 2048", 2048),
        (ollama_ps("other", context_length=4096), None, 131_072),
        (ollama_ps("llama3.2"), None, 131_072),
        (ollama_ps(), "num_ctx 8192", 8192),
        (ollama_error("no"), None, 131_072),
        (Reply.of_json({"models": [{"name": "llama3.2", "context_length": "many"}]}), None, 131_072),
    ],
)
async def test_the_window_is_what_runs_else_what_the_model_is_made_for(
    ps: Reply, parameters: str | None, window: int
) -> None:
    answers: dict[str, Answer] = {"/api/show": ollama_show(131_072, parameters=parameters), "/api/ps": ps}
    async with scripted_server(responder=ollama_server(answers)) as server, adapter_at(server.url) as adapter:
        assert await adapter.context_window("llama3.2") == window


@pytest.mark.parametrize("message", ["model is required", "invalid model name"])
async def test_a_name_that_is_none_is_the_callers_fault_and_about_the_model(message: str) -> None:
    async with scripted_server(ollama_error(message, 400)) as server, adapter_at(server.url) as adapter:
        with pytest.raises(ModelNotFound, match=r"model: 'a b/c:d:e'") as refused:
            await anext(adapter.stream_chat(user("q"), "a b/c:d:e"))
    assert refused.value.http_status == 404
    assert refused.value.hint


async def test_a_model_that_does_not_begin_in_time_is_not_asked_again() -> None:
    answers: dict[str, Answer] = {"/api/chat": Reply(before_headers=[forever()])}
    async with scripted_server(responder=ollama_server(answers)) as server:
        router = LLMRouter(
            Settings(_env_file=None, ollama_host=server.url, first_token_timeout_s=1, model_load_timeout_s=1)
        )
        with pytest.raises(ProviderTimeout):
            async for _ in router.stream_chat(ChatRequest(messages=user("q"))):
                pass
        assert len(chats(server)) == 1
        await router.aclose()
