"""Conversations over HTTP: entity tags, copies, searches, and forgetting all (protocol section 26)."""

import pytest

from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_stream


async def make(archer: Archer, session_id: str = "sky") -> str:
    """A conversation; its tag."""
    made = await archer.http.post("/api/v1/sessions", json={"session_id": session_id})
    assert made.status_code == 201
    return str(made.headers["etag"])


async def ask(archer: Archer, text: str, session_id: str = "sky") -> None:
    archer.answer(ollama_stream("Rayleigh"))
    body = {"session_id": session_id, "messages": [{"role": "user", "content": text}]}
    assert (await archer.http.post("/api/v1/chat/completions", json=body)).status_code == 200


async def test_an_answer_that_is_one_session_has_its_version_as_a_tag(archer: Archer) -> None:
    assert await make(archer) == '"1"'
    assert (await archer.http.post("/api/v1/sessions", json={"session_id": "sky"})).headers["etag"] == '"1"'
    changed = await archer.http.patch("/api/v1/sessions/sky", json={"title": "Sky"})
    assert (changed.headers["etag"], changed.json()["version"]) == ('"2"', 2)
    assert (await archer.http.get("/api/v1/sessions/sky")).headers["etag"] == '"2"'
    assert (await archer.http.head("/api/v1/sessions/sky")).headers["etag"] == '"2"'
    assert (await archer.http.post("/api/v1/sessions/sky/fork")).headers["etag"] == '"1"'


@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', '"7", "1"', "*", '"1" , "x"', '"1",'])
async def test_a_change_is_made_where_a_tag_matches(archer: Archer, tag: str) -> None:
    await make(archer)
    changed = await archer.http.patch("/api/v1/sessions/sky", json={"title": "t"}, headers={"If-Match": tag})
    assert changed.status_code == 200, changed.text
    await archer.http.post("/api/v1/sessions", json={"session_id": "sea"})
    assert (await archer.http.delete("/api/v1/sessions/sea", headers={"If-Match": tag})).status_code == 204


@pytest.mark.parametrize("tag", ['"2"', 'W/"2"', '"abc"', '""', '"1-gzip"', '"7", "8"', '"٣"'.encode(), '"1" ,"2"'])
async def test_nothing_is_changed_where_no_tag_matches(archer: Archer, tag: str | bytes) -> None:
    await make(archer)
    await archer.http.patch("/api/v1/sessions/sky", json={})
    await archer.http.patch("/api/v1/sessions/sky", json={})
    for method in ("PATCH", "DELETE"):
        body = {"title": "t"} if method == "PATCH" else None
        value = tag if isinstance(tag, bytes) else tag.encode()
        refused = await archer.http.request(method, "/api/v1/sessions/sky", json=body, headers={b"If-Match": value})
        error = refused.json()["error"]
        assert (refused.status_code, error["kind"]) == (409, "conflict"), refused.text
        assert [each["path"] for each in error["errors"]] == ["header.if-match"]
        assert error["message"].startswith("header.if-match: ")
        assert error["hint"]
    session = (await archer.http.get("/api/v1/sessions/sky")).json()
    assert "title" not in session


@pytest.mark.parametrize("tag", ["3", "", "abc", '"3', '"3" "4"', "W/3", ",", "w/", "x" * 2000])
async def test_what_is_no_entity_tag_is_told(archer: Archer, tag: str) -> None:
    await make(archer)
    for method in ("PATCH", "DELETE"):
        body = {"title": "t"} if method == "PATCH" else None
        refused = await archer.http.request(method, "/api/v1/sessions/sky", json=body, headers={"If-Match": tag})
        assert (refused.status_code, refused.json()["error"]["kind"]) == (422, "invalid_params"), refused.text
        assert refused.json()["error"]["errors"][0]["path"] == "header.if-match"


async def test_a_version_in_the_body_counts_as_well(archer: Archer) -> None:
    await make(archer)
    stale = await archer.http.patch("/api/v1/sessions/sky", json={"title": "t", "version": 7})
    assert (stale.status_code, stale.json()["error"]["errors"][0]["path"]) == (409, "version")
    other = await archer.http.patch(
        "/api/v1/sessions/sky", json={"title": "t", "version": 1}, headers={"If-Match": '"2"'}
    )
    assert other.status_code == 409
    both = await archer.http.patch(
        "/api/v1/sessions/sky", json={"title": "t", "version": 1}, headers={"If-Match": '"1"'}
    )
    assert both.status_code == 200


async def test_a_page_of_another_origin_may_read_the_tag(start_archer: StartArcher) -> None:
    origin = "http://localhost:5173"
    async with start_archer(cors_origins=[origin]) as archer:
        made = await archer.http.post("/api/v1/sessions", headers={"Origin": origin})
        assert "ETag" in made.headers["access-control-expose-headers"]


async def test_a_conversation_is_copied_over_http(archer: Archer) -> None:
    await make(archer)
    await ask(archer, "Why?")
    messages = (await archer.http.get("/api/v1/sessions/sky")).json()["messages"]
    body = {"before": messages[1]["message_id"], "new_session_id": "copy"}
    copied = await archer.http.post("/api/v1/sessions/sky/fork", json=body)
    assert (copied.status_code, copied.json()["session_id"], copied.json()["message_count"]) == (201, "copy", 1)
    again = await archer.http.post("/api/v1/sessions/sky/fork", json=body)
    assert (again.status_code, again.json()["error"]["kind"]) == (409, "conflict")
    assert (await archer.http.post("/api/v1/sessions/nobody/fork")).status_code == 404


async def test_search_is_a_route_and_no_session(archer: Archer) -> None:
    await make(archer)
    await ask(archer, "Why is the sky blue?")
    found = (await archer.http.get("/api/v1/sessions/search", params={"q": "BLUE why"})).json()
    assert [item["snippet"] for item in found["items"]] == ["Why is the sky blue?"]
    for query in ({}, {"q": ""}, {"q": " "}, {"q": "x" * 10_240}, {"q": "x " * 17}, {"q": "x", "cursor": "zebra"}):
        refused = await archer.http.get("/api/v1/sessions/search", params=query)
        assert (refused.status_code, refused.json()["error"]["kind"]) == (422, "invalid_params"), query
        if "cursor" not in query:
            assert [each["path"] for each in refused.json()["error"]["errors"]] == ["query.q"]
    named = await archer.http.post("/api/v1/sessions", json={"session_id": "search"})
    assert (named.status_code, named.json()["error"]["errors"][0]["path"]) == (422, "session_id")


async def test_a_list_is_sorted_and_narrowed_as_asked(archer: Archer) -> None:
    for session_id in ("a", "b"):
        await make(archer, session_id)
    await archer.http.patch("/api/v1/sessions/a", json={"archived": True})

    async def listed(query: str) -> list[str]:
        page = await archer.http.get(f"/api/v1/sessions?{query}")
        assert page.status_code == 200
        return [item["session_id"] for item in page.json()["items"]]

    assert await listed("") == ["a", "b"]
    assert await listed("order=created") == ["b", "a"]
    assert await listed("archived=true") == ["a"]
    assert await listed("archived=false") == ["b"]
    assert (await archer.http.get("/api/v1/sessions?order=size")).status_code == 422


@pytest.mark.parametrize("query", ["", "?all=false", "?all=", "?all=perhaps", "?ALL=true"])
async def test_all_are_forgotten_only_by_that_word(archer: Archer, query: str) -> None:
    await make(archer)
    refused = await archer.http.delete(f"/api/v1/sessions{query}")
    assert (refused.status_code, refused.json()["error"]["kind"]) == (422, "invalid_params")
    assert refused.json()["error"]["hint"]
    assert len((await archer.http.get("/api/v1/sessions")).json()["items"]) == 1


async def test_all_of_a_principal_are_forgotten_and_no_others(start_archer: StartArcher) -> None:
    async with start_archer(auth_tokens={"ada": "a" * 20, "bob": "b" * 20}) as archer:
        ada, bob = ({"Authorization": f"Bearer {name * 20}"} for name in "ab")
        for number in range(3):
            await archer.http.post("/api/v1/sessions", json={"session_id": f"s{number}"}, headers=ada)
        await archer.http.post("/api/v1/sessions", json={"session_id": "s0"}, headers=bob)
        gone = await archer.http.delete("/api/v1/sessions?all=true", headers=ada)
        assert (gone.status_code, gone.json()) == (200, {"deleted": 3})
        assert (await archer.http.get("/api/v1/sessions", headers=ada)).json()["items"] == []
        assert len((await archer.http.get("/api/v1/sessions", headers=bob)).json()["items"]) == 1


async def test_an_answer_over_http_says_which_messages_it_stored(archer: Archer) -> None:
    await make(archer)
    archer.answer(ollama_stream("Rayleigh"))
    body = {"session_id": "sky", "messages": [{"role": "user", "content": "Why?", "message_id": "mine"}]}
    answer = (await archer.http.post("/api/v1/chat/completions", json=body)).json()
    messages = (await archer.http.get("/api/v1/sessions/sky")).json()["messages"]
    assert answer["message_ids"] == ["mine", messages[1]["message_id"]]
    assert (
        "message_ids"
        not in (await archer.http.post("/api/v1/chat/completions", json={**body, "session_id": None})).json()
    )
