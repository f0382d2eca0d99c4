"""Nothing is added to what a client of OpenAI's API asks for, what is left out is named, and tries do not multiply."""

from typing import Any

import openai
import pytest

from tests.conftest import Archer, StartArcher
from tests.fakes import anthropic_api, ollama_api, openai_api
from tests.fakes.any_provider import PROVIDERS, playing_all, settings_for
from tests.fakes.scripted_server import Exchange, Reply, ScriptedServer, scripted_server
from tests.test_api.openai_callers import HELLO, calling

PATH = "/v1/chat/completions"
ASKED_OF = ("/v1/chat/completions", "/v1/messages", "/api/chat")
STREAM_FIELDS = {"stream": True, "stream_options": {"include_usage": True}}
KEYS = {"openai_api_key": "sk-test", "anthropic_api_key": "sk-test"}


def chats(server: ScriptedServer) -> list[Exchange]:
    return [exchange for exchange in server.exchanges if exchange.path.partition("?")[0] in ASKED_OF]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("openai/gpt-4o", {"model": "gpt-4o", "messages": HELLO, **STREAM_FIELDS}),
        ("openai/o1", {"model": "o1", "messages": HELLO, **STREAM_FIELDS}),
        (
            "anthropic/claude-sonnet-4-5",
            {"model": "claude-sonnet-4-5", "messages": HELLO, "max_tokens": 64_000, "stream": True},
        ),
        (
            "ollama/llama3.2",
            {
                "model": "llama3.2", "messages": HELLO, "stream": True, "truncate": False, "shift": False,
                "options": {},
            },
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_not_asked_for_is_not_sent(
    start_archer: StartArcher, model: str, told: dict[str, Any], *, stream: bool
) -> None:
    """The settings have defaults for both, and the owner has set them: they are for requests in our own form."""
    async with scripted_server(responder=playing_all) as server:
        settings = {**settings_for(server.url), **KEYS, "llm_temperature": 0.3, "llm_max_tokens": 77}
        async with start_archer(**settings) as archer:
            answer = await archer.http.post(PATH, json={"model": model, "messages": HELLO, "stream": stream})
            assert answer.status_code == 200
            assert "x-archer-ignored" not in answer.headers
    (asked,) = chats(server)
    assert asked.json() == told


async def test_our_own_routes_go_on_to_fill_in_the_defaults(archer: Archer) -> None:
    archer.answer(ollama_api.ollama_stream("Hi"))
    await archer.http.post("/api/v1/chat/completions", json={"messages": HELLO})
    options = archer.ollama.exchanges[-1].json()["options"]
    assert (options["temperature"], options["num_predict"]) == (0.7, 2048)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "ignored"),
    [
        ("openai/gpt-4o", "user, metadata"),
        ("openai/o1", "user, metadata, temperature"),
        ("anthropic/claude-3-opus-20240229", "user, metadata, seed"),
        ("anthropic/claude-opus-5", "user, metadata, seed, temperature"),
        ("ollama/llama3.2", "user, metadata"),
    ],
)
async def test_what_is_left_out_is_named(start_archer: StartArcher, model: str, ignored: str, *, stream: bool) -> None:
    fields = {"user": "u", "metadata": {"a": "b"}, "temperature": 0.5, "seed": 3, "service_tier": None}
    async with (
        scripted_server(responder=playing_all) as server,
        start_archer(**settings_for(server.url), **KEYS) as archer,
    ):
        answer = await archer.http.post(PATH, json={"model": model, "messages": HELLO, "stream": stream, **fields})
        assert answer.headers["x-archer-ignored"] == ignored
    (asked,) = chats(server)
    assert not {"user", "metadata", "service_tier"} & asked.json().keys()


async def test_a_page_may_read_what_was_left_out(archer: Archer) -> None:
    archer.answer(ollama_api.ollama_stream("Hi"))
    origin = {"origin": "http://localhost:1420"}
    answer = await archer.http.post(PATH, json={"messages": HELLO, "user": "u"}, headers=origin)
    assert "x-archer-ignored" in answer.headers["access-control-expose-headers"].lower()


def failing(provider: str) -> Reply:
    match provider:
        case "openai":
            return openai_api.error(503, "busy", **{"retry-after-ms": "1"})
        case "anthropic":
            return anthropic_api.error(529, "overloaded_error", "busy", **{"retry-after-ms": "1"})
    return ollama_api.ollama_error("busy", 503, **{"retry-after-ms": "1"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_sdk_does_not_try_again_what_the_server_has_tried_again(
    start_archer: StartArcher, provider: str, *, stream: bool
) -> None:
    async with (
        scripted_server(responder=lambda _: failing(provider)) as server,
        start_archer(**settings_for(server.url), **KEYS, max_retries=1) as archer,
        calling("async", f"http://{archer.address}/v1", max_retries=2) as sdk,
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            await (sdk.chunks if stream else sdk.complete)(model=f"{provider}/m")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(chats(server)) == 2, "the first try, and the one more that the settings allow"


async def test_where_the_server_has_not_tried_again_an_sdk_may(start_archer: StartArcher) -> None:
    async with (
        scripted_server(responder=lambda _: failing("openai")) as server,
        start_archer(**settings_for(server.url), **KEYS, max_retries=0) as archer,
        calling("async", f"http://{archer.address}/v1", max_retries=1) as sdk,
    ):
        with pytest.raises(openai.APIStatusError):
            await sdk.complete(model="openai/m")
    assert len(chats(server)) == 2
