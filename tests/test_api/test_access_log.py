import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import EventDict
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from archer_ws.api.http.access_log import RequestLog
from archer_ws.core.deferred import afterwards
from tests.test_api.conftest import Serve

_log = structlog.stdlib.get_logger()


@asynccontextmanager
async def logged() -> AsyncIterator[list[EventDict]]:
    """What is logged within, lines that come behind an answer included."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as entries:
        yield entries
        written = asyncio.Event()
        afterwards(written.set)
        await written.wait()


def lines(entries: list[EventDict]) -> list[EventDict]:
    return [entry for entry in entries if entry["event"] == "request"]


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the request id, and logs a line of its own."""
    _log.info("greeting")
    await PlainTextResponse(Request(scope).state.request_id)(scope, receive, send)


class Watched:
    """Runs an application and tells when it is done."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.done = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            self.done.set()


async def test_a_clients_request_id_is_kept_bound_for_logs_and_sent_back() -> None:
    async with client_of(RequestLog(greet)) as client, logged() as entries:
        answer = await client.get("/hello", headers={"X-Request-ID": "from-the-client.1"})
    assert answer.headers["x-request-id"] == answer.text == "from-the-client.1"
    assert [entry["request_id"] for entry in entries] == ["from-the-client.1"] * 2


@pytest.mark.parametrize("given", [None, "", "two words", "x" * 65, "ünï".encode("latin-1"), "a\tb"])
async def test_a_request_id_of_another_form_is_replaced(given: Any) -> None:
    async with client_of(RequestLog(greet)) as client:
        answer = await client.get("/", headers={} if given is None else {"X-Request-ID": given})
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-request-id"] == answer.text


async def test_an_application_that_sets_the_header_itself_gets_it_once() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"X-Request-ID": Request(scope).state.request_id}
        await PlainTextResponse("ok", headers=headers)(scope, receive, send)

    async with client_of(RequestLog(app)) as client:
        answer = await client.get("/")
    assert len(answer.headers.get_list("x-request-id")) == 1


async def test_each_request_makes_one_line_without_its_query() -> None:
    async with client_of(RequestLog(greet)) as client, logged() as entries:
        await client.post("/api/v1/x?token=secret")
    (line,) = lines(entries)
    assert line["duration_ms"] >= 0
    facts = {key: line[key] for key in ("method", "path", "status", "log_level")}
    assert facts == {"method": "POST", "path": "/api/v1/x", "status": 200, "log_level": "info"}
    assert "secret" not in str(entries)
    assert "client_left" not in line


async def test_the_duration_ends_with_the_answer_not_with_what_runs_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("archer_ws.api.http.access_log.time.perf_counter", lambda: now_s)

    async def lingering(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal now_s
        now_s += 0.25
        await greet(scope, receive, send)
        now_s += 60

    async with client_of(RequestLog(lingering)) as client, logged() as entries:
        await client.get("/")
    assert lines(entries)[0]["duration_ms"] == 250


async def test_paths_are_logged_escaped_and_cut() -> None:
    async with client_of(RequestLog(greet)) as client, logged() as entries:
        await client.get("/a%0Ab%1B" + "x" * 1000)
    path = lines(entries)[0]["path"]
    assert path.startswith("/a%0Ab%1Bxxx")
    assert len(path) == 256


@pytest.mark.parametrize(
    ("path", "level"), [("/health", "debug"), ("/health/ready", "debug"), ("/healthy", "info"), ("/x/health", "info")]
)
async def test_health_probes_are_logged_at_debug(path: str, level: str) -> None:
    async with client_of(RequestLog(greet)) as client, logged() as entries:
        await client.get(path)
    assert lines(entries)[0]["log_level"] == level


async def test_a_client_that_leaves_before_the_end_is_told_in_the_line(serve: Serve) -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    app = Watched(RequestLog(endless))
    async with logged() as entries, asyncio.timeout(10), serve(app) as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await reader.readuntil(b"some")
        writer.close()
        await app.done.wait()
    assert (lines(entries)[0]["status"], lines(entries)[0]["client_left"]) == (200, True)


async def test_a_client_that_leaves_after_the_end_has_not_left_early(serve: Serve) -> None:
    async def watching(scope: Scope, receive: Receive, send: Send) -> None:
        departure = asyncio.ensure_future(_departure(receive))
        await PlainTextResponse("all of it")(scope, receive, send)
        await departure

    app = Watched(RequestLog(watching))
    async with logged() as entries, asyncio.timeout(10), serve(app) as address, httpx.AsyncClient() as client:
        await client.get(f"http://{address}/")
        await app.done.wait()
    assert "client_left" not in lines(entries)[0]


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_what_one_request_binds_does_not_leak_into_the_next_on_its_connection(serve: Serve) -> None:
    first = True

    async def binding(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal first
        if first:
            first = False
            structlog.contextvars.bind_contextvars(stream_id="str_1")
        await greet(scope, receive, send)

    async with logged() as entries, asyncio.timeout(10), serve(RequestLog(binding)) as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        # Pipelined: uvicorn starts the second request's task from inside the first one's context.
        writer.write(b"GET /1 HTTP/1.1\r\nHost: test\r\n\r\nGET /2 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        await reader.read()
        writer.close()
    one, two = lines(entries)
    assert (one["stream_id"], "stream_id" in two) == ("str_1", False)
    assert one["request_id"] != two["request_id"]


async def test_requests_side_by_side_keep_their_own_ids(serve: Serve) -> None:
    both = asyncio.Barrier(2)

    async def meeting(scope: Scope, receive: Receive, send: Send) -> None:
        await both.wait()
        await greet(scope, receive, send)

    async with (
        logged() as entries,
        asyncio.timeout(10),
        serve(RequestLog(meeting)) as address,
        httpx.AsyncClient() as client,
    ):
        await asyncio.gather(
            *(client.get(f"http://{address}/{name}", headers={"X-Request-ID": name}) for name in ("a", "b"))
        )
    assert {(line["path"], line["request_id"]) for line in lines(entries)} == {("/a", "a"), ("/b", "b")}


async def test_a_failing_application_has_a_line_with_500_and_the_failure_passes_on() -> None:
    async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("broken")

    transport = httpx.ASGITransport(RequestLog(failing))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client, logged() as entries:
        with pytest.raises(RuntimeError, match="broken"):
            await client.get("/")
    assert lines(entries)[0]["status"] == 500


async def test_an_answer_that_breaks_off_is_told_in_the_line() -> None:
    async def breaking(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("broken")

    async with client_of(RequestLog(breaking)) as client, logged() as entries:
        await client.get("/")
    assert (lines(entries)[0]["status"], lines(entries)[0]["broke_off"]) == (200, True)


async def test_the_id_stays_bound_for_what_the_server_logs_afterwards() -> None:
    async with client_of(RequestLog(greet)) as client, logged() as entries:
        await client.get("/", headers={"X-Request-ID": "mine"})
        _log.info("afterwards")
    assert entries[-1]["request_id"] == "mine"


async def test_a_chunk_passes_through_without_a_coroutine_of_ours() -> None:
    class Sent:
        def __await__(self) -> Any:
            yield from ()

    sent = Sent()
    passed: list[object] = []

    def server_send(_message: Message) -> Awaitable[None]:
        return sent

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        passed.append(send({"type": "http.response.body", "body": b"x", "more_body": True}))

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await RequestLog(app)(scope, receive, server_send)
    assert passed == [sent]


async def test_a_websocket_gets_its_id_with_the_handshake_and_a_line_when_it_closes(serve: Serve) -> None:
    async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        await receive()

    app = Watched(RequestLog(echo))
    async with logged() as entries, asyncio.timeout(10), serve(app) as address:
        async with connect(f"ws://{address}/ws", additional_headers={"X-Request-ID": "mine"}) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
            assert socket.response is not None
            assert socket.response.headers["x-request-id"] == "mine"
        await app.done.wait()
    (line,) = lines(entries)
    assert (line["method"], line["path"], line["status"], line["request_id"]) == ("WEBSOCKET", "/ws", 101, "mine")


async def test_a_websocket_refused_before_acceptance_has_a_line_with_403(serve: Serve) -> None:
    async def refusing(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", "code": 1008})

    async with logged() as entries, asyncio.timeout(10), serve(RequestLog(refusing)) as address:
        with pytest.raises(InvalidStatus):
            await connect(f"ws://{address}/ws")
    assert lines(entries)[0]["status"] == 403
