import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from archer_ws.api.http.access_log import RequestLog
from archer_ws.api.http.error_handlers import install_error_handlers
from tests.test_api.conftest import Serve

SECRET = "the user's secret prompt"


def application() -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)
    app.add_middleware(CORSMiddleware, allow_origins=["http://localhost:1420"])
    app.add_middleware(RequestLog)

    @app.get("/broken")
    async def broken() -> None:
        prompt = SECRET
        raise RuntimeError(f"defect {len(prompt)}: {SECRET}")

    @app.get("/broken/response")
    async def broken_response() -> int:
        return SECRET  # type: ignore[return-value]  # the defect this route is for

    @app.get("/broken/midway")
    async def broken_midway() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"some"
            raise RuntimeError("defect")

        return StreamingResponse(pieces())

    return app


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


@pytest.mark.parametrize("path", ["/broken", "/broken/response"])
async def test_a_defect_is_logged_once_and_the_answer_tells_nothing_of_it(path: str, serve: Serve) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as entries:
        async with asyncio.timeout(10), serve(application()) as address, httpx.AsyncClient() as client:
            answer = await client.get(f"http://{address}{path}", headers={"Origin": "http://localhost:1420"})
    error = error_of(answer)
    assert (answer.status_code, error["kind"]) == (500, "internal_error")
    assert "defect" not in answer.text
    assert "secret" not in answer.text
    # A page may read it, and so show the request id.
    assert answer.headers["access-control-allow-origin"] == "http://localhost:1420"
    failures = [entry for entry in entries if entry["log_level"] == "error"]
    assert [entry["request_id"] for entry in failures] == [error["request_id"]]
    assert failures[0]["exc_info"]
    assert [entry["status"] for entry in entries if entry["event"] == "request"] == [500]


async def test_a_defect_that_we_answer_is_not_logged_by_the_server_as_well(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with structlog.testing.capture_logs():
        async with asyncio.timeout(10), serve(application()) as address, httpx.AsyncClient() as client:
            await client.get(f"http://{address}/broken")
    assert [record for record in caplog.records if record.name == "uvicorn.error" and record.exc_info] == []


async def test_a_defect_in_middleware_is_answered_by_us_and_logged_once_by_the_server(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __init__(self, _app: Any) -> None:
            pass

        async def __call__(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
            raise RuntimeError("defect")

    app = FastAPI()
    install_error_handlers(app)
    app.add_middleware(Broken)
    app.add_middleware(RequestLog)
    with structlog.testing.capture_logs() as entries:
        async with asyncio.timeout(10), serve(app) as address, httpx.AsyncClient() as client:
            answer = await client.get(f"http://{address}/", headers={"X-Request-ID": "mine"})
    assert (answer.status_code, error_of(answer)["request_id"]) == (500, "mine")
    assert [entry for entry in entries if entry["log_level"] == "error"] == []
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_a_defect_after_the_answer_began_cuts_the_connection_and_is_logged_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with structlog.testing.capture_logs() as entries:
        async with asyncio.timeout(10), serve(application()) as address, httpx.AsyncClient() as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"http://{address}/broken/midway")
    assert [entry for entry in entries if entry["log_level"] == "error"] == []
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert [(entry["status"], entry["broke_off"]) for entry in entries if entry["event"] == "request"] == [(200, True)]


async def test_a_client_that_leaves_while_sending_its_body_is_no_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    app = application()
    done = asyncio.Event()

    @app.post("/json")
    async def json(body: dict[str, int]) -> int:
        return len(body)

    @app.post("/raw")
    async def raw(request: Request) -> None:
        await request.body()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        finally:
            done.set()

    with structlog.testing.capture_logs() as entries:
        async with asyncio.timeout(10), serve(watched) as address:
            for path in (b"/raw", b"/json"):
                done.clear()
                _, writer = await asyncio.open_connection(*address.split(":"))
                head = b" HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
                writer.write(b"POST " + path + head)
                await writer.drain()
                writer.close()
                await done.wait()
    assert [(entry["status"], entry["client_left"]) for entry in entries] == [(499, True)] * 2
    assert [record for record in caplog.records if record.exc_info] == []
