"""Requests for generations skip the layers that have nothing to say to them, and nothing else about them changes."""

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from archer_ws import main
from archer_ws.api.http.hot_routes import HotApplication
from archer_ws.api.http.trailing_slashes import TrailingSlashes
from archer_ws.api.routes import chat
from archer_ws.api.security.credentials import CredentialGuard
from tests.conftest import MakeSettings, StartArcher
from tests.fakes.ollama_api import ollama_error, ollama_stream

OWN, EVENTS, OPENAI = "/api/v1/chat/completions", "/api/v1/chat/completions/stream", "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
JSON = {"content-type": "application/json"}
TOKEN = {"authorization": "Bearer token-of-alice"}
TWO_TOKENS = ("Bearer x", TOKEN["authorization"])
ORIGIN = {"origin": "http://localhost:1420"}
BODY = json.dumps(QUESTION).encode()

#: The values of a header field that comes several times.
Values = tuple[str, ...]
#: Method, path, header fields and body: those that are served, and those that some layer refuses or changes.
REQUESTS: Mapping[str, tuple[str, str, Mapping[str, str | Values], bytes]] = {
    **{f"served {path}": ("POST", path, JSON, BODY) for path in (OWN, EVENTS, OPENAI)},
    **{f"wrong host {path}": ("POST", path, {**JSON, "host": "evil.com"}, BODY) for path in (OWN, OPENAI)},
    **{f"wrong token {path}": ("POST", path, {**JSON, "authorization": "Bearer x"}, BODY) for path in (OWN, OPENAI)},
    **{f"too large {path}": ("POST", path, JSON, b" " * 2_000_000 + BODY) for path in (OWN, OPENAI)},
    **{f"not JSON {path}": ("POST", path, JSON, b"{") for path in (OWN, OPENAI)},
    **{f"not as JSON {path}": ("POST", path, {"content-type": "text/plain"}, BODY) for path in (OWN, OPENAI)},
    **{f"wrong field {path}": ("POST", path, JSON, b'{"messages": [], "seed": "x"}') for path in (OWN, OPENAI)},
    **{f"no body {path}": ("POST", path, {}, b"") for path in (OWN, OPENAI)},
    **{f"{method} {path}": (method, path, {}, b"") for path in (OWN, OPENAI) for method in ("GET", "HEAD", "PUT")},
    **{f"two tokens {path}": ("POST", path, {**JSON, "authorization": TWO_TOKENS}, BODY) for path in (OWN, OPENAI)},
    "the same, the other first": ("POST", OWN, {**JSON, "authorization": TWO_TOKENS[::-1]}, BODY),
    "two types": ("POST", OWN, {"content-type": ("text/plain", "application/json")}, BODY),
    "of a page": ("POST", OWN, {**JSON, **ORIGIN}, BODY),
    "of a foreign page": ("POST", OWN, {**JSON, "origin": "http://evil.com"}, BODY),
    "of a foreign page without its origin": ("POST", OWN, {**JSON, "sec-fetch-site": "cross-site"}, BODY),
    "served to a page of this server": ("POST", OWN, {**JSON, "sec-fetch-site": "same-origin"}, BODY),
    "a preflight": ("OPTIONS", OWN, {**ORIGIN, "access-control-request-method": "POST"}, b""),
    "a slash more": ("POST", f"{OWN}/", JSON, BODY),
    "of an OpenAI client": ("POST", OWN, {**JSON, "x-stainless-lang": "python"}, BODY),
    "in OpenAI's form": ("POST", OWN, JSON, json.dumps({**QUESTION, "n": 1}).encode()),
    "no such provider": ("POST", OWN, JSON, json.dumps({**QUESTION, "provider": "none"}).encode()),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_response_is_byte_for_byte_the_one_that_the_layers_give(
    start_archer: StartArcher, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    method, path, fields, body = REQUESTS[name]
    given = []
    for application in (HotApplication, FastAPI):
        monkeypatch.setattr("archer_ws.main.HotApplication", application)
        async with start_archer(
            auth_tokens={"alice": "token-of-alice"}, cors_origins=[ORIGIN["origin"]], max_content_bytes=100_000
        ) as archer:
            archer.answer(ollama_stream("Hi"))
            answer = await archer.http.request(method, path, headers=_lines(fields), content=body)
            told = [(key, value) for key, value in answer.headers.raw if key not in {b"date", b"x-stream-id"}]
            given.append((answer.status_code, told, _without_ids(answer.text)))
    assert given[0] == given[1]
    assert ("served" in name) <= (given[0][0] == 200)


def _lines(fields: Mapping[str, str | Values]) -> list[tuple[str, str]]:
    """The header fields of a request, one after the other."""
    together = {**TOKEN, "x-request-id": "req_1", **fields}
    return [
        (name, value)
        for name, values in together.items()
        for value in ((values,) if isinstance(values, str) else values)
    ]


def _without_ids(text: str) -> str:
    """Without what differs from one request to the next: ids, times and ports."""
    return re.sub(r"str_[\w-]+|chatcmpl-[\w-]+|\d{4}-\d\d-\d\dT[\d:.]+Z|\"created\":\d+|:\d{4,5}\b", "", text)


async def test_a_failure_within_the_route_is_an_error_of_its_dialect_s_form(start_archer: StartArcher) -> None:
    async with start_archer() as archer:
        archer.answer(ollama_error("out of memory"))
        own = await archer.http.post(OWN, json=QUESTION)
        openai = await archer.http.post(OPENAI, json=QUESTION)
    assert own.json()["error"]["kind"] == "provider_error"
    assert openai.json()["error"]["code"] == "provider_error"


async def test_a_defect_in_the_route_is_a_500_with_its_form(
    start_archer: StartArcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(chat, "_check_needs_no_events", broken)
    async with start_archer() as archer:
        answer = await archer.http.post(OWN, json=QUESTION)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (500, "internal_error")


def test_the_application_knows_all_the_layers_of_this_fastapi(make_settings: MakeSettings) -> None:
    app = main.create_app(make_settings())
    assert app._hot.paths == {OWN, EVENTS, OPENAI}  # type: ignore[attr-defined]  # declared as any FastAPI


class Stranger:
    """A layer of which nobody knows what it does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def test_a_layer_that_would_be_skipped_without_anybody_noticing_prevents_the_start() -> None:
    app = HotApplication()
    app.add_middleware(CredentialGuard, tokens={})
    app.add_middleware(Stranger)
    app.add_middleware(TrailingSlashes)
    with pytest.raises(TypeError, match="Stranger would be skipped"), TestClient(app):
        pass


async def test_a_layer_around_ours_sees_every_request(make_settings: MakeSettings) -> None:
    seen: list[str] = []

    class Observer(Stranger):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    app = main.create_app(make_settings())
    app.add_middleware(Observer)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.post(OWN, json={})
    assert (answer.status_code, seen) == (422, [OWN])


async def test_fastapi_s_own_telemetry_sees_every_request(make_settings: MakeSettings) -> None:
    app = main.create_app(make_settings())
    traced: list[str] = []

    class Telemetry:
        def enabled(self) -> bool:
            return True

        async def __call__(self, *, app: ASGIApp, scope: Scope, receive: Receive, send: Send, **_: object) -> None:
            traced.append(scope["path"])
            await app(scope, receive, send)

    app._native_telemetry = Telemetry()  # type: ignore[assignment]  # a double
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.post(OWN, json={})
    assert (answer.status_code, traced) == (422, [OWN])
