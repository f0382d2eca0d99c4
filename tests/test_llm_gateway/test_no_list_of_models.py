"""A server that chats is ready, also where it has no list of models; a wrong address is none that chats."""

import asyncio

import pytest

from tests.conftest import StartArcher
from tests.fakes import anthropic_api, openai_api
from tests.fakes.any_provider import adapter_at
from tests.fakes.scripted_server import Exchange, Reply, Responder, ScriptedServer, forever, scripted_server

NO_LIST = {
    "404": Reply.of_json({"detail": "Not Found"}, status=404),
    "405, a page": Reply([b"<h1>no</h1>"], status=405, content_type="text/html"),
    "501": Reply.of_json({}, status=501),
    "nothing": Reply([b""]),
    "another shape": Reply.of_json({"pages": 3}),
    "a page": Reply([b"<!doctype html>"], content_type="text/html"),
}
WANTS_MESSAGES = Reply.of_json({"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]}, status=422)


def answering(models: Reply, chat: Reply) -> Responder:
    return lambda exchange: models if exchange.method == "GET" else chat


def probes(server: ScriptedServer) -> list[Exchange]:
    return [exchange for exchange in server.exchanges if exchange.method == "POST"]


@pytest.mark.parametrize("models", NO_LIST.values(), ids=list(NO_LIST))
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_server_without_a_list_is_asked_once_whether_it_chats(provider: str, models: Reply) -> None:
    async with (
        asyncio.timeout(60),
        scripted_server(responder=answering(models, WANTS_MESSAGES)) as server,
        adapter_at(provider, server.url) as adapter,
    ):
        for _ in range(3):
            state = await adapter.health_check()
            assert (state.available, state.models, state.error) == (True, [], None)
        assert await adapter.list_models() == []
        (probe,) = probes(server)
        assert probe.path == ("/v1/chat/completions" if provider == "openai" else "/v1/messages")
        assert probe.body == b"{}"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_the_probe_leaves_as_soon_as_the_head_has_come(provider: str) -> None:
    endless = Reply([b"data: 1\n\n", forever()], content_type="text/event-stream")
    async with (
        asyncio.timeout(60),
        scripted_server(responder=answering(NO_LIST["404"], endless)) as server,
        adapter_at(provider, server.url) as adapter,
    ):
        assert (await adapter.health_check()).available
        await probes(server)[0].client_left.wait()


@pytest.mark.parametrize(
    ("models", "chat", "says"),
    [
        (NO_LIST["404"], Reply.of_json({}, status=404), "404"),
        (NO_LIST["404"], Reply.of_json({}, status=405), "404"),
        (NO_LIST["a page"], Reply([b"<!doctype html>"], content_type="text/html"), "HTML|JSON|list"),
        (NO_LIST["404"], Reply.of_json({}, status=401), "refused the credential"),
        (NO_LIST["404"], Reply.of_json({}, status=502), "failed"),
        (NO_LIST["404"], Reply(status=307, headers={"location": "https://login.example/x"}), "https://login.example"),
        (Reply.of_json({}, status=500), WANTS_MESSAGES, "500"),
        (Reply.of_json({}, status=503), WANTS_MESSAGES, "503"),
        (Reply.of_json({}, status=401), WANTS_MESSAGES, "refused the credential"),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_what_does_not_chat_is_not_ready(provider: str, models: Reply, chat: Reply, says: str) -> None:
    async with (
        asyncio.timeout(60),
        scripted_server(responder=answering(models, chat)) as server,
        adapter_at(provider, server.url) as adapter,
    ):
        for _ in range(2):
            state = await adapter.health_check()
            assert not state.available
            assert [word for word in says.split("|") if word in (state.error or "")], state.error
            assert state.hint


async def test_a_configured_model_stands_in_for_the_list() -> None:
    async with (
        asyncio.timeout(60),
        scripted_server(responder=answering(NO_LIST["404"], WANTS_MESSAGES)) as server,
        openai_api.adapter_for(server, listed_model="mine") as openai_like,
        anthropic_api.adapter_at(server.url, listed_model="mine") as anthropic_like,
    ):
        for adapter in (openai_like, anthropic_like):
            assert [model.id for model in await adapter.list_models()] == ["mine"]


async def test_a_server_that_chats_gets_traffic(start_archer: StartArcher) -> None:
    chats = openai_api.text_stream(["Hello"])
    async with (
        scripted_server(responder=answering(NO_LIST["404"], chats)) as server,
        start_archer(llm_provider="openai", openai_base_url=f"{server.url}/v1", openai_default_model="mine") as archer,
    ):
        await archer.app.state.preparing
        assert (await archer.http.get("/health/ready")).status_code == 200
        state = (await archer.http.get("/health/providers")).json()["openai"]
        assert (state["available"], state["models"]) == (True, [])
        assert [model["id"] for model in (await archer.http.get("/api/v1/models/openai")).json()] == ["mine"]
        asked = {"messages": [{"role": "user", "content": "x"}]}
        assert (await archer.http.post("/api/v1/chat/completions", json=asked)).json()["content"] == "Hello"
