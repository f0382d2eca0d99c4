"""Conversations over HTTP."""

import pytest

from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_stream


async def turn(archer: Archer, text: str, session_id: str = "sky") -> str:
    body = {"session_id": session_id, "messages": [{"role": "user", "content": text}]}
    response = await archer.http.post("/api/v1/chat/completions", json=body)
    assert response.status_code == 200
    assert response.json()["session_id"] == session_id
    return str(response.json()["content"])


async def test_a_conversation_is_remembered(archer: Archer) -> None:
    created = await archer.http.post("/api/v1/sessions", json={"session_id": "sky", "title": "Sky"})
    assert created.status_code == 201
    archer.answer(ollama_stream("Rayleigh"))
    await turn(archer, "Why is the sky blue?")
    archer.answer(ollama_stream("Dust"))
    await turn(archer, "And red at sunset?")
    sent = [exchange for exchange in archer.ollama.exchanges if exchange.path == "/api/chat"][-1].json()["messages"]
    assert [message["content"] for message in sent] == ["Why is the sky blue?", "Rayleigh", "And red at sunset?"]
    detail = (await archer.http.get("/api/v1/sessions/sky")).json()
    assert detail["message_count"] == 4
    assert detail["active_streams"] == []
    assert [(message["role"], message["content"]) for message in detail["messages"]][-1] == ("assistant", "Dust")


async def test_creating_again_gives_the_existing_session(archer: Archer) -> None:
    first = await archer.http.post("/api/v1/sessions", json={"session_id": "one", "metadata": {"a": 1}})
    again = await archer.http.post("/api/v1/sessions", json={"session_id": "one", "title": "other"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.json()["metadata"] == {"a": 1}


async def test_a_body_is_not_needed_to_create_one(archer: Archer) -> None:
    response = await archer.http.post("/api/v1/sessions")
    assert response.status_code == 201
    assert response.json()["session_id"].startswith("ses_")


async def test_sessions_change_and_go(archer: Archer) -> None:
    await archer.http.post("/api/v1/sessions", json={"session_id": "one", "title": "old", "metadata": {"k": "v"}})
    changed = (await archer.http.patch("/api/v1/sessions/one", json={"title": "new"})).json()
    assert (changed["title"], changed["metadata"]) == ("new", {"k": "v"})
    gone = await archer.http.delete("/api/v1/sessions/one")
    assert (gone.status_code, "content-type" in gone.headers) == (204, False)
    gone = await archer.http.get("/api/v1/sessions/one")
    assert (gone.status_code, gone.json()["error"]["kind"]) == (404, "session_not_found")


async def test_lists_come_in_pages_newest_first(archer: Archer) -> None:
    for number in range(5):
        await archer.http.post("/api/v1/sessions", json={"session_id": f"s{number}"})
    seen: list[str] = []
    params: dict[str, str | int] = {"limit": 2}
    while True:
        page = (await archer.http.get("/api/v1/sessions", params=params)).json()
        seen += [item["session_id"] for item in page["items"]]
        if "next_cursor" not in page:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == ["s4", "s3", "s2", "s1", "s0"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1000", "cursor=zebra"])
async def test_bad_pages_are_refused(archer: Archer, query: str) -> None:
    response = await archer.http.get(f"/api/v1/sessions?{query}")
    assert (response.status_code, response.json()["error"]["kind"]) == (422, "invalid_params")


async def test_an_unknown_session_is_told_before_anything_is_sent(archer: Archer) -> None:
    body = {"session_id": "nobody", "messages": [{"role": "user", "content": "x"}]}
    response = await archer.http.post("/api/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["kind"]) == (404, "session_not_found")
    assert archer.ollama.exchanges == []


async def test_too_many_sessions_are_refused(start_archer: StartArcher) -> None:
    async with start_archer(sessions_max=1) as archer:
        assert (await archer.http.post("/api/v1/sessions")).status_code == 201
        refused = await archer.http.post("/api/v1/sessions")
        assert (refused.status_code, refused.json()["error"]["kind"]) == (503, "overloaded")


async def test_metadata_is_bounded(archer: Archer) -> None:
    response = await archer.http.post("/api/v1/sessions", json={"metadata": {"k": "x" * 20_000}})
    assert (response.status_code, response.json()["error"]["errors"][0]["path"]) == (422, "metadata")
