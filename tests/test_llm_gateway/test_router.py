"""Which provider and model a request goes to, and with which defaults."""

import re

import pytest

from archer_ws.core.exceptions import InvalidParams, ModelNotFound
from archer_ws.llm_gateway.anthropic_adapter import AnthropicAdapter
from archer_ws.llm_gateway.base import BaseLLMAdapter
from archer_ws.llm_gateway.local_adapter import LocalAdapter
from archer_ws.llm_gateway.ollama_adapter import OllamaAdapter
from archer_ws.llm_gateway.openai_adapter import OpenAIAdapter
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole
from tests.conftest import MakeSettings
from tests.fakes.ollama_api import ollama_answer, ollama_error, ollama_stream
from tests.fakes.scripted_server import scripted_server


def ask(**fields: object) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [ChatMessage(role=MessageRole.USER, content="x")], **fields})


@pytest.mark.parametrize(
    ("provider", "kind"),
    [
        ("ollama", OllamaAdapter),
        ("openai", OpenAIAdapter),
        ("anthropic", AnthropicAdapter),
        ("local", LocalAdapter),
    ],
)
def test_the_configured_provider_is_the_default(
    make_settings: MakeSettings, provider: str, kind: type[BaseLLMAdapter]
) -> None:
    router = LLMRouter(make_settings(llm_provider=provider))
    assert router.default_provider == provider
    assert isinstance(router.get_adapter(), kind)
    assert router.get_adapter(provider) is router.get_adapter()


def test_an_unknown_provider_is_refused_with_the_known_ones(make_settings: MakeSettings) -> None:
    with pytest.raises(InvalidParams) as refused:
        LLMRouter(make_settings()).get_adapter("zebra")
    assert "ollama, openai, anthropic, local" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("o1-mini", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("claude-3-opus-20240229", "anthropic"),
        ("llama3.2", "ollama"),
        ("gpt-oss:20b", "ollama"),
        (None, "ollama"),
    ],
)
def test_a_provider_is_inferred_from_the_model_s_name(
    make_settings: MakeSettings, model: str | None, provider: str
) -> None:
    assert LLMRouter(make_settings())._infer_provider(model) == provider


def test_an_unknown_model_goes_to_the_configured_provider(make_settings: MakeSettings) -> None:
    assert LLMRouter(make_settings(llm_provider="local"))._infer_provider("mystery") == "local"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"model": "gpt-4o", "provider": "ollama"}, ("ollama", "gpt-4o")),
        ({"model": "anthropic/claude-3-opus-20240229"}, ("anthropic", "claude-3-opus-20240229")),
        ({"model": "openai/gpt-4o", "provider": "openai"}, ("openai", "openai/gpt-4o")),
        (
            {"model": "hf.co/someone/Llama-3.2-1B-GGUF"},
            ("ollama", "hf.co/someone/Llama-3.2-1B-GGUF"),
        ),
        ({"model": "openai/"}, ("ollama", "openai/")),
        ({}, ("ollama", "llama3.2")),
        ({"provider": "openai"}, ("openai", "gpt-4o-mini")),
        ({"provider": "anthropic"}, ("anthropic", "claude-3-5-sonnet-20241022")),
    ],
)
def test_routes(make_settings: MakeSettings, asked: dict[str, str], expected: tuple[str, str]) -> None:
    route = LLMRouter(make_settings()).resolve(ask(**asked))
    assert (route.provider, route.model) == expected


def test_an_explicit_default_model_is_the_configured_provider_s(make_settings: MakeSettings) -> None:
    router = LLMRouter(make_settings(llm_provider="openai", llm_default_model="gpt-4.1"))
    assert router.resolve(ask()).model == "gpt-4.1"
    assert router.resolve(ask(provider="anthropic")).model == "claude-3-5-sonnet-20241022"
    implicit = LLMRouter(make_settings(llm_provider="openai"))
    assert implicit.resolve(ask()).model == "gpt-4o-mini"


def test_the_configured_sampling_is_the_default(make_settings: MakeSettings) -> None:
    router = LLMRouter(make_settings(llm_temperature=0.1, llm_max_tokens=7))
    route = router.resolve(ask())
    assert (route.temperature, route.max_tokens) == (0.1, 7)
    assert route.defaulted == {"temperature", "max_tokens"}
    assert router.resolve(ask(temperature=0)).defaulted == {"max_tokens"}
    route = router.resolve(ask(temperature=0, max_tokens=1))
    assert (route.temperature, route.max_tokens) == (0, 1)
    assert not route.defaulted


def test_the_embedded_models_own_defaults_come_after_the_request_and_the_owner_and_before_ours(
    make_settings: MakeSettings,
) -> None:
    router = LLMRouter(make_settings(llm_provider="local"))
    route = router.resolve(ask())
    assert (route.temperature, route.max_tokens) == (0.2, 400)
    route = router.resolve(ask(temperature=0.9, max_tokens=2000))
    assert (route.temperature, route.max_tokens) == (0.9, 2000)
    owners = LLMRouter(make_settings(llm_provider="local", llm_temperature=0.7, llm_max_tokens=2048))
    route = owners.resolve(ask())
    assert (route.temperature, route.max_tokens) == (0.7, 2048), "what the owner sets holds, if it is our default"
    other = LLMRouter(make_settings(llm_provider="local", local_model_path="/models/Qwen3-4B-Q4_K_M.gguf"))
    route = other.resolve(ask())
    assert (route.temperature, route.max_tokens) == (0.7, 2048)


def test_without_the_defaults_only_what_the_models_authors_advise_is_filled_in(make_settings: MakeSettings) -> None:
    owners = LLMRouter(make_settings(llm_temperature=0.1, llm_max_tokens=7))
    route = owners.resolve(ask(model="gpt-4o"), with_defaults=False)
    assert (route.temperature, route.max_tokens, route.completion_tokens_max) == (None, None, 16_384)
    assert owners.resolve(ask(model="llama3.2"), with_defaults=False).completion_tokens_max is None
    asked = owners.resolve(ask(model="gpt-4o", temperature=1, max_tokens=5), with_defaults=False)
    assert (asked.temperature, asked.max_tokens, asked.completion_tokens_max) == (1, 5, 5)
    embedded = LLMRouter(make_settings(llm_provider="local", llm_temperature=0.7, llm_max_tokens=2048))
    advised = embedded.resolve(ask(), with_defaults=False)
    assert (advised.temperature, advised.max_tokens) == (0.2, 400)


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"model": "gpt-4o", "temperature": 1, "top_p": 0.5, "seed": 1, "stop": ["x"]}, set()),
        ({"model": "o3", "temperature": 1, "top_p": 0.5, "seed": 1, "stop": ["x"]}, {"temperature", "top_p", "stop"}),
        ({"model": "o3", "seed": 1}, set()),
        ({"model": "claude-opus-4-6", "temperature": 1, "top_p": 0.5, "seed": 1}, {"top_p", "seed"}),
        ({"model": "claude-opus-4-6", "top_p": 0.5}, set()),
    ],
)
def test_what_a_model_will_not_be_sent_is_known_beforehand(
    make_settings: MakeSettings, asked: dict[str, object], refused: set[str]
) -> None:
    assert LLMRouter(make_settings()).left_out(ask(**asked)) == refused


def test_what_the_owner_says_that_a_server_refuses_is_left_out_too(make_settings: MakeSettings) -> None:
    router = LLMRouter(make_settings(openai_omit="seed,max_tokens"))
    assert router.left_out(ask(model="gpt-4o", seed=1, max_tokens=5, temperature=1)) == {"seed", "max_tokens"}


def test_a_model_that_takes_no_temperature_is_sent_no_default(make_settings: MakeSettings) -> None:
    router = LLMRouter(make_settings())
    assert router.resolve(ask(model="o1")).temperature is None
    assert router.resolve(ask(model="gpt-4o")).temperature == 0.7


async def test_chat_and_stream_reach_the_provider(make_settings: MakeSettings) -> None:
    async with scripted_server(ollama_answer("whole"), ollama_stream("in ", "pieces")) as ollama:
        router = LLMRouter(make_settings(ollama_host=ollama.url))
        answer = await router.chat(ask())
        assert (answer.content, answer.provider) == ("whole", "ollama")
        pieces = [chunk.content async for chunk in router.stream_chat(ask())]
        assert "".join(pieces) == "in pieces"
        await router.aclose()


async def test_a_wrong_default_model_is_told_with_its_variable(make_settings: MakeSettings) -> None:
    async with scripted_server(ollama_error("not found", 404), ollama_error("not found", 404)) as ollama:
        router = LLMRouter(make_settings(ollama_host=ollama.url, llm_default_model="zebra"))
        with pytest.raises(Exception, match="zebra") as refused:
            await router.chat(ask())
        assert "LLM_DEFAULT_MODEL" in refused.value.hint  # type: ignore[attr-defined]  # an ArcherError, by the match
        await router.aclose()


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({}, "LLM_DEFAULT_MODEL"),
        ({"llm_provider": "openai", "llm_default_model": "gpt-4o"}, None),
    ],
)
async def test_no_variable_is_named_that_is_no_setting(
    make_settings: MakeSettings, settings: dict[str, str], variable: str | None
) -> None:
    async with scripted_server(ollama_error("not found", 404)) as ollama:
        router = LLMRouter(make_settings(ollama_host=ollama.url, **settings))
        with pytest.raises(ModelNotFound) as refused:
            await router.chat(ask(provider="ollama"))
        assert re.findall(r"[A-Z_]{5,}", refused.value.hint or "") == ([variable] if variable else [])
        assert "in the request" in (refused.value.hint or "")
        await router.aclose()


async def test_one_provider_without_a_key_breaks_nothing(make_settings: MakeSettings) -> None:
    router = LLMRouter(make_settings(ollama_host="http://127.0.0.1:9"))
    states = await router.health_check_all()
    assert states["openai"].configured is False
    assert states["ollama"].available is False
    models = await router.list_all_models()
    assert {model.provider for model in models} <= {"local"}
    await router.aclose()
