"""Health over HTTP: the process, the default provider, all providers."""

import asyncio
import time

import pytest

from archer_ws.llm_gateway.router import STATES_HOLD_S
from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_tags
from tests.fakes.scripted_server import Reply, forever


async def test_health_is_exactly_the_specification_s(archer: Archer) -> None:
    response = await archer.http.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "healthy", "version": "0.1.0"})


async def test_health_and_liveness_never_ask_a_provider(archer: Archer) -> None:
    assert (await archer.http.get("/health")).status_code == 200
    assert (await archer.http.get("/health/live")).json() == {"status": "alive"}
    assert archer.ollama.exchanges == []


async def test_ready_when_the_default_provider_answers(archer: Archer) -> None:
    archer.answer(ollama_tags())
    await archer.app.state.preparing
    response = await archer.http.get("/health/ready")
    assert response.status_code == 200
    assert response.json()["status"] == "ready"
    assert response.json()["latency_ms"] > 0


async def test_an_ollama_without_the_default_model_is_ready_and_says_what_to_do(archer: Archer) -> None:
    await archer.app.state.preparing
    archer.ollama.responder = lambda _: ollama_tags("qwen3:4b")
    ready = await archer.http.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    states = (await archer.http.get("/health/providers")).json()
    assert states["ollama"]["available"] is True
    for told in (ready.json()["hint"], states["ollama"]["hint"]):
        assert "ollama pull llama3.2" in told
        assert "qwen3:4b" in told


async def test_an_ollama_without_any_model_says_what_to_pull(archer: Archer) -> None:
    await archer.app.state.preparing
    archer.ollama.responder = lambda _: Reply([b'{"models": []}'])
    ready = await archer.http.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["hint"].endswith("run `ollama pull llama3.2`.")


async def test_which_models_a_server_has_is_told_to_who_may_use_it_alone(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="the-token") as archer:
        await archer.app.state.preparing
        archer.ollama.responder = lambda _: ollama_tags("qwen3:4b")
        assert "qwen3" not in (await archer.http.get("/health/ready")).text
        ready = await archer.http.get("/health/ready", headers={"Authorization": "Bearer the-token"})
        assert "qwen3" in ready.text


async def test_not_ready_says_why_and_what_to_do(start_archer: StartArcher) -> None:
    async with start_archer(ollama_host="http://127.0.0.1:9") as archer:
        await archer.app.state.preparing
        response = await archer.http.get("/health/ready")
        assert response.status_code == 503
        report = response.json()
        assert report["status"] == "not_ready"
        assert "127.0.0.1:9" in report["reason"]
        assert "ollama serve" in report["hint"]


async def test_a_default_provider_without_a_key_names_the_variable(start_archer: StartArcher) -> None:
    async with start_archer(llm_provider="openai") as archer:
        await archer.app.state.preparing
        response = await archer.http.get("/health/ready")
        assert response.status_code == 503
        assert "OPENAI_API_KEY" in response.json()["hint"]


async def test_many_at_once_make_one_probe(archer: Archer) -> None:
    await archer.app.state.preparing
    archer.answer(ollama_tags())
    before = len(archer.ollama.exchanges)
    responses = await asyncio.gather(*(archer.http.get("/health/ready") for _ in range(20)))
    assert {response.status_code for response in responses} == {200}
    assert len(archer.ollama.exchanges) == before + 1


async def test_a_draining_server_is_not_ready(archer: Archer) -> None:
    archer.app.state.services.manager.begin_drain()
    response = await archer.http.get("/health/ready")
    assert (response.status_code, response.json()["status"]) == (503, "draining")
    assert (await archer.http.get("/health/live")).status_code == 200


async def test_all_providers_are_asked_side_by_side(archer: Archer) -> None:
    archer.answer(ollama_tags())
    states = (await archer.http.get("/health/providers")).json()
    assert set(states) == {"ollama", "openai", "anthropic", "local"}
    assert states["ollama"]["available"] is True
    assert states["ollama"]["models"] == ["llama3.2:latest"]
    assert (states["openai"]["available"], states["openai"]["configured"]) == (False, False)
    assert "OPENAI_API_KEY" in states["openai"]["hint"]


async def test_however_many_ask_for_the_providers_they_are_asked_once_in_a_moment(
    archer: Archer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await archer.app.state.preparing
    archer.answer(ollama_tags())
    before = len(archer.ollama.exchanges)
    answers = await asyncio.gather(*(archer.http.get("/health/providers") for _ in range(20)))
    answers.append(await archer.http.get("/health/providers"))
    assert {answer.status_code for answer in answers} == {200}
    assert len(archer.ollama.exchanges) == before + 1
    states = archer.app.state.services.router._states
    monkeypatch.setattr(states, "_clock", lambda: time.monotonic() + STATES_HOLD_S)
    await archer.http.get("/health/providers")
    assert len(archer.ollama.exchanges) == before + 2


async def test_without_a_credential_the_providers_tell_only_whether_they_are_there(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="the-token") as archer:
        archer.answer(ollama_tags())
        bare: dict[str, object] = {"latency_ms": None, "error": None, "models": []}
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            states = (await archer.http.get("/health/providers", headers=headers)).json()
            assert states["ollama"] == {"provider": "ollama", "available": True, **bare}
            assert states["openai"] == {"provider": "openai", "available": False, **bare}
        named = (await archer.http.get("/health/providers", headers={"Authorization": "Bearer the-token"})).json()
        assert named["ollama"]["models"] == ["llama3.2:latest"]
        assert "OPENAI_API_KEY" in named["openai"]["hint"]


async def test_why_a_server_is_not_ready_is_told_to_who_may_use_it_alone(start_archer: StartArcher) -> None:
    bare = {"status": "not_ready", "provider": "ollama"}
    foreign = ({"Host": "rebound.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"})
    async with start_archer(ollama_host="http://127.0.0.1:9", auth_token="the-token") as archer:
        await archer.app.state.preparing
        bearer = {"Authorization": "Bearer the-token"}
        for headers in ({}, {"Authorization": "Bearer wrong"}, *({**bearer, **each} for each in foreign)):
            answer = await archer.http.get("/health/ready", headers=headers)
            assert (answer.status_code, answer.json()) == (503, bare)
        assert "127.0.0.1:9" in (await archer.http.get("/health/ready", headers=bearer)).json()["reason"]
    async with start_archer(ollama_host="http://127.0.0.1:9") as archer:
        await archer.app.state.preparing
        for headers in foreign:
            answer = await archer.http.get("/health/ready", headers=headers)
            assert (answer.status_code, answer.json()) == (503, bare)


async def test_the_providers_are_told_to_no_foreign_page_and_under_no_foreign_name(archer: Archer) -> None:
    for headers in ({"Host": "rebound.example"}, {"Origin": "https://evil.example"}):
        answer = await archer.http.get("/health/providers", headers=headers)
        assert (answer.status_code, answer.json()["error"]["kind"]) == (403, "forbidden")
        assert (await archer.http.get("/health/ready", headers=headers)).status_code != 403


async def test_a_stuck_provider_does_not_make_readiness_hang(archer: Archer) -> None:
    await archer.app.state.preparing
    archer.ollama.responder = lambda _: Reply(before_headers=[forever()])
    async with asyncio.timeout(8):
        response = await archer.http.get("/health/ready")
    assert response.status_code == 503
    assert "did not respond" in response.json()["reason"]
