"""Models over HTTP, and the documents that describe the routes."""

import asyncio
import threading

import pytest

from archer_ws.api.openapi import document
from tests.conftest import Archer, StartArcher


async def test_models_of_every_provider_that_answers(archer: Archer) -> None:
    archer.answer(lambda _: (_ for _ in ()).throw(AssertionError("no chat was asked for")))
    models = (await archer.http.get("/api/v1/models")).json()
    ollama = [model for model in models if model["provider"] == "ollama"]
    assert ollama == [
        {
            "id": "llama3.2:latest",
            "name": "llama3.2:latest",
            "provider": "ollama",
            "context_window": 4096,
            "supports_streaming": True,
        }
    ]


async def test_one_provider_s_models(archer: Archer) -> None:
    archer.answer(lambda _: (_ for _ in ()).throw(AssertionError("no chat was asked for")))
    models = (await archer.http.get("/api/v1/models/ollama")).json()
    assert [model["id"] for model in models] == ["llama3.2:latest"]


async def test_an_unconfigured_provider_s_models_say_what_is_missing(archer: Archer) -> None:
    response = await archer.http.get("/api/v1/models/openai")
    assert (response.status_code, response.json()["error"]["kind"]) == (503, "provider_not_configured")


async def test_an_unknown_provider_is_told_the_known_ones(archer: Archer) -> None:
    response = await archer.http.get("/api/v1/models/zebra")
    assert (response.status_code, response.json()["error"]["kind"]) == (404, "not_found")
    assert "ollama, openai, anthropic, local" in response.json()["error"]["hint"]


async def test_a_provider_that_is_away_leaves_the_list_standing(start_archer: StartArcher) -> None:
    async with start_archer(ollama_host="http://127.0.0.1:9") as archer:
        response = await archer.http.get("/api/v1/models")
        assert response.status_code == 200
        assert not [model for model in response.json() if model["provider"] == "ollama"]


async def test_others_are_served_while_the_document_is_made(archer: Archer, monkeypatch: pytest.MonkeyPatch) -> None:
    has_begun, may_end, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def slow(*_: object) -> dict[str, object]:
        loop.call_soon_threadsafe(has_begun.set)
        return {"is_late": not may_end.wait(10)}

    monkeypatch.setattr(document, "_document", slow)
    asked = [asyncio.create_task(archer.http.get("/openapi.json")) for _ in range(2)]
    async with asyncio.timeout(30):
        await has_begun.wait()
        assert (await archer.http.get("/health/live")).status_code == 200
        may_end.set()
        assert [(await each).json() for each in asked] == [{"is_late": False}] * 2


async def test_the_documents_describe_every_route_with_an_example(archer: Archer) -> None:
    assert (await archer.http.get("/docs")).status_code == 200
    told = (await archer.http.get("/openapi.json")).json()
    chat = told["paths"]["/api/v1/chat/completions"]["post"]
    assert chat["requestBody"]["content"]["application/json"]["examples"]["plain"]["value"]["messages"]
    assert set(told["paths"]) == {
        "/health",
        "/health/live",
        "/health/ready",
        "/health/providers",
        "/api/v1/chat/completions",
        "/api/v1/chat/completions/stream",
        "/api/v1/streams",
        "/api/v1/streams/{stream_id}",
        "/api/v1/streams/{stream_id}/events",
        "/api/v1/streams/{stream_id}/steer",
        "/api/v1/streams/{stream_id}/tool_calls/{call_id}/approval",
        "/api/v1/streams/{stream_id}/tool_calls/{call_id}/claim",
        "/api/v1/streams/{stream_id}/tool_calls/{call_id}/result",
        "/api/v1/sessions",
        "/api/v1/sessions/export",
        "/api/v1/sessions/import",
        "/api/v1/sessions/search",
        "/api/v1/sessions/{session_id}",
        "/api/v1/sessions/{session_id}/fork",
        "/api/v1/files",
        "/api/v1/files/{file_id}",
        "/api/v1/models",
        "/api/v1/models/{provider}",
        "/api/v1/ws/tickets",
        "/v1/chat/completions",
        "/v1/models",
        "/v1/models/{model_id}",
    }


async def test_a_ticket_is_made_for_the_principal_and_its_origin(archer: Archer) -> None:
    made = (await archer.http.post("/api/v1/ws/tickets", json={"origin": "http://localhost:1420"})).json()
    assert made["expires_in_s"] == 30
    tickets = archer.app.state.services.tickets
    assert tickets.redeem(made["ticket"], "http://localhost:1420") == "local"


async def test_a_ticket_s_origin_is_read_as_browsers_spell_it(archer: Archer) -> None:
    made = (await archer.http.post("/api/v1/ws/tickets", json={"origin": "HTTPS://App.Example:443"})).json()
    assert archer.app.state.services.tickets.redeem(made["ticket"], "https://app.example") == "local"


@pytest.mark.parametrize("origin", ["https://app.example/", "app.example", "null", "nonsense", "https://*.example", ""])
async def test_a_ticket_that_no_page_could_use_is_not_made(archer: Archer, origin: str) -> None:
    response = await archer.http.post("/api/v1/ws/tickets", json={"origin": origin})
    error = response.json()["error"]
    assert (response.status_code, error["kind"]) == (422, "invalid_params")
    assert [found["path"] for found in error["errors"]] == ["origin"]
    assert "no path" in error["hint"]


async def test_a_foreign_origin_or_host_is_refused(archer: Archer) -> None:
    response = await archer.http.get("/api/v1/models", headers={"origin": "https://evil.example"})
    assert (response.status_code, response.json()["error"]["kind"]) == (403, "forbidden")
    response = await archer.http.get("/api/v1/models", headers={"host": "evil.example"})
    assert response.status_code == 403
    response = await archer.http.get("/health", headers={"origin": "http://localhost:1420"})
    assert response.headers["access-control-allow-origin"] == "http://localhost:1420"
    assert "X-Stream-ID" in response.headers["access-control-expose-headers"]


@pytest.mark.parametrize(("origin", "allowed"), [("https://evil.example", "*"), ("http://localhost:1420",) * 2])
async def test_any_page_may_read_that_the_server_is_alive_and_no_more(
    archer: Archer, origin: str, allowed: str
) -> None:
    response = await archer.http.get("/health/live", headers={"origin": origin})
    assert (response.json(), response.headers["access-control-allow-origin"]) == ({"status": "alive"}, allowed)
    for path in ("/health", "/health/ready", "/api/v1/models"):
        response = await archer.http.get(path, headers={"origin": origin})
        assert response.headers.get("access-control-allow-origin") != "*"
