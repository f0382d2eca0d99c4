"""Clients of other APIs that were given a wrong address: told the right one in the form that they show."""

import re
from typing import Any

import httpx
import pytest
import websockets
from openai import AsyncOpenAI, NotFoundError

from archer_ws.api.signposts import foreign_chats
from archer_ws.api.signposts.dialects import Dialect, dialect_of_path, is_familiar
from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_stream

NATIVE = "/api/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hi"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CHAT = {"model": "openai/gpt-4o-mini", "messages": HELLO}

#: What only a client of OpenAI's API puts into a chat.
FOREIGN: dict[str, dict[str, Any]] = {
    "a file": {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]},
    "an image": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    "options of the stream": {"stream": True, "stream_options": {"include_usage": True}},
    "tools": {"tools": [TOOL]},
    "a tool to choose": {"tool_choice": {"type": "function", "function": {"name": "look"}}},
    "a count": {"n": 1},
    "the newer limit": {"max_completion_tokens": 10},
    "probabilities": {"logprobs": False},
    "a developer": {"messages": [{"role": "developer", "content": "Be brief."}, *HELLO]},
    "a tool's result": {"messages": [*HELLO, {"role": "tool", "tool_call_id": "call_1", "content": "42"}]},
}
AGENTS = [
    "ai-sdk/openai-compatible/2.0.92",
    "ai/7.0.135 ai-sdk/openai/3.0.1 runtime/node.js/22",
    "OpenAI/Python 3.54.0",
    "AsyncOpenAI/Python 3.54.0",
    "OpenAI/JS 6.1.0",
    "litellm/1.106.0",
    "codex_cli_rs/0.169.0 (Debian 12)",
]


def told_openai(answer: httpx.Response, right: str) -> str:
    """The message of an error that has OpenAI's form, and names the right base URL."""
    assert answer.status_code == 404, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert right in error["message"]
    return str(error["message"])


@pytest.mark.parametrize("path", [NATIVE, f"{NATIVE}/stream", "/chat/completions", "/api/chat/completions"])
@pytest.mark.parametrize("fields", FOREIGN.values(), ids=FOREIGN)
async def test_a_body_that_only_openai_s_clients_send_is_told_before_the_model_is_paid_for(
    archer: Archer, path: str, fields: dict[str, Any]
) -> None:
    answer = await archer.http.post(path, json={**CHAT, **fields})
    told_openai(answer, f"http://{archer.address}/v1")
    assert not archer.ollama.exchanges


@pytest.mark.parametrize("agent", AGENTS)
async def test_a_client_that_names_itself_is_told_so_whatever_it_sends(archer: Archer, agent: str) -> None:
    named = {"User-Agent": agent}
    for path in (NATIVE, "/chat/completions", "/api/v1/v1/chat/completions", "/v1/v1/chat/completions"):
        told_openai(await archer.http.post(path, json=CHAT, headers=named), f"http://{archer.address}/v1")
    told_openai(await archer.http.get("/api/v1/models", headers=named), f"http://{archer.address}/v1")
    assert not archer.ollama.exchanges


@pytest.mark.parametrize("end", ["/v1/v1", "/v1/chat/completions", "/v1/chat/completions/v1", "/api/v1/v1"])
async def test_a_base_url_with_too_much_at_its_end_is_told_as_such(archer: Archer, end: str) -> None:
    right = f"http://{archer.address}/v1"
    async with AsyncOpenAI(base_url=f"http://{archer.address}{end}", api_key="x", max_retries=0) as client:
        asked: Any = {"model": "x", "messages": HELLO}
        for call in (client.chat.completions.create(**asked), client.models.retrieve("x")):
            with pytest.raises(NotFoundError, match=re.escape(f'base_url="{right}"')):
                await call


async def test_a_missing_route_below_the_right_base_url_is_not_taken_for_a_wrong_base_url(archer: Archer) -> None:
    async with AsyncOpenAI(base_url=f"http://{archer.address}/v1", api_key="x", max_retries=0) as client:
        for call in (client.chat.completions.retrieve("chatcmpl-1"), client.embeddings.create(model="x", input="Hi")):
            with pytest.raises(NotFoundError, match="routes are POST /v1/chat/completions"):
                await call


@pytest.mark.parametrize("path", ["/api/v1/v1/chat/completions", "/chat/completions", "/v1/v1/chat/completions"])
async def test_the_message_names_the_right_base_url_also_to_who_does_not_show_who_he_is(
    archer: Archer, path: str
) -> None:
    answer = await archer.http.post(path, json=CHAT)
    assert answer.status_code == 404
    assert f"http://{archer.address}/v1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/responses", "/api/v1/responses", "/responses", "/v1/responses/resp_1/cancel"])
async def test_the_responses_api_is_told_where_chat_completions_are(archer: Archer, path: str) -> None:
    answer = await archer.http.post(path, json={"model": "x", "input": "Hi"})
    message = told_openai(answer, f"http://{archer.address}/v1")
    assert "Responses API" in message
    assert "POST /v1/chat/completions" in message


@pytest.mark.parametrize(
    "path", ["/v1/messages?beta=true", "/messages", "/api/v1/messages", "/v1/messages/count_tokens"]
)
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "sk-ant-x", "anthropic-version": "2023-06-01"}])
async def test_anthropic_s_clients_are_told_in_their_form(archer: Archer, path: str, headers: dict[str, str]) -> None:
    answer = await archer.http.post(path, json={"model": "x", "max_tokens": 9, "messages": HELLO}, headers=headers)
    body = answer.json()
    assert (answer.status_code, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")
    assert f"http://{archer.address}/v1" in body["error"]["message"]
    assert body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/chat"), ("POST", "/api/generate"), ("GET", "/api/tags"), ("POST", "/v1/api/chat")],
)
async def test_ollama_s_clients_are_told_in_text(archer: Archer, method: str, path: str) -> None:
    answer = await archer.http.request(method, path, json=CHAT if method == "POST" else None)
    assert answer.status_code == 404
    (text,) = answer.json().values()
    assert f"http://{archer.address}/v1" in text


@pytest.mark.parametrize(
    ("path", "form"),
    [("/v1/messages", "error"), ("/api/tags", None), ("/responses", "invalid_request_error")],
)
async def test_a_missing_credential_is_told_in_their_forms_too(
    start_archer: StartArcher, path: str, form: str | None
) -> None:
    async with start_archer(auth_token="the-real-token") as archer:
        answer = await archer.http.post(path, json={})
        body = answer.json()
        assert answer.status_code == 401
        if form is None:
            assert isinstance(body["error"], str)
        elif form == "error":
            assert (body["type"], body["error"]["type"]) == ("error", "authentication_error")
        else:
            assert body["error"]["code"] == "invalid_api_key"


NATIVE_BODIES: dict[str, dict[str, Any]] = {
    "the least": {},
    "everything": {"provider": "ollama", "temperature": 0.1, "max_tokens": 9, "stop": ["x"], "top_p": 0.5, "seed": 1},
    "fields nobody knows": {"user": "ada", "metadata": {"a": 1}, "store": True, "frobnicate": [1]},
    "parts of text": {"messages": PARTS},
    "a flat tool": {"tools": [{"name": "look", "parameters": {"type": "object"}}], "tool_choice": "auto"},
    "a format": {"response_format": {"type": "json_object"}},
    "marks that are null": {"stream_options": None, "n": None, "tools": None, "response_format": None},
}


@pytest.mark.parametrize("agent", ["python-httpx/0.28", "Mozilla/5.0", "reqwest/0.12", "Java-http-client/17", ""])
@pytest.mark.parametrize("fields", NATIVE_BODIES.values(), ids=NATIVE_BODIES)
async def test_our_own_clients_are_never_taken_for_others(archer: Archer, fields: dict[str, Any], agent: str) -> None:
    archer.answer(ollama_stream("Hi"))
    body = {"model": "llama3.2", "messages": HELLO, **fields}
    answer = await archer.http.post(NATIVE, json=body, headers={"User-Agent": agent})
    assert answer.json()["content"] == "Hi"


@pytest.mark.parametrize("name", ["models", "messages", "responses", "completions", "embeddings"])
async def test_names_of_our_own_that_look_like_others_paths_are_ours(archer: Archer, name: str) -> None:
    missing = await archer.http.get(f"/api/v1/sessions/{name}")
    assert missing.json()["error"]["kind"] == "session_not_found"
    assert (await archer.http.get(f"/api/v1/streams/{name}")).json()["error"]["kind"] == "stream_not_found"
    assert (await archer.http.get(f"/api/v1/models/{name}")).json()["error"]["kind"] == "not_found"


async def test_a_wrong_message_of_our_own_form_is_told_by_its_path(archer: Archer) -> None:
    contents: list[Any] = [(7, ""), ({}, ""), ([], ""), (["Hi"], ".0"), ([{"type": "image", "url": "x"}], ".0.url")]
    for content, place in contents:
        answer = await archer.http.post(NATIVE, json={"messages": [{"role": "user", "content": content}]})
        assert answer.status_code in {400, 422}
        assert answer.json()["error"]["errors"][0]["path"] == f"messages.0.content{place}"
    answer = await archer.http.post(NATIVE, json={"messages": [{"role": ["x"], "content": "Hi"}]})
    assert answer.json()["error"]["errors"][0]["path"] == "messages.0.role"


def test_a_body_of_any_shape_is_judged() -> None:
    bodies: list[Any] = [None, 1, "x", [], [1], {"messages": 1}, {"messages": [1, {"content": None}]}, {"tools": {}}]
    for body in bodies:
        assert not foreign_chats.is_foreign_chat(body)
        assert not foreign_chats.has_foreign_messages(body)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/", "/responses", "/api/v1/responses"])
async def test_a_socket_for_responses_is_told_to_use_post_at_once(archer: Archer, path: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with websockets.connect(f"ws://{archer.address}{path}", proxy=None):
            pass
    response = caught.value.response
    assert response.status_code == 426
    assert response.headers["upgrade"] == "HTTP/1.1"
    assert b"POST" in (response.body or b"")
    assert f"http://{archer.address}/v1".encode() in (response.body or b"")


@pytest.mark.parametrize(
    "part",
    ["/models/", "/messages/batches/", "/responses/", "/api/chat/", "/v1/", "/v1/chat/completions/models/"],
)
async def test_a_long_path_with_a_line_end_is_read_once(archer: Archer, part: str) -> None:
    path = part * (60_000 // len(part))
    answer = await archer.http.get(f"{path}%0Ax")
    assert answer.status_code == 404
    # Of a path as long as this, a search that begins again at each place would never end.
    endless = f"{part * 1_000_000}\nx"
    assert dialect_of_path(endless) in {None, Dialect.ANTHROPIC, Dialect.OPENAI}
    assert is_familiar(endless) == (part in {"/models/", "/v1/chat/completions/models/"})


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/messages/batches/a\nb", Dialect.ANTHROPIC),
        ("/a\nb/responses", Dialect.OPENAI),
        ("/api/v1/sessions/a\nb/messages", None),
    ],
)
def test_a_path_with_a_line_end_is_whose_it_would_be_without(path: str, dialect: Dialect | None) -> None:
    assert dialect_of_path(path) is dialect
