import asyncio
import gzip
import re
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from archer_ws.api.http.error_handlers import install_error_handlers
from archer_ws.api.http.request_body import BodyLimit, JsonRoute
from archer_ws.core.exceptions import InvalidParams, ParseError
from archer_ws.core.limits import REQUEST_VALUES_MAX
from archer_ws.core.strict_json import decode_json
from tests.conftest import Archer
from tests.test_api.conftest import Serve


class Inner(BaseModel):
    content: str


class Body(BaseModel):
    name: str
    number: int | None = None
    real: float | None = None
    messages: list[Inner] = []
    metadata: dict[str, Any] | None = None


def application(max_bytes: int = 10_000_000) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)
    app.add_middleware(BodyLimit, max_bytes)
    router = APIRouter(route_class=JsonRoute)

    @router.post("/echo")
    async def echo(body: Body) -> Body:
        return body

    app.include_router(router)
    return app


async def post(body: Any, app: FastAPI | None = None, content_type: str = "application/json") -> httpx.Response:
    # Exceptions are raised here as the server would see them: none may get through.
    transport = httpx.ASGITransport(app or application())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post("/echo", content=body, headers={"Content-Type": content_type})


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


async def test_json_is_read_in_utf_8_with_or_without_a_byte_order_mark() -> None:
    for body in ('{"name": "ü\\ud83d\\ude00"}'.encode(), b'\xef\xbb\xbf{"name": "\xc3\xbc\\ud83d\\ude00"}'):
        answer = await post(body)
        assert (answer.status_code, answer.json()["name"]) == (200, "ü😀")


@pytest.mark.parametrize(
    "body",
    [
        b"{not json",
        b'{"name": "x"',
        b" ",
        b'{"name": "\xff"}',
        b'{"name": "\xed\xa0\x80"}',
        '{"name": "x"}'.encode("utf-16"),
        b'{"name": "x", "real": NaN}',
        b'{"name": "x", "metadata": {"deep": [-Infinity]}}',
        b'{"name": "x", "number": ' + b"9" * 10_000 + b"}",
        b'{"name": "x", "metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name": "x", "metadata": {"deep": ' + b"[" * 500 + b"]" * 500 + b"}}",
        b"[" * 1_000_000,
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_what_is_not_plain_json_in_utf_8_is_a_parse_error(body: bytes) -> None:
    answer = await post(body)
    error = error_of(answer)
    assert (answer.status_code, error["kind"]) == (400, "parse_error")
    assert "UTF-8" in error["hint"]
    assert len(answer.content) < 1000


async def test_every_route_that_takes_json_refuses_other_json(archer: Archer) -> None:
    routes = [
        (method.upper(), re.sub(r"{\w+}", "x", path))
        for path, operations in archer.app.openapi()["paths"].items()
        for method, operation in operations.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    assert ("POST", "/api/v1/streams/x/tool_calls/x/result") in routes
    for method, path in routes:
        for value in (b"NaN", b"[" * 500 + b"]" * 500, b'"\xff"'):
            body = b'{"unknown": ' + value + b"}"
            answer = await archer.http.request(method, path, content=body, headers={"Content-Type": "application/json"})
            assert (answer.status_code, path, value[:3]) == (400, path, value[:3])
            assert "not valid JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"name": "\\ud800"}', "name"),
        (b'{"name": "x", "messages": [{"content": "a"}, {"content": "b\\udc00"}]}', "messages.1.content"),
        (b'{"name": "x", "metadata": {"a": {"\\ud800": 1}}}', "metadata.a"),
        (b'"\\ud800"', "body"),
    ],
)
async def test_a_lone_surrogate_is_an_invalid_parameter_with_its_path(body: bytes, path: str) -> None:
    answer = await post(body)
    error = error_of(answer)
    assert (answer.status_code, error["kind"]) == (422, "invalid_params")
    assert [each["path"] for each in error["errors"]] == [path]
    assert "surrogate" in error["message"]


async def test_the_same_holds_where_a_lone_surrogate_hides_among_deep_nesting() -> None:
    with pytest.raises(ParseError):
        decode_json(b'["\\ud800", ' + b"[" * 100_000 + b"]" * 100_000 + b"]")
    with pytest.raises(InvalidParams):
        decode_json(b'["\\ud800", ' + b"[" * 100 + b"]" * 100 + b"]")


async def test_the_path_of_a_lone_surrogate_costs_little_however_long_its_keys_are() -> None:
    key = "k" * 100_000
    answer = await post(b'{"name": "x", "metadata": {"' + key.encode() + b'": [' + b"1," * 100_000 + b'"\\ud800"]}}')
    assert answer.status_code == 422
    assert error_of(answer)["errors"][0]["path"].startswith("metadata.kkk")
    assert len(answer.content) < 1000


@pytest.mark.parametrize("value", [b"{},", b"0,", b'{"a":""},'])
async def test_json_of_very_many_values_is_too_large_however_few_bytes_it_has(value: bytes) -> None:
    answer = await post(b'{"name": "x", "metadata": {"many": [' + value * REQUEST_VALUES_MAX + b"0]}}")
    assert (answer.status_code, error_of(answer)["kind"]) == (413, "content_too_large")


async def test_what_only_looks_like_values_within_a_text_does_not_count() -> None:
    text = rb"[{,:\\\"" * REQUEST_VALUES_MAX
    answer = await post(b'{"name": "' + text + b'"}')
    assert (answer.status_code, len(answer.json()["name"])) == (200, 6 * REQUEST_VALUES_MAX)


async def test_large_numbers_are_judged_by_the_model() -> None:
    assert (await post(b'{"name": "x", "number": "' + b"9" * 10_000 + b'"}')).status_code == 422
    assert (await post(b'{"name": "x", "number": 9007199254740993}')).json()["number"] == 9007199254740993


@pytest.mark.parametrize("path", ["/api/v1/chat/completions", "/v1/chat/completions", "/api/v1/sessions"])
@pytest.mark.parametrize("coding", ["gzip", "x-gzip, zstd"])
async def test_a_compressed_body_is_refused_for_that_and_not_as_wrong_json(
    archer: Archer, path: str, coding: str
) -> None:
    packed = gzip.compress(b'{"messages": []}')
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = await archer.http.post(path, content=packed, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error.get("kind", error.get("code"))) == (400, "parse_error")
    assert f"its Content-Encoding is {coding}" in error["message"]
    assert "uncompressed" in error.get("hint", error["message"])


@pytest.mark.parametrize("coding", ["identity", "utf-8"])
async def test_wrong_json_that_is_not_said_to_be_compressed_is_told_as_such(archer: Archer, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = await archer.http.post("/api/v1/chat/completions", content=b"{", headers=headers)
    assert answer.json()["error"]["message"].startswith("not valid JSON")


async def test_routes_are_documented_as_without_the_route_class() -> None:
    operation = application().openapi()["paths"]["/echo"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Body"}


async def test_a_body_of_just_the_limit_passes_declared_or_chunked() -> None:
    body = b'{"name": "x"}'

    async def chunks() -> Any:
        yield body[:5]
        yield body[5:]

    for content in (body, chunks()):
        assert (await post(content, application(len(body)))).status_code == 200


async def test_a_body_above_the_limit_is_refused_declared_or_chunked() -> None:
    body = b'{"name": "xx"}'

    async def chunks() -> Any:
        yield body[:5]
        yield body[5:]

    for content in (body, chunks()):
        answer = await post(content, application(len(body) - 1))
        error = error_of(answer)
        assert (answer.status_code, error["kind"]) == (413, "content_too_large")
        assert "MAX_CONTENT_BYTES" in error["hint"]


async def test_a_declared_length_above_the_limit_is_refused_before_the_body_comes(serve: Serve) -> None:
    async with asyncio.timeout(10), serve(application(100)) as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 101\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        await reader.readuntil(b"}}")
        # The refused body is still taken off the connection, which then serves the next request.
        writer.write(b"x" * 101 + b"GET /docs HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_an_endless_chunked_body_is_refused_at_the_limit(serve: Serve) -> None:
    async with asyncio.timeout(10), serve(application(100_000)) as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        head = (
            b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(head)
        for _ in range(101):
            writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()


@pytest.mark.parametrize("framing", [b"Content-Length: 50", b"Transfer-Encoding: chunked"])
async def test_a_client_that_leaves_is_noticed_while_its_body_is_read_and_after(serve: Serve, framing: bytes) -> None:
    noticed = asyncio.Event()

    async def reading(scope: Scope, receive: Receive, _send: Send) -> None:
        try:
            await Request(scope, receive).body()
        except ClientDisconnect:
            noticed.set()
            return
        while (await receive())["type"] != "http.disconnect":
            pass
        noticed.set()

    body = b"x" * 50 if framing.startswith(b"Content") else b"32\r\n" + b"x" * 50 + b"\r\n0\r\n\r\n"
    async with asyncio.timeout(10), serve(BodyLimit(reading, 100)) as address:
        for sent in (body[:20], body):
            noticed.clear()
            _, writer = await asyncio.open_connection(*address.split(":"))
            writer.write(b"POST / HTTP/1.1\r\nHost: test\r\n" + framing + b"\r\n\r\n" + sent)
            await writer.drain()
            writer.close()
            await noticed.wait()
