"""What the OpenAI adapter sends, and what it makes of whole answers, health checks and lists of models."""

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import openai
import pytest
from structlog.testing import capture_logs

from archer_ws.core.exceptions import ProviderNotConfigured, ProviderTimeout, UpstreamTruncated
from archer_ws.llm_gateway.base import Timeouts
from archer_ws.llm_gateway.catalog import Catalog, ModelFacts, load_catalog
from archer_ws.llm_gateway.openai.client import OpenAIClient
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.transport.sdk import StreamingSdk
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole, TokenUsage
from tests.fakes.openai_api import (
    MODEL,
    adapter_for,
    completion,
    error,
    models,
    text_stream,
)
from tests.fakes.scripted_server import Exchange, Reply, Step, forever, scripted_server

MESSAGES = [
    ChatMessage(role=MessageRole.SYSTEM, content="be brief"),
    ChatMessage(role=MessageRole.USER, content="why? \U0001f600", name="ada"),
]
#: What the SDK would take from the environment.
AMBIENT = {
    "OPENAI_API_KEY": "sk-ambient",
    "OPENAI_ADMIN_KEY": "sk-ambient-admin",
    "OPENAI_ORG_ID": "org-ambient",
    "OPENAI_PROJECT_ID": "proj-ambient",
    "OPENAI_WEBHOOK_SECRET": "ambient",
    "OPENAI_BASE_URL": "http://ambient.invalid/v1",
    "OPENAI_CUSTOM_HEADERS": "X-Ambient: ambient\nAuthorization: Bearer ambient",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "ALL_PROXY": "http://127.0.0.1:1",
}


def adapter_without_server(**settings: Any) -> OpenAIAdapter:
    defaults: dict[str, Any] = {
        "api_key": None,
        "base_url": None,
        "default_model": MODEL,
        "timeouts": Timeouts(),
        "concurrency": 4,
        "catalog": load_catalog(),
    }
    return OpenAIAdapter(**defaults | settings)


async def test_chat_returns_the_whole_answer() -> None:
    async with scripted_server(completion("Hello", reasoning_content="hm")) as server, adapter_for(server) as adapter:
        answer = await adapter.chat(MESSAGES)
    assert answer.id == "chatcmpl-1"
    assert answer.content == "Hello"
    assert answer.reasoning == "hm"
    assert (answer.model, answer.provider, answer.finish_reason) == (MODEL, "openai", "stop")
    assert answer.usage == TokenUsage(
        prompt_tokens=3, completion_tokens=5, total_tokens=8, cached_tokens=0, reasoning_tokens=0
    )


async def test_a_chat_request_says_what_was_asked_and_nothing_else() -> None:
    async with scripted_server(completion("")) as server, adapter_for(server) as adapter:
        await adapter.chat(MESSAGES, "gpt-4o", 0.5, 100, options=ChatOptions(stop=("END",), top_p=0.9, seed=7))
        exchange = await server.exchange()
    assert (exchange.method, exchange.path) == ("POST", "/v1/chat/completions")
    assert exchange.headers["authorization"] == "Bearer sk-test"
    assert exchange.json() == {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "why? \U0001f600", "name": "ada"},
        ],
        "temperature": 0.5,
        "max_tokens": 100,
        "stop": ["END"],
        "top_p": 0.9,
        "seed": 7,
        # Also where the answer is waited for as a whole.
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [("Ada Lovelace", "Ada_Lovelace"), ("a\t<b|c\\d/e>", "a_b_c_d_e_"), ("Jürgen", "Jürgen"), (" ", "_"), ("", None)],
)
async def test_a_speakers_name_is_sent_as_openai_takes_it(given: str, sent: str | None) -> None:
    # OpenAI refuses any other, and every later request of the conversation: "string does not match pattern".
    said = [ChatMessage(role=MessageRole.USER, content="why?", name=given)]
    async with scripted_server(completion("")) as server, adapter_for(server) as adapter:
        await adapter.chat(said)
        (message,) = (await server.exchange()).json()["messages"]
    assert message == {"role": "user", "content": "why?"} | ({} if sent is None else {"name": sent})


async def test_what_a_request_leaves_open_is_left_to_the_provider() -> None:
    async with scripted_server(completion("")) as server, adapter_for(server) as adapter:
        await adapter.chat(MESSAGES)
        assert set((await server.exchange()).json()) == {"model", "messages", "stream", "stream_options"}


async def test_a_refusal_is_the_answers_text() -> None:
    async with scripted_server(completion(None, refusal="I can't")) as server, adapter_for(server) as adapter:
        assert (await adapter.chat(MESSAGES)).content == "I can't"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        # There are none.
        ("tool_calls", "stop"),
        ("function_call", "stop"),
        ("max_tokens", "length"),
        ("eos", "stop"),
    ],
)
async def test_finish_reasons_are_normalised(said: str, meant: str) -> None:
    async with scripted_server(completion("x", finish_reason=said)) as server, adapter_for(server) as adapter:
        assert (await adapter.chat(MESSAGES)).finish_reason == meant


async def test_an_answer_the_provider_gave_up_is_not_taken_for_whole() -> None:
    reply = completion("x", finish_reason="insufficient_system_resource")
    async with scripted_server(reply) as server, adapter_for(server) as adapter:
        with pytest.raises(UpstreamTruncated, match="insufficient_system_resource"):
            await adapter.chat(MESSAGES)


async def test_parameters_a_model_refuses_are_dropped_with_a_warning() -> None:
    facts = ModelFacts(
        provider="openai",
        model="picky",
        max_tokens_parameter="max_completion_tokens",
        refuses=frozenset({"temperature", "stop"}),
    )
    catalog = Catalog(inference={}, models=(facts,))
    async with scripted_server(completion("")) as server, adapter_for(server, catalog=catalog) as adapter:
        with capture_logs() as logs:
            await adapter.chat(MESSAGES, "picky", 0.1, 10, options=ChatOptions(stop=("END",), top_p=0.5))
        sent = (await server.exchange()).json()
    assert set(sent) == {"model", "messages", "max_completion_tokens", "top_p", "stream", "stream_options"}
    assert sent["max_completion_tokens"] == 10
    dropped = [entry["parameter"] for entry in logs if entry["event"] == "parameter_dropped"]
    assert sorted(dropped) == ["stop", "temperature"]
    assert "be brief" not in str(logs)


async def test_sampling_is_brought_into_the_models_bounds() -> None:
    facts = ModelFacts(provider="openai", model="mild", max_temperature=1, one_sampling_parameter=True)
    catalog = Catalog(inference={}, models=(facts,))
    async with (
        scripted_server(completion(""), completion("")) as server,
        adapter_for(server, catalog=catalog) as adapter,
    ):
        await adapter.chat(MESSAGES, "mild", 1.5, options=ChatOptions(top_p=0.5))
        await adapter.chat(MESSAGES, "mild", options=ChatOptions(top_p=0.5))
        both, one = server.exchanges[0].json(), server.exchanges[1].json()
    assert both["temperature"] == 1
    assert "top_p" not in both
    assert one["top_p"] == 0.5


async def test_nothing_of_the_environment_reaches_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    async with (
        scripted_server(completion("x"), completion("x")) as server,
        adapter_for(server) as adapter,
        adapter_for(server, api_key=None) as keyless,
    ):
        await adapter.chat(MESSAGES)
        await keyless.chat(MESSAGES)
        for exchange in server.exchanges:
            assert "ambient" not in str(exchange.headers).lower()
            assert "openai-organization" not in exchange.headers
            assert "openai-project" not in exchange.headers


async def test_a_pasted_key_may_end_in_a_newline() -> None:
    async with scripted_server(completion("x")) as server, adapter_for(server, api_key=" sk-test\n") as adapter:
        await adapter.chat(MESSAGES)
        assert (await server.exchange()).headers["authorization"] == "Bearer sk-test"


@pytest.mark.parametrize("key", ["sk-tést", "sk-a\nsk-b"])
async def test_a_key_no_header_can_carry_is_not_configured(key: str) -> None:
    with pytest.raises(ProviderNotConfigured) as caught:
        await adapter_without_server(api_key=key).chat(MESSAGES)
    assert key not in caught.value.message
    assert "OPENAI_API_KEY" in (caught.value.hint or "")


@pytest.mark.parametrize("key", [None, "", "  "])
@pytest.mark.parametrize("base_url", [None, "https://api.openai.com/v1/", "https://eu.api.openai.com/v1"])
async def test_openai_without_a_key_is_not_configured(key: str | None, base_url: str | None) -> None:
    adapter = adapter_without_server(api_key=key, base_url=base_url)
    with pytest.raises(ProviderNotConfigured) as caught:
        await adapter.prepare()
    assert "OPENAI_API_KEY" in (caught.value.hint or "")
    assert "ARCHER_OPENAI_API_KEY" in (caught.value.hint or "")
    with pytest.raises(ProviderNotConfigured):
        await anext(aiter(adapter.stream_chat(MESSAGES)))
    status = await adapter.health_check()
    assert (status.available, status.configured) == (False, False)
    assert "OPENAI_API_KEY" in (status.hint or "")


async def test_a_server_of_ones_own_needs_no_key() -> None:
    async with scripted_server(completion("x")) as server, adapter_for(server, api_key=None) as adapter:
        assert (await adapter.chat(MESSAGES)).content == "x"


async def test_health_tells_latency_and_models() -> None:
    async with scripted_server(models("a", "b")) as server, adapter_for(server) as adapter:
        status = await adapter.health_check()
        assert (await server.exchange()).path == "/v1/models"
    assert (status.provider, status.available, status.error) == ("openai", True, None)
    assert status.models == ["a", "b"]
    assert status.latency_ms is not None
    assert 0 < status.latency_ms < 5000


async def test_health_never_raises() -> None:
    lists = iter([error(401), error(500), Reply([b"<html>"], content_type="text/html"), Reply([b"[1,"]), Reply([b"7"])])

    def list_alone(exchange: Exchange) -> Reply:
        return next(lists) if exchange.method == "GET" else error(404)

    async with scripted_server(responder=list_alone) as server, adapter_for(server) as adapter:
        for number in range(5):
            status = await adapter.health_check()
            assert not status.available, number
            assert status.error
            assert status.hint
            assert status.configured is None


@pytest.mark.parametrize(
    ("steps", "limit_s", "said"),
    [([b"{", forever()], 1.0, "in time"), (itertools.repeat(b" " * 4096), 60.0, "more than")],
    ids=["silent", "never coming to an end"],
)
async def test_a_health_check_that_hangs_ends_and_leaves(steps: Iterable[Step], limit_s: float, said: str) -> None:
    timeouts = Timeouts(health_s=limit_s)  # within it, the request must have come to the server, on a busy machine too
    async with scripted_server(Reply(steps)) as server, adapter_for(server, timeouts=timeouts) as adapter:
        await adapter.prepare()
        async with asyncio.timeout(30):
            status = await adapter.health_check()
            await (await server.exchange()).client_left.wait()
    assert not status.available
    assert said in (status.error or "")


async def test_a_chat_ends_at_the_total_deadline() -> None:
    timeouts = Timeouts(total_s=1.0)  # within it, the request must have come to the server, on a busy machine too
    async with (
        scripted_server(Reply(before_headers=[forever()])) as server,
        adapter_for(server, timeouts=timeouts) as adapter,
    ):
        await adapter.prepare()
        async with asyncio.timeout(5):
            with pytest.raises(ProviderTimeout):
                await adapter.chat(MESSAGES)
            await (await server.exchange()).client_left.wait()


async def test_models_are_listed_with_their_context() -> None:
    async with (
        scripted_server(models("gpt-4o", "my-own", "text-embedding-3")) as server,
        adapter_for(server) as adapter,
    ):
        listed = await adapter.list_models()
    assert [(model.id, model.context_window) for model in listed] == [
        ("gpt-4o", 128_000),
        ("my-own", None),
        ("text-embedding-3", None),
    ]
    assert {model.provider for model in listed} == {"openai"}


async def test_a_bare_list_of_models_is_read_and_what_names_none_left_out() -> None:
    reply = Reply.of_json([{"id": "a"}, {"id": None}, "b", {"name": "c"}, 7, {"id": "a"}])
    async with scripted_server(reply) as server, adapter_for(server) as adapter:
        assert [model.id for model in await adapter.list_models()] == ["a", "b", "c"]


async def test_of_openais_own_list_only_chat_models_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = ["gpt-4o", "gpt-4o-mini-2024-07-18", "chatgpt-4o-latest", "o3-mini", "gpt-5.1", "ft:gpt-4o-mini:acme::1"]
    other = [
        "text-embedding-3-large",
        "whisper-1",
        "tts-1-hd",
        "dall-e-3",
        "gpt-image-1",
        "gpt-4o-transcribe",
        "gpt-4o-realtime-preview",
        "gpt-4o-audio-preview",
        "gpt-4o-mini-tts",
        "gpt-3.5-turbo-instruct",
        "omni-moderation-latest",
        "o1-pro",
        "gpt-5-codex",
        "o3-deep-research",
        "sora-2",
        "babbage-002",
    ]
    listed = models(*other, *chat)

    async def get_models(self: OpenAIClient, timeout_s: float) -> bytes:
        return b"".join(step for step in listed.steps if isinstance(step, bytes))

    monkeypatch.setattr(OpenAIClient, "get_models", get_models)
    adapter = adapter_without_server(api_key="sk-test")
    assert [model.id for model in await adapter.list_models()] == chat
    await adapter.aclose()


async def test_the_context_window_comes_from_the_catalog() -> None:
    adapter = adapter_without_server()
    assert await adapter.context_window("gpt-4o") == 128_000
    assert await adapter.context_window("nobody-knows") is None


def test_the_sdk_is_not_imported_before_it_is_needed() -> None:
    """Importing it takes a second; a provider that is not configured never pays."""
    code = (
        "import asyncio, sys\n"
        "from archer_ws.llm_gateway.base import Timeouts\n"
        "from archer_ws.llm_gateway.catalog import load_catalog\n"
        "from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter\n"
        "adapter = OpenAIAdapter(api_key=None, base_url=None, default_model='m', timeouts=Timeouts(),\n"
        "                        concurrency=1, catalog=load_catalog())\n"
        "status = asyncio.run(adapter.health_check())\n"
        "assert status.configured is False\n"
        "loaded = {'openai', 'httpx2'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_many_first_users_make_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    make = OpenAIClient._make

    def counting(self: OpenAIClient, sdk: ModuleType) -> StreamingSdk[openai.AsyncOpenAI]:
        made.append(sdk)
        return make(self, sdk)

    monkeypatch.setattr(OpenAIClient, "_make", counting)
    async with scripted_server(responder=lambda _: completion("x")) as server, adapter_for(server) as adapter:
        await asyncio.gather(*(adapter.chat(MESSAGES) for _ in range(5)))
    assert len(made) == 1


def test_an_adapter_serves_one_loop_after_another() -> None:
    adapters: list[OpenAIAdapter] = []

    async def once() -> str:
        async with scripted_server(text_stream(["a", "b"])) as server:
            if not adapters:
                adapters.append(adapter_without_server(base_url=f"{server.url}/v1"))
            # Each loop has a server of its own; only the address moves.
            adapters[0]._client._base_url = f"{server.url}/v1"
            return "".join([chunk.content async for chunk in adapters[0].stream_chat(MESSAGES)])

    async def close() -> None:
        await adapters[0].aclose()

    assert [asyncio.run(once()) for _ in range(3)] == ["ab", "ab", "ab"]
    asyncio.run(close())


async def test_a_closed_adapter_opens_anew() -> None:
    async with scripted_server(completion("a"), completion("b")) as server, adapter_for(server) as adapter:
        assert (await adapter.chat(MESSAGES)).content == "a"
        await adapter.aclose()
        assert (await adapter.chat(MESSAGES)).content == "b"
