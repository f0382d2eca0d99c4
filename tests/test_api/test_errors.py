from collections.abc import Mapping
from typing import Annotated, Any, Literal

import httpx
import pytest
from fastapi import FastAPI, Query
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel, Field, field_validator
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Scope

from archer_ws.api.http.access_log import RequestLog
from archer_ws.api.http.error_forms import ErrorForm, error_json, error_response
from archer_ws.api.http.error_handlers import install_error_handlers, refuse
from archer_ws.api.security.credentials import CredentialGuard
from archer_ws.core.exceptions import (
    ArcherError,
    FieldError,
    Forbidden,
    InvalidParams,
    Overloaded,
    ProviderRateLimited,
    ProviderUnavailable,
    SessionBusy,
    Unauthenticated,
)
from archer_ws.core.wire_model import MAX_FIELD_ERRORS
from tests.conftest import Archer

SECRET = "the user's secret prompt"


class Dog(BaseModel):
    kind: Literal["dog"]


class Cat(BaseModel):
    kind: Literal["cat"]


class Message(BaseModel):
    role: Literal["system", "user"]
    content: str

    @field_validator("content")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value:
            raise ValueError("say something")
        return value


class Body(BaseModel):
    messages: Annotated[list[Message], Field(min_length=1)]
    pet: Annotated[Dog | Cat, Field(discriminator="kind")] | None = None
    limits: dict[str, int] = {}


def application(*forms: ErrorForm) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app, forms=forms)
    app.add_middleware(CORSMiddleware, allow_origins=["http://localhost:1420"])
    app.add_middleware(RequestLog)

    @app.post("/chat")
    async def chat(body: Body) -> int:
        return len(body.messages)

    @app.get("/streams")
    async def streams(after: int = 0, limit: Annotated[int, Query(le=100)] = 10) -> int:
        return after + limit

    @app.get("/busy")
    async def busy() -> None:
        raise SessionBusy("it runs a stream already", hint="Wait for it.", stream_id="str_1", retry_after_ms=1001)

    @app.get("/http/{status}")
    async def http(status: int) -> None:
        raise HTTPException(status, "said so")

    return app


class Shouting:
    """The form of an API whose clients have a header of their own."""

    places = "WRONG"

    def claims(self, scope: Scope) -> bool:
        return any(name == b"x-shouting" for name, _ in scope["headers"])

    def response(
        self, error: ArcherError, request_id: str, *, status: int | None, headers: Mapping[str, str]
    ) -> JSONResponse:
        info = error.info(request_id)
        body = {"SAID": info.message.upper(), "HINT": info.hint}
        return error_json(body, info, status or error.http_status, headers)


async def test_a_form_that_the_application_brings_has_the_errors_that_it_claims_wherever_they_arise() -> None:
    app = application(Shouting())

    @app.get("/defect")
    async def defect() -> None:
        raise ZeroDivisionError

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        shouting = {"x-shouting": "1"}
        nowhere = await client.get("/nowhere", headers=shouting)
        wrong = await client.post("/chat", json={}, headers=shouting)
        busy = await client.get("/busy", headers=shouting)
        broken = await client.get("/defect", headers=shouting)
        other = await client.get("/busy")
    assert (nowhere.status_code, nowhere.json()["SAID"]) == (404, "THERE IS NO /NOWHERE HERE")
    assert (wrong.status_code, wrong.json()["HINT"]) == (422, "Correct what `WRONG` names; see /docs.")
    assert (busy.status_code, busy.json()["SAID"]) == (409, "IT RUNS A STREAM ALREADY")
    assert busy.headers["retry-after"] == "2"
    assert (broken.status_code, set(broken.json())) == (500, {"SAID", "HINT"})
    assert other.json()["error"]["kind"] == "session_busy"


async def test_a_guard_s_refusal_has_the_form_too() -> None:
    app = application(Shouting())
    app.add_middleware(CredentialGuard, tokens={"alice": "secret"})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        refused = await client.get("/busy", headers={"x-shouting": "1"})
    assert (refused.status_code, refused.json()["SAID"]) == (401, "THIS SERVER NEEDS A CREDENTIAL")
    assert refused.headers["www-authenticate"] == "Bearer"


async def ask(method: str, path: str, **given: Any) -> httpx.Response:
    transport = httpx.ASGITransport(application(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **given)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


async def test_an_archer_error_answers_with_its_kind_status_and_hint() -> None:
    answer = await ask("GET", "/busy", headers={"X-Request-ID": "mine"})
    assert answer.status_code == 409
    assert error_of(answer) == {
        "kind": "session_busy",
        "message": "it runs a stream already",
        "hint": "Wait for it.",
        "retryable": True,
        "retry_after_ms": 1001,
        "request_id": "mine",
        "stream_id": "str_1",
    }


@pytest.mark.parametrize(("milliseconds", "seconds"), [(0, "0"), (1, "1"), (1000, "1"), (1001, "2"), (None, None)])
def test_retry_after_is_in_whole_seconds_rounded_up(milliseconds: int | None, seconds: str | None) -> None:
    answer = error_response(Overloaded("full", retry_after_ms=milliseconds), "req_1")
    assert answer.headers.get("retry-after") == seconds


def test_401_alone_asks_for_a_bearer_token() -> None:
    assert error_response(Unauthenticated("who?"), "req_1").headers["www-authenticate"] == "Bearer"
    assert "www-authenticate" not in error_response(Forbidden("no"), "req_1").headers


def test_an_error_that_utf_8_cannot_carry_is_sent_all_the_same() -> None:
    error = ProviderUnavailable("said \ud800", errors=[FieldError(path="\udc00", message="ü")])
    assert "ü".encode() in error_response(error, "req_1").body


async def test_a_wrong_field_is_named_by_its_path_with_what_is_allowed() -> None:
    answer = await ask("POST", "/chat", json={"messages": [{"role": SECRET, "content": "x"}]})
    error = error_of(answer)
    assert (answer.status_code, error["kind"], error["retryable"]) == (422, "invalid_params", False)
    (wrong,) = error["errors"]
    assert wrong["path"] == "messages.0.role"
    assert "'system' or 'user'" in wrong["message"]
    assert error["message"] == f"{wrong['path']}: {wrong['message']}"


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["messages"]),
        ({"messages": []}, ["messages"]),
        ({"messages": [{"role": "user"}]}, ["messages.0.content"]),
        ({"messages": [{"role": "user", "content": ""}]}, ["messages.0.content"]),
        ({"messages": [{"role": "user", "content": [SECRET]}]}, ["messages.0.content"]),
        ({"messages": [{"role": SECRET, "content": 1}]}, ["messages.0.role", "messages.0.content"]),
        ({"messages": [{"role": "user", "content": "x"}], "pet": {"kind": SECRET}}, ["pet"]),
        ({"messages": [{"role": "user", "content": "x"}], "limits": {"a": SECRET}}, ["limits.a"]),
    ],
)
async def test_validation_errors_name_paths_and_never_repeat_the_input(body: Any, paths: list[str]) -> None:
    answer = await ask("POST", "/chat", json=body)
    assert [wrong["path"] for wrong in error_of(answer)["errors"]] == paths
    assert "secret" not in answer.text
    assert "Value error" not in answer.text


async def test_a_union_says_which_tags_it_takes() -> None:
    answer = await ask("POST", "/chat", json={"messages": [{"role": "user", "content": "x"}], "pet": {"kind": "cow"}})
    assert "'dog', 'cat'" in error_of(answer)["message"]


async def test_query_parameters_keep_their_place_in_the_path() -> None:
    answer = await ask("GET", "/streams?after=x&limit=1000")
    assert [wrong["path"] for wrong in error_of(answer)["errors"]] == ["query.after", "query.limit"]
    assert "(and 1 more)" in error_of(answer)["message"]


async def test_many_errors_and_long_keys_make_a_short_answer() -> None:
    answer = await ask("POST", "/chat", json={"messages": [{}] * 10_000, "limits": {"k" * 100_000: "x"}})
    assert len(error_of(answer)["errors"]) == MAX_FIELD_ERRORS
    answer = await ask(
        "POST", "/chat", json={"messages": [{"role": "user", "content": "x"}], "limits": {"k" * 9999: "x"}}
    )
    assert len(answer.content) < 1000


@pytest.mark.parametrize("body", [b"{not json", b'{"messages"', b'{"messages": "\xff"}', b"[" * 100_000, b"1" * 10_000])
async def test_a_body_that_is_no_json_is_a_parse_error_even_on_a_plain_route(body: bytes) -> None:
    answer = await ask("POST", "/chat", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, error_of(answer)["kind"]) == (400, "parse_error")


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/json", b"", "no body"),
        (None, b"", "no body"),
        (None, b'{"messages": []}', "Content-Type is not JSON"),
        ("text/plain", b'{"messages": []}', "Content-Type is not JSON"),
        ("application/x-www-form-urlencoded", b'{"messages": []}', "Content-Type is not JSON"),
        ("application/json", b"[]", "must be a JSON object"),
        ("application/vnd.x+json; charset=utf-8", b"null", "must be a JSON object"),
    ],
)
async def test_a_body_of_the_wrong_sort_is_told_in_plain_words(
    content_type: str | None, body: bytes, message: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await ask("POST", "/chat", content=body, headers=headers)
    error = error_of(answer)
    assert (answer.status_code, error["kind"]) == (422, "invalid_params")
    assert message in error["message"]
    assert [wrong["path"] for wrong in error["errors"]] == ["body"]
    assert error["hint"]


async def test_an_unknown_route_is_method_not_found_and_shows_the_way() -> None:
    answer = await ask("GET", "/no/such%0Aroute")
    error = error_of(answer)
    assert (answer.status_code, error["kind"]) == (404, "method_not_found")
    assert "/docs" in error["hint"]
    assert "/no/such%0Aroute" in error["message"]


async def test_a_wrong_method_is_405_with_the_allowed_ones() -> None:
    answer = await ask("GET", "/chat")
    assert (answer.status_code, error_of(answer)["kind"], answer.headers["allow"]) == (405, "method_not_found", "POST")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "parse_error"),
        (401, "unauthenticated"),
        (403, "forbidden"),
        (413, "content_too_large"),
        (415, "invalid_params"),
        (418, "invalid_request"),
        (429, "overloaded"),
        (503, "overloaded"),
        (500, "internal_error"),
        (501, "internal_error"),
    ],
)
async def test_other_http_errors_take_the_nearest_kind_and_keep_their_status(status: int, kind: str) -> None:
    answer = await ask("GET", f"/http/{status}")
    error = error_of(answer)
    assert (answer.status_code, error["kind"]) == (status, kind)
    assert ("said so" in error["message"]) == (kind != "internal_error")


async def test_an_error_in_reading_the_body_keeps_its_own_kind() -> None:
    async def receive() -> Any:
        raise ProviderRateLimited("slow down", retry_after_ms=100)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/chat", "headers": headers, "query_string": b""}
    await application()(scope, receive, send)
    assert sent[0]["status"] == 429


async def test_a_refused_websocket_is_closed_plainly_where_the_server_cannot_say_more() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await refuse(InvalidParams("no"), {"type": "websocket", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
    sent.clear()
    scope = {"type": "websocket", "headers": [], "extensions": {"websocket.http.response": {}}}
    await refuse(InvalidParams("no"), scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert b"invalid_params" in sent[1]["body"]


async def test_a_request_to_the_socket_that_lost_its_upgrade_is_told_what_it_lost(archer: Archer) -> None:
    answer = await archer.http.get("/api/v1/ws")
    error = answer.json()["error"]
    assert (answer.status_code, error["kind"]) == (404, "method_not_found")
    assert "is a WebSocket" in error["message"]
    assert "proxy" in error["hint"]
