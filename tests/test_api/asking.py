"""How the tests of the guards ask, and what they hold a refusal to."""

from typing import Any

import httpx
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def show_state(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what the guards left in the request's state; accepts a WebSocket and sends it there."""
    state = {key: value for key, value in scope.get("state", {}).items() if key != "request_id"}
    if scope["type"] == "http":
        await JSONResponse(state)(scope, receive, send)
        return
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(state["principal"])})
    await send({"type": "websocket.close"})


async def get(app: ASGIApp, path: str = "/x", **headers: str) -> httpx.Response:
    """An answer to `http://localhost:8000`."""
    named = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as client:
        return await client.get(path, headers=named)


async def run(app: ASGIApp, headers: list[tuple[bytes, bytes]], **scope: Any) -> list[Message]:
    """What an application sends for a bare scope: for requests that no client library would make."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    bare = {"type": "http", "method": "GET", "path": "/x", "scheme": "http", "headers": headers}
    await app({**bare, **scope}, receive, send)
    return sent


def assert_refused(answer: httpx.Response, status: int, kind: str, hint: str) -> None:
    """That it is a whole ErrorInfo, whose hint names what to change."""
    error = answer.json()["error"]
    assert (answer.status_code, error["kind"]) == (status, kind)
    assert hint in error["hint"]
    assert error["request_id"] == answer.headers["x-request-id"]
