"""OpenAI's official SDK for Node against the real server: before a scripted provider, and with the embedded model."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Archer, StartArcher
from tests.e2e.sidecar import on_linux, running_sidecar, until_idle
from tests.fakes.ollama_api import (
    ollama_error,
    ollama_error_line,
    ollama_server,
    ollama_show,
    ollama_stream,
    ollama_tags,
)
from tests.fakes.scripted_server import Reply, forever
from tests.interop.javascript import NODE_PROJECT, Javascript, javascript

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

PIECES = ("Hel", "lo\u2028", '"quoted"\n', "\\ \x7f", "🎉", "e\u0301")
HELLO = [{"role": "user", "content": "hello"}]
CALLS = (NODE_PROJECT / "openai" / "calls.mjs").as_uri()


class NodeSdk:
    """The SDK with a base URL, in a Node process."""

    def __init__(self, js: Javascript, base_url: str, **options: Any) -> None:
        self._js = js
        self._server = {"baseURL": base_url, **options}

    async def call(self, name: str, *arguments: Any) -> Any:
        """What openai/calls.mjs answers."""
        code = "const calls = await import(module); return await calls[name](server, ...given);"
        return await self._js.run(code, module=CALLS, name=name, server=self._server, given=arguments)

    async def complete(self, **fields: Any) -> Any:
        return await self.call("complete", fields)

    async def chunks(self, **fields: Any) -> Any:
        return await self.call("chunks", fields)


def text_of(chunks: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.fixture
async def js() -> AsyncIterator[Javascript]:
    async with javascript() as running:
        yield running


@pytest.fixture
def sdk(js: Javascript, archer: Archer) -> NodeSdk:
    return NodeSdk(js, f"http://{archer.address}/v1")


async def test_the_text_is_byte_for_byte_that_of_our_own_routes(archer: Archer, sdk: NodeSdk) -> None:
    archer.answer(ollama_stream(*PIECES, prompt_tokens=5))
    ours = (await archer.http.post("/api/v1/chat/completions", json={"messages": HELLO})).json()["content"]
    assert ours == "".join(PIECES)
    whole = (await sdk.complete())["value"]
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": ours, "refusal": None}
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == (5, len(PIECES))
    chunks = (await sdk.chunks())["chunks"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert text_of(chunks) == ours
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]


async def test_the_tokens_of_a_stream_come_only_when_asked_for(archer: Archer, sdk: NodeSdk) -> None:
    archer.answer(ollama_stream("Hi", prompt_tokens=5))
    assert not [chunk for chunk in (await sdk.chunks())["chunks"] if chunk.get("usage") or not chunk["choices"]]
    *others, last = (await sdk.chunks(stream_options={"include_usage": True}))["chunks"]
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 6)
    assert [chunk["usage"] for chunk in others] == [None] * len(others)


async def test_its_own_stream_accumulator_understands_the_chunks(archer: Archer, sdk: NodeSdk) -> None:
    archer.answer(ollama_stream("Hel", "lo"))
    answer = (await sdk.call("accumulated", {"stream_options": {"include_usage": True}}))["value"]
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["usage"]["completion_tokens"] == 2


@pytest.mark.usefixtures("every_reader_stops_when_told")
@pytest.mark.parametrize("how", ["break", "controller", "signal"])
async def test_leaving_in_mid_stream_closes_the_provider(archer: Archer, sdk: NodeSdk, how: str) -> None:
    archer.answer(ollama_stream("first", forever()))
    left = asyncio.create_task(sdk.call("leave", how, {}))
    exchange = await archer.ollama.exchange(0)
    async with asyncio.timeout(20):
        await exchange.client_left.wait()
    assert await left == "first"


async def test_every_listed_model_works_when_it_is_sent_back(archer: Archer, sdk: NodeSdk) -> None:
    names = ("llama3.2:latest", "hf.co/someone/tiny:Q4_K_M")
    archer.ollama.responder = ollama_server(
        {"/api/chat": ollama_stream("Hi"), "/api/show": ollama_show(4096), "/api/tags": ollama_tags(*names)}
    )
    listed = [model for model in (await sdk.call("models"))["value"] if model["owned_by"] == "ollama"]
    assert [model["id"] for model in listed] == [f"ollama/{name}" for name in names]
    for model, name in zip(listed, names, strict=True):
        assert (await sdk.call("model", model["id"]))["value"] == model
        await sdk.complete(model=model["id"])
        assert archer.ollama.exchanges[-1].json()["model"] == name
    assert (await sdk.call("model", "ollama/nope/at:all"))["error"]["name"] == "NotFoundError"


@pytest.mark.parametrize("call", ["complete", "chunks"])
@pytest.mark.parametrize(
    ("reply", "name", "code"),
    [
        (ollama_error("model not found", 404), "NotFoundError", "model_not_found"),
        (ollama_error("slow down", 429), "RateLimitError", "rate_limit_exceeded"),
        (ollama_error("broken", 500), "InternalServerError", "provider_error"),
    ],
)
async def test_a_failure_before_the_first_text_is_the_sdk_s_error_for_it(
    archer: Archer, sdk: NodeSdk, reply: Reply, *, call: str, name: str, code: str
) -> None:
    archer.answer(reply)
    error = (await sdk.call(call, {}))["error"]
    assert (error["name"], error["code"]) == (name, code)
    assert error["requestID"]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (ollama_stream("some", ollama_error_line("out of memory"), end=False), "provider_error"),
        (ollama_stream("some", end=False), "upstream_truncated"),
    ],
)
async def test_a_failure_in_mid_stream_is_an_error_after_the_text(
    archer: Archer, sdk: NodeSdk, reply: Reply, code: str
) -> None:
    archer.answer(reply)
    answer = await sdk.chunks()
    assert (answer["error"]["name"], answer["error"]["code"]) == ("APIError", code)
    assert answer["error"]["message"]
    assert text_of(answer["chunks"]) == "some"


async def test_a_cancelled_stream_is_an_error_after_the_text(archer: Archer, sdk: NodeSdk) -> None:
    archer.answer(ollama_stream("some", forever()))
    reading = asyncio.create_task(sdk.chunks())
    await archer.ollama.exchange(0)
    manager = archer.app.state.services.manager
    (info,) = manager.list_streams("local").items
    stream, grown = manager.find("local", info.stream_id), asyncio.Event()
    stream.log.watch(grown.set)
    async with asyncio.timeout(10):
        while not stream.log.content_bytes:
            await grown.wait()
            grown.clear()
    await archer.http.delete(f"/api/v1/streams/{info.stream_id}")
    answer = await reading
    assert (answer["error"]["code"], text_of(answer["chunks"])) == ("cancelled", "some")


async def test_what_is_not_served_names_the_parameter(sdk: NodeSdk) -> None:
    for fields, param in (({"n": 2}, "n"), ({"functions": [{"name": "f"}]}, "functions")):
        error = (await sdk.complete(**fields))["error"]
        assert (error["name"], error["param"], error["code"]) == ("BadRequestError", param, "unsupported_parameter")


async def test_a_wrong_key_is_told_and_the_token_is_the_key(js: Javascript, start_archer: StartArcher) -> None:
    async with start_archer(auth_token="the-real-token") as archer:
        archer.answer(ollama_stream("Hi"))
        base_url = f"http://{archer.address}/v1"
        error = (await NodeSdk(js, base_url).complete())["error"]
        assert (error["name"], error["code"]) == ("AuthenticationError", "invalid_api_key")
        assert text_of((await NodeSdk(js, base_url, apiKey="the-real-token").chunks())["chunks"]) == "Hi"


async def test_what_may_pass_is_tried_again_and_nothing_else(js: Javascript, archer: Archer) -> None:
    sdk = NodeSdk(js, f"http://{archer.address}/v1", maxRetries=1)
    replies = [ollama_error("busy", 503), ollama_stream("yes")]
    archer.answer(lambda _: replies.pop(0))
    assert text_of((await sdk.chunks())["chunks"]) == "yes"
    replies = [ollama_error("the prompt is nonsense", 400), ollama_stream("no")]
    assert "error" in await sdk.chunks()
    assert len(replies) == 1


@pytest.mark.parametrize("wrong", ["/api/v1", ""])
async def test_a_wrong_base_url_is_told_the_right_one(js: Javascript, archer: Archer, wrong: str) -> None:
    sdk = NodeSdk(js, f"http://{archer.address}{wrong}")
    for answer in (await sdk.complete(), await sdk.chunks(), await sdk.call("models")):
        assert answer["error"]["name"] == "NotFoundError"
        assert f"http://{archer.address}/v1" in answer["error"]["message"]


@on_linux
async def test_it_chats_streams_and_cancels_with_the_embedded_model(js: Javascript, tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as sidecar:
        sdk = NodeSdk(js, f"{sidecar.url}/v1")
        models = (await sdk.call("models"))["value"]
        (model,) = [model["id"] for model in models if model["owned_by"] == "local"]
        question = [{"role": "user", "content": "What color is the sky?"}]
        asked = {"model": model, "messages": question, "max_completion_tokens": 12, "temperature": 0, "seed": 1}
        text = (await sdk.complete(**asked))["value"]["choices"][0]["message"]["content"]
        assert text.strip()
        assert text_of((await sdk.chunks(**asked))["chunks"]) == text
        tale = [{"role": "user", "content": "Tell me a very long tale about a ship."}]
        assert await sdk.call("leave", "break", {"model": model, "messages": tale, "max_tokens": 2000})
        await until_idle(sidecar.model_process())
        streams = (await sidecar.http.get("/api/v1/streams")).json()["items"]
        assert sorted(stream["status"] for stream in streams) == ["cancelled", "completed", "completed"]
