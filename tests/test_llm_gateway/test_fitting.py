"""A server that refuses one of our defaults answers all the same; one that refuses what was asked for says so."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from archer_ws.core.exceptions import ArcherError, ContextTooLong, ProviderError
from archer_ws.llm_gateway.base import BaseLLMAdapter
from archer_ws.llm_gateway.types import ChatMessage, ChatOptions, MessageRole
from tests.conftest import StartArcher
from tests.fakes import anthropic_api, openai_api
from tests.fakes.scripted_server import Exchange, Reply, Responder, ScriptedServer, scripted_server

HELLO = [ChatMessage(role=MessageRole.USER, content="Hello")]
DEFAULTS = ChatOptions(defaulted=frozenset({"temperature", "max_tokens"}))


def refusal(parameter: str, message: str = "") -> Reply:
    message = message or f"Unsupported parameter: '{parameter}' is not supported with this model."
    return Reply.of_json({"error": {"message": message, "type": "invalid_request_error"}}, status=400)


def refusing(*parameters: str, otherwise: Callable[[], Reply]) -> Responder:
    """A server that knows nothing of these parameters, and names the first it meets."""

    def respond(exchange: Exchange) -> Reply:
        found = [name for name in parameters if name in exchange.json()]
        return refusal(found[0]) if found else otherwise()

    return respond


async def answer_of(adapter: BaseLLMAdapter, *, stream: bool, options: ChatOptions = DEFAULTS) -> str:
    async with asyncio.timeout(60):
        if not stream:
            return (await adapter.chat(HELLO, "m", 0.7, 2048, options=options)).content
        return "".join([chunk.content async for chunk in adapter.stream_chat(HELLO, "m", 0.7, 2048, options=options)])


def sent(server: ScriptedServer) -> list[set[str]]:
    return [set(exchange.json()) - {"model", "messages", "stream"} for exchange in server.exchanges]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_default_that_is_refused_is_left_out_and_the_next_request_asks_once(stream: bool) -> None:
    def whole() -> Reply:
        return openai_api.text_stream(["Hello"]) if stream else openai_api.completion("Hello")

    respond = refusing("max_tokens", "temperature", "stream_options", otherwise=whole)
    async with scripted_server(responder=respond) as server, openai_api.adapter_for(server) as adapter:
        assert await answer_of(adapter, stream=stream) == "Hello"
        assert len(server.exchanges) == 4
        assert await answer_of(adapter, stream=stream) == "Hello"
        assert sent(server)[-1] == {"max_completion_tokens"}
        assert len(server.exchanges) == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_client_asked_for_stays_an_error_that_names_it(stream: bool) -> None:
    body = {"detail": [{"type": "extra_forbidden", "loc": ["body", "temperature"], "msg": "Extra inputs"}]}
    async with (
        scripted_server(responder=lambda _: Reply.of_json(body, status=422)) as server,
        openai_api.adapter_for(server) as adapter,
    ):
        with pytest.raises(ProviderError) as caught:
            await answer_of(adapter, stream=stream, options=ChatOptions())
        assert "temperature" in caught.value.message
        assert [place.path for place in caught.value.errors] == ["temperature"]
        assert len(server.exchanges) == 1


async def test_a_prompt_that_is_too_long_is_told_and_teaches_nothing() -> None:
    said = "This model's maximum context length is 4096 tokens. Please reduce the messages or max_tokens."
    async with (
        scripted_server(responder=lambda _: refusal("", said)) as server,
        openai_api.adapter_for(server) as adapter,
    ):
        for number in (1, 2):
            with pytest.raises(ContextTooLong):
                await answer_of(adapter, stream=True)
            # With the bound that nobody asked for, and without.
            assert sent(server)[-2:] == [
                {"temperature", "max_tokens", "stream_options"},
                {"temperature", "stream_options"},
            ]
            assert len(server.exchanges) == 2 * number


async def test_a_prompt_that_fits_without_our_bound_is_answered() -> None:
    def respond(exchange: Exchange) -> Reply:
        said = "maximum context length is 4096 tokens, you asked for 5048 (3000 in the messages, 2048 as max_tokens)"
        return refusal("", said) if "max_tokens" in exchange.json() else openai_api.text_stream(["Hello"])

    async with scripted_server(responder=respond) as server, openai_api.adapter_for(server) as adapter:
        assert await answer_of(adapter, stream=True) == "Hello"
        with pytest.raises(ContextTooLong):
            await answer_of(adapter, stream=True, options=ChatOptions())


async def test_a_server_that_always_refuses_is_asked_a_few_times() -> None:
    async with (
        scripted_server(responder=lambda exchange: refusal(sorted(exchange.json())[-1])) as server,
        openai_api.adapter_for(server) as adapter,
    ):
        with pytest.raises(ArcherError):
            await answer_of(adapter, stream=True)
        assert len(server.exchanges) <= 6


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropics_newer_models_behind_other_names_do_without_temperature(stream: bool) -> None:
    def respond(exchange: Exchange) -> Reply:
        if "temperature" in exchange.json():
            return anthropic_api.error(400, "invalid_request_error", "`temperature` is deprecated for this model.")
        return anthropic_api.text_stream(["Hello"]) if stream else anthropic_api.answer("Hello")

    async with scripted_server(responder=respond) as server, anthropic_api.adapter_at(server.url) as adapter:
        for _ in range(2):
            assert await answer_of(adapter, stream=stream) == "Hello"
        assert sent(server) == [{"temperature", "max_tokens"}, {"max_tokens"}, {"max_tokens"}]


async def test_anthropics_bound_is_never_left_out() -> None:
    said = anthropic_api.error(400, "invalid_request_error", "max_tokens: unsupported: 2048 > 1024")
    async with scripted_server(responder=lambda _: said) as server, anthropic_api.adapter_at(server.url) as adapter:
        with pytest.raises(ProviderError, match="2048 > 1024"):
            await answer_of(adapter, stream=True)
        assert len(server.exchanges) == 1


async def test_parameters_that_a_server_is_never_sent() -> None:
    omits = frozenset({"temperature", "max_tokens", "stream_options", "seed"})
    async with (
        scripted_server(responder=lambda _: openai_api.text_stream(["Hello"])) as server,
        openai_api.adapter_for(server, omits=omits) as adapter,
    ):
        assert await answer_of(adapter, stream=True, options=ChatOptions(seed=7, top_p=0.5)) == "Hello"
        assert sent(server) == [{"top_p"}]


@asynccontextmanager
async def openai_like(respond: Responder) -> AsyncIterator[tuple[ScriptedServer, str]]:
    async with scripted_server(responder=respond) as server:
        yield server, f"{server.url}/v1"


async def test_through_the_whole_server_defaults_give_way_and_requests_do_not(start_archer: StartArcher) -> None:
    respond = refusing("max_tokens", "temperature", otherwise=lambda: openai_api.text_stream(["Hello"]))
    async with (
        openai_like(respond) as (server, url),
        start_archer(llm_provider="openai", llm_default_model="m", openai_base_url=url) as archer,
    ):
        asked = {"messages": [{"role": "user", "content": "x"}]}
        for _ in range(2):
            whole = (await archer.http.post("/api/v1/chat/completions", json=asked)).json()
            assert (whole["status"], whole["content"]) == ("completed", "Hello")
        assert len([exchange for exchange in server.exchanges if exchange.method == "POST"]) == 4
        refused = await archer.http.post("/api/v1/chat/completions", json=asked | {"temperature": 0.5})
        assert refused.status_code == 502
        assert "temperature" in refused.json()["error"]["message"]


async def test_a_setting_says_what_a_server_is_never_sent(start_archer: StartArcher) -> None:
    async with (
        openai_like(lambda _: openai_api.text_stream(["Hello"])) as (server, url),
        start_archer(
            llm_provider="openai",
            openai_base_url=url,
            openai_omit=["max_tokens", "temperature", "stream_options"],
        ) as archer,
    ):
        asked = {"messages": [{"role": "user", "content": "x"}]}
        assert (await archer.http.post("/api/v1/chat/completions", json=asked)).json()["status"] == "completed"
        assert [set(exchange.json()) for exchange in server.exchanges if exchange.method == "POST"] == [
            {"model", "messages", "stream"}
        ]
