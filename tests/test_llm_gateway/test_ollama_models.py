"""What is known of Ollama's models, and of its health."""

import asyncio
from typing import Any

import pytest

from archer_ws.llm_gateway.ollama.models import MAX_REMEMBERED, ModelMemory, ShownModel, canonical_name, shown_model
from archer_ws.llm_gateway.types import Capability, ModelInfo, ReasoningEffort
from tests.fakes.ollama_api import Answer, adapter_at, ollama_server, ollama_show, ollama_tags
from tests.fakes.scripted_server import Reply, ScriptedServer, forever, scripted_server


def bodies(server: ScriptedServer, path: str) -> list[Any]:
    return [exchange.json() for exchange in server.exchanges if exchange.path == path]


async def test_models_are_listed_with_their_contexts_and_asked_about_once() -> None:
    shown = {
        "llama3.2:latest": ollama_show(131_072, capabilities=["completion", "tools"]),
        "tiny:1b": ollama_show(32_768, architecture="qwen2", parameters='stop "<|end|>"\nnum_ctx    8192'),
        "nomic-embed-text:latest": ollama_show(2048, architecture="bert", capabilities=["embedding"]),
        "broken:latest": Reply.of_json({"error": "no manifest"}, 500),
    }
    answers: dict[str, Answer] = {
        "/api/tags": ollama_tags(*shown),
        "/api/show": lambda exchange: shown[exchange.json()["model"]],
    }
    async with scripted_server(responder=ollama_server(answers)) as server, adapter_at(server.url) as adapter:
        models = await adapter.list_models()
        assert await adapter.list_models() == models
        assert len(bodies(server, "/api/show")) == len(shown)
        assert await adapter.context_window("llama3.2") == 131_072
        assert len(bodies(server, "/api/show")) == len(shown)
    known: list[tuple[str, int | None, list[Capability] | None, list[ReasoningEffort] | None]] = [
        ("llama3.2:latest", 131_072, ["tools"], []),
        ("tiny:1b", 8192, None, None),
        ("broken:latest", None, None, None),
    ]
    assert models == [
        ModelInfo(
            id=name,
            name=name,
            provider="ollama",
            context_window=context,
            capabilities=capabilities,
            reasoning_efforts=efforts,
        )
        for name, context, capabilities, efforts in known
    ]


async def test_models_are_listed_though_asking_about_them_takes_too_long() -> None:
    answers = {"/api/tags": ollama_tags("llama3.2:latest"), "/api/show": Reply(before_headers=[forever()])}
    async with (
        scripted_server(responder=ollama_server(answers)) as server,
        adapter_at(server.url, all_shown_s=0.2) as adapter,
    ):
        assert [(model.id, model.context_window) for model in await adapter.list_models()] == [
            ("llama3.2:latest", None)
        ]
        async with asyncio.timeout(5):
            for asked in server.exchanges[1:]:
                await asked.client_left.wait()


async def test_embedding_models_are_not_listed_where_the_list_itself_tells() -> None:
    embedding = "nomic-embed-text"
    answers = {"/api/tags": ollama_tags(embedding, "llama3.2", **{embedding: ["embedding"]})}
    async with scripted_server(responder=ollama_server(answers)) as server, adapter_at(server.url) as adapter:
        assert (await adapter.health_check()).models == ["llama3.2"]
        assert [model.id for model in await adapter.list_models()] == ["llama3.2"]


async def test_a_context_window_is_asked_for_once_known_or_not() -> None:
    shown = {"llama3.2": ollama_show(131_072), "absent": Reply.of_json({"error": "model 'absent' not found"}, 404)}
    answers = {"/api/show": lambda exchange: shown[exchange.json()["model"]]}
    async with scripted_server(responder=ollama_server(answers)) as server, adapter_at(server.url) as adapter:
        for _ in range(2):
            assert await adapter.context_window("llama3.2") == 131_072
            assert await adapter.context_window("Llama3.2:latest") == 131_072
            assert await adapter.context_window("absent") is None
        assert [body["model"] for body in bodies(server, "/api/show")] == ["llama3.2", "absent"]


async def test_a_healthy_server_tells_its_models_and_its_latency() -> None:
    async with scripted_server(ollama_tags("llama3.2:latest")) as server, adapter_at(server.url) as adapter:
        status = await adapter.health_check()
    assert status.available
    assert status.models == ["llama3.2:latest"]
    assert status.latency_ms is not None
    assert 0 < status.latency_ms < 5000
    assert status.error is None


async def test_a_server_that_does_not_answer_is_unhealthy() -> None:
    async with (
        scripted_server(Reply(before_headers=[forever()])) as server,
        adapter_at(server.url, health_s=0.05) as adapter,
    ):
        status = await adapter.health_check()
    assert not status.available
    assert "did not answer in time" in (status.error or "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("Llama3.2:3B", "llama3.2:3b"),
        ("library/llama3.2", "llama3.2"),
        ("registry.ollama.ai/library/llama3.2", "llama3.2"),
        ("hf.co/bartowski/X-GGUF", "hf.co/bartowski/x-gguf:latest"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
    ],
)
def test_spellings_of_a_model_are_one_model(one: str, other: str) -> None:
    assert canonical_name(one) == canonical_name(other)


def test_different_models_are_different() -> None:
    assert len({canonical_name(name) for name in ("llama3.2", "llama3.2:1b", "ada/llama3.2", "llama3")}) == 4


@pytest.mark.parametrize(
    "reply", [None, [], {}, {"model_info": []}, {"model_info": {"llama.context_length": "x"}, "parameters": 5}]
)
def test_a_model_that_says_nothing_is_unknown(reply: object) -> None:
    assert shown_model(reply) == ShownModel()


def test_memory_is_bounded_and_forgets_what_was_used_least() -> None:
    memory = ModelMemory()
    for number in range(MAX_REMEMBERED):
        memory.put(f"model:{number}", ShownModel(number))
    assert memory.get("model:0") == ShownModel(0)
    memory.put("one more", ShownModel())
    assert memory.get("model:0") == ShownModel(0)
    assert memory.get("model:1") is None


def test_memory_expires() -> None:
    now = 100.0
    memory = ModelMemory(clock=lambda: now)
    memory.put("short", ShownModel(1), keep_s=10)
    memory.put("long", ShownModel(2))
    now = 109.9
    assert memory.get("short") == ShownModel(1)
    now = 110.0
    assert memory.get("short") is None
    assert memory.get("long") == ShownModel(2)


async def test_a_list_without_bounds_is_not_kept() -> None:
    async with (
        scripted_server(Reply([b" " * 1001, forever()])) as server,
        adapter_at(server.url, document_bytes=1000) as adapter,
    ):
        async with asyncio.timeout(20):
            status = await adapter.health_check()
    assert "more than 1000 bytes" in (status.error or "")
