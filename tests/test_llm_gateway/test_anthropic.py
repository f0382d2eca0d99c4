"""The adapter against a server that plays Anthropic: what it sends, what it makes of answers, its client."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from archer_ws.core.exceptions import InvalidParams, ProviderNotConfigured, ProviderTimeout
from archer_ws.llm_gateway.anthropic_adapter import AnthropicAdapter
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import load_catalog
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole, StreamChunk
from tests.fakes import anthropic_api as api
from tests.fakes.anthropic_api import adapter_at
from tests.fakes.scripted_server import Reply, Wait, forever, scripted_server

HELLO = [ChatMessage(role=MessageRole.USER, content="Hello")]


async def collect(chunks: AsyncIterator[StreamChunk]) -> list[StreamChunk]:
    return [chunk async for chunk in chunks]


async def test_chat_sends_the_conversation_with_the_system_prompt_apart() -> None:
    messages = [
        ChatMessage(role=MessageRole.SYSTEM, content="Be brief."),
        ChatMessage(role=MessageRole.USER, content="Hello", name="ann"),
        ChatMessage(role=MessageRole.SYSTEM, content="Be kind."),
    ]
    async with scripted_server(api.answer("Hi")) as server, adapter_at(server.url) as adapter:
        await adapter.chat(messages, "claude-sonnet-4-5", 0.5, 100, options=ChatOptions(stop=("END",)))

    sent = server.exchanges[0]
    assert (sent.method, sent.path) == ("POST", "/v1/messages")
    assert sent.json() == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "system": "Be brief.\n\nBe kind.",
        "messages": [{"role": "user", "content": "Hello"}],
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "stream": True,
    }


async def test_neither_the_sdks_environment_nor_a_proxy_has_a_say_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-environment")
    for name in ("ANTHROPIC_BASE_URL", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-from-environment: yes\nauthorization: Bearer environment")
    async with scripted_server(api.answer("Hi"), api.answer("Hi")) as server:
        for key, credential in (("sk-ours\n", "Bearer sk-ours"), (None, "Bearer none")):
            async with adapter_at(server.url, api_key=key) as adapter:
                await adapter.chat(HELLO)
            headers = server.exchanges[-1].headers
            assert headers["authorization"] == credential
            assert "environment" not in str(headers)


@pytest.mark.parametrize("key", [None, "", " ", "sk-\N{HORIZONTAL ELLIPSIS}", "sk\nx"])
async def test_without_a_usable_key_the_hint_names_the_variable(key: str | None) -> None:
    async with adapter_at(None, api_key=key) as adapter:
        for call in (
            adapter.chat(HELLO),
            collect(adapter.stream_chat(HELLO)),
            adapter.list_models(),
            adapter.prepare(),
        ):
            with pytest.raises(ProviderNotConfigured) as caught:
                await call
            assert "ARCHER_ANTHROPIC_API_KEY" in str(caught.value.hint)
        status = await adapter.health_check()

    assert (status.available, status.configured) == (False, False)
    assert "ARCHER_ANTHROPIC_API_KEY" in str(status.hint)


async def test_a_base_url_may_end_in_the_version_as_openais_do() -> None:
    async with scripted_server(api.answer("Hi")) as server, adapter_at(f"{server.url}/v1/") as adapter:
        await adapter.chat(HELLO)

    assert server.exchanges[0].path == "/v1/messages"


async def test_an_answer_that_may_grow_long_is_not_refused_without_streaming() -> None:
    async with scripted_server(api.answer("Hi")) as server, adapter_at(server.url) as adapter:
        response = await adapter.chat(HELLO, "claude-opus-4-8", None, 128_000)

    assert response.content == "Hi"
    assert server.exchanges[0].json()["max_tokens"] == 128_000


async def test_sampling_goes_with_the_api_version_that_takes_it() -> None:
    async with scripted_server(api.answer("Hi")) as server, adapter_at(server.url) as adapter:
        # A model that its SDK calls deprecated: that is no warning of ours, and pytest would fail on it.
        await adapter.chat(HELLO, "claude-3-opus-20240229", 1.5, options=ChatOptions(top_p=0.5))

    sent = server.exchanges[0]
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert (sent.json()["temperature"], sent.json()["top_p"]) == (1.0, 0.5)


async def test_what_a_newer_model_refuses_is_dropped_with_a_warning() -> None:
    async with scripted_server(api.answer("Hi")) as server, adapter_at(server.url) as adapter:
        with capture_logs() as logs:
            await adapter.chat(HELLO, "claude-opus-5-5", 0.2, options=ChatOptions(top_p=0.5, seed=7))

    assert not {"temperature", "top_p", "seed"} & set(server.exchanges[0].json())
    dropped = [entry["parameter"] for entry in logs if entry["event"] == "parameter_dropped"]
    assert dropped == ["temperature", "top_p", "seed"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_anthropic_has_not_is_refused_before_anything_is_sent(stream: bool) -> None:
    async with scripted_server() as server, adapter_at(server.url) as adapter:
        with pytest.raises(InvalidParams) as caught:
            await (collect(adapter.stream_chat([])) if stream else adapter.chat([]))

    assert caught.value.hint
    assert server.exchanges == []


async def test_chat_tells_text_reasoning_reason_and_usage() -> None:
    reply = api.answer(
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        "Hel",
        {"type": "redacted_thinking", "data": "x"},
        "lo",
        stop_reason="max_tokens",
        cache_creation_input_tokens=10,
        cache_read_input_tokens=100,
        output_tokens_details={"thinking_tokens": 2},
    )
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        response = await adapter.chat(HELLO)

    assert response.model_dump(exclude={"created_at"}, exclude_none=True) == {
        "id": "msg_1",
        "content": "Hello",
        "reasoning": "Hm.",
        "model": api.MODEL,
        "provider": "anthropic",
        "finish_reason": "length",
        "usage": {
            "prompt_tokens": 113,
            "completion_tokens": 5,
            "total_tokens": 118,
            "cached_tokens": 100,
            "reasoning_tokens": 2,
        },
    }


async def test_a_stream_begins_with_an_empty_chunk_as_soon_as_the_headers_are_there() -> None:
    begin = asyncio.Event()
    reply = api.stream(Wait(begin), api.start(), api.delta("Hi"), *api.ending())
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        chunks = adapter.stream_chat(HELLO)
        async with asyncio.timeout(5):
            assert await anext(chunks) == StreamChunk(content="")
        begin.set()
        rest = await collect(chunks)

    assert "".join(chunk.content for chunk in rest) == "Hi"
    assert rest[-1].finish_reason == "stop"
    assert rest[-1].usage is not None
    assert (rest[-1].usage.prompt_tokens, rest[-1].usage.completion_tokens) == (3, 5)


async def test_the_prompts_tokens_are_known_before_the_first_text() -> None:
    async with scripted_server(api.stream(api.start(), forever())) as server, adapter_at(server.url) as adapter:
        chunks = adapter.stream_chat(HELLO)
        async with asyncio.timeout(5):
            await anext(chunks)
            chunk = await anext(chunks)
        await chunks.aclose()

    assert chunk.usage is not None
    assert chunk.usage.prompt_tokens == 3


async def test_list_models_prefers_the_context_the_api_tells() -> None:
    reply = api.models(
        {"id": "claude-9", "display_name": "Claude 9", "max_input_tokens": 5_000_000},
        {"id": "claude-haiku-4-5-20251001", "display_name": "Claude Haiku 4.5"},
    )
    async with scripted_server(reply) as server, adapter_at(server.url) as adapter:
        models = await adapter.list_models()
        window = await adapter.context_window("claude-haiku-4-5-20251001")

    assert [(model.id, model.name, model.context_window) for model in models] == [
        ("claude-9", "Claude 9", 5_000_000),
        ("claude-haiku-4-5-20251001", "Claude Haiku 4.5", 200_000),
    ]
    assert window == 200_000
    assert server.exchanges[0].path.startswith("/v1/models?")


async def test_health_check_measures_and_names_the_models() -> None:
    async with scripted_server(api.models({"id": "claude-9"})) as server, adapter_at(server.url) as adapter:
        status = await adapter.health_check()

    assert (status.available, status.models, status.configured) == (True, ["claude-9"], None)
    assert status.latency_ms is not None


async def test_health_check_tells_why_nothing_answers() -> None:
    async with adapter_at("http://127.0.0.1:1") as adapter:
        status = await adapter.health_check()

    assert (status.available, status.configured) == (False, None)
    assert "nothing answers at http://127.0.0.1:1" in str(status.error)
    assert "ANTHROPIC_BASE_URL" in str(status.hint)


async def test_chat_waits_no_longer_than_the_total() -> None:
    timeouts = Timeouts(total_s=1.0)  # within it, the request must have come to the server, on a busy machine too
    async with scripted_server(Reply(before_headers=[forever()])) as server:
        async with adapter_at(server.url, timeouts=timeouts) as adapter:
            await adapter.prepare()
            with pytest.raises(ProviderTimeout):
                await adapter.chat(HELLO)
        async with asyncio.timeout(5):
            await server.exchanges[0].client_left.wait()


async def test_as_many_streams_run_at_once_as_the_concurrency_says_and_a_probe_beside_them() -> None:
    count = 110  # httpx's own limit is 100
    replies = [api.stream(forever()) for _ in range(count)]
    async with (
        scripted_server(*replies, api.models()) as server,
        adapter_at(server.url, concurrency=count) as adapter,
    ):
        streams = [adapter.stream_chat(HELLO) for _ in range(count)]
        async with asyncio.timeout(20):
            await asyncio.gather(*(anext(stream) for stream in streams))
            assert (await adapter.health_check()).available
        await asyncio.gather(*(stream.aclose() for stream in streams))


def test_one_adapter_serves_one_event_loop_after_another() -> None:
    async def probe(adapter: AnthropicAdapter) -> str:
        return str((await adapter.health_check()).error)

    adapter = AnthropicAdapter(
        api_key="sk-test",
        base_url="http://127.0.0.1:1",
        default_model=api.MODEL,
        timeouts=Timeouts(),
        concurrency=8,
        catalog=load_catalog(),
    )

    assert "nothing answers" in asyncio.run(probe(adapter))
    assert "nothing answers" in asyncio.run(probe(adapter))
    asyncio.run(adapter.aclose())


def test_importing_the_adapter_imports_no_sdk() -> None:
    code = (
        "import sys, archer_ws.llm_gateway.anthropic_adapter;"
        "print(sorted({'anthropic', 'openai', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"
