"""OpenAI's routes without an SDK between: errors in OpenAI's form whatever goes wrong, browsers, slow providers."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from archer_ws.core.limits import Limits
from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.scripted_server import Wait, forever
from tests.test_api.openai_callers import HELLO

PATH = "/v1/chat/completions"
BODY = {"model": "llama3.2", "messages": HELLO}
JSON = {"content-type": "application/json"}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error, held to OpenAI's form."""
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return error


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "code"),
    [
        ("GET", "/v1", {}, 404, "method_not_found"),
        ("GET", "/v1/nothing", {}, 404, "method_not_found"),
        ("POST", "/v1/embeddings", {"json": {}}, 404, "method_not_found"),
        ("GET", PATH, {}, 405, "method_not_found"),
        ("DELETE", "/v1/models/x", {}, 405, "method_not_found"),
        ("POST", PATH, {"content": b"{", "headers": JSON}, 400, "parse_error"),
        ("POST", PATH, {"content": b'{"messages": NaN}', "headers": JSON}, 400, "parse_error"),
        ("POST", PATH, {"content": b"", "headers": JSON}, 400, "invalid_value"),
        ("POST", PATH, {"content": b'"hello"', "headers": JSON}, 400, "invalid_value"),
        ("POST", PATH, {"content": b"hello", "headers": {"content-type": "text/plain"}}, 400, "invalid_value"),
        ("POST", PATH, {"json": {}}, 400, "invalid_value"),
        ("POST", PATH, {"content": b"x" * 3_000_000, "headers": JSON}, 413, "content_too_large"),
        ("POST", PATH, {"json": {"messages": [{"role": "user", "content": "x" * 2000}]}}, 413, "content_too_large"),
        ("GET", "/v1/models", {"headers": {"host": "evil.example"}}, 403, "forbidden"),
        ("GET", "/v1/models", {"headers": {"origin": "https://evil.example"}}, 403, "forbidden"),
        ("GET", "/v1/models/openai/gpt-4o", {}, 400, "provider_not_configured"),
    ],
)
async def test_whatever_is_wrong_is_told_in_openai_s_form(
    start_archer: StartArcher, method: str, path: str, given: dict[str, Any], *, status: int, code: str
) -> None:
    async with start_archer(max_content_bytes=1000) as archer:
        answer = await archer.http.request(method, path, **given)
        assert (answer.status_code, error_of(answer)["code"]) == (status, code)


async def test_a_missing_route_names_those_there_are(archer: Archer) -> None:
    error = error_of(await archer.http.post("/v1/responses", json={}))
    assert "POST /v1/chat/completions" in error["message"]


async def test_no_credential_is_told_in_openai_s_form(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="the-real-token") as archer:
        answer = await archer.http.post(PATH, json=BODY)
        assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_defect_is_told_in_openai_s_form_and_not_tried_again(
    archer: Archer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(archer.app.state.services.router, "list_all_models", broken)
    answer = await archer.http.get("/v1/models")
    assert (answer.status_code, error_of(answer)["type"]) == (500, "server_error")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "text, or a list"),
        ({"messages": [{"role": "user", "content": {"type": "text"}}]}, "messages[0].content", "text, or a list"),
        ({"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0]", "an object"),
        ({"messages": ["Hi"]}, "messages[0]", "an object"),
        ({"response_format": "json"}, "response_format", "an object"),
    ],
)
async def test_a_value_of_a_wrong_type_is_told_what_it_should_be(
    archer: Archer, fields: dict[str, Any], param: str, said: str
) -> None:
    error = error_of(await archer.http.post(PATH, json={**BODY, **fields}))
    assert (error["param"], error["code"]) == (param, "invalid_value")
    assert said in error["message"]
    assert "instance of" not in error["message"]


async def test_errors_elsewhere_stay_ours(archer: Archer) -> None:
    for path in ("/api/v1/nothing", "/v1x", "/nothing"):
        assert (await archer.http.get(path)).json()["error"]["kind"] == "method_not_found"


async def test_without_a_model_the_default_answers(archer: Archer) -> None:
    archer.answer(ollama_stream("Hi"))
    answer = await archer.http.post(PATH, json={"messages": HELLO, "unknown": {"field": 1}})
    assert answer.json()["model"] == "llama3.2"
    assert answer.headers["x-stream-id"] == answer.json()["id"]


async def test_what_was_asked_reaches_the_provider(archer: Archer) -> None:
    archer.answer(ollama_stream("Hi"))
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    fields = {"max_tokens": 5, "max_completion_tokens": 9, "temperature": 0.1, "top_p": 0.5, "seed": 3, "stop": "end"}
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    await archer.http.post(PATH, json={"messages": messages, **fields})
    sent = archer.ollama.exchanges[-1].json()
    assert [(message["role"], message["content"]) for message in sent["messages"]] == [
        ("system", "Be brief."),
        ("user", "one\ntwo"),
    ]
    options = sent["options"]
    assert {name: options[name] for name in ("num_predict", "temperature", "top_p", "seed", "stop")} == {
        "num_predict": 9, "temperature": 0.1, "top_p": 0.5, "seed": 3, "stop": ["end"],
    }  # fmt: skip


async def test_a_page_may_use_the_sdk_and_read_what_it_needs(archer: Archer) -> None:
    origin = {"origin": "http://localhost:1420"}
    asked = "authorization,content-type,x-stainless-lang,x-stainless-retry-count,x-stainless-timeout"
    preflight = await archer.http.options(
        PATH, headers={**origin, "access-control-request-method": "POST", "access-control-request-headers": asked}
    )
    assert preflight.status_code == 200
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in asked.split(","))
    answer = await archer.http.get("/v1/models/openai/x", headers=origin)
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert answer.headers["access-control-allow-origin"] == origin["origin"]
    assert all(name in exposed for name in ("x-should-retry", "retry-after-ms", "x-request-id", "x-stream-id"))


async def test_a_full_server_refuses_here_as_everywhere(start_archer: StartArcher) -> None:
    async with start_archer(max_streams=1) as archer:
        archer.answer(ollama_stream("first", forever()))
        async with archer.http.stream("POST", PATH, json={**BODY, "stream": True}) as running:
            assert running.status_code == 200
            refused = await archer.http.post(PATH, json=BODY)
            elsewhere = await archer.http.post("/api/v1/chat/completions", json={"messages": HELLO})
    assert (refused.status_code, error_of(refused)["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == elsewhere.headers["retry-after"]
    assert elsewhere.json()["error"]["kind"] == "overloaded"


class TestASlowProvider:
    """Its stream's head waits for the first text, so that an error has its status; but it does not wait for ever."""

    async def test_does_not_keep_the_client_in_silence(self, start_archer: StartArcher) -> None:
        go_on = asyncio.Event()
        async with asyncio.timeout(20), start_archer(limits=Limits(events_keep_alive_s=0.05)) as archer:
            archer.answer(ollama_stream("late", before_headers=[Wait(go_on)]))
            async with archer.http.stream("POST", PATH, json={**BODY, "stream": True}) as answer:
                assert answer.status_code == 200
                pieces = answer.aiter_raw()
                assert (await anext(pieces)).startswith(b": keep-alive\n\n")
                go_on.set()
                rest = b"".join([piece async for piece in pieces])
        assert b'"content":"late"' in rest
        assert rest.endswith(b"data: [DONE]\n\n")

    @pytest.mark.usefixtures("every_reader_stops_when_told")
    @pytest.mark.parametrize("stream", [True, False])
    async def test_is_left_at_once_when_the_client_leaves(self, archer: Archer, stream: bool) -> None:
        archer.answer(ollama_stream(before_headers=[forever()]))
        host, _, port = archer.address.partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        content = json.dumps({**BODY, "stream": stream}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: {archer.address}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        exchange = await archer.ollama.exchange(0)
        writer.transport.abort()
        async with asyncio.timeout(10):
            await exchange.client_left.wait()
