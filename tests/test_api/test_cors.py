"""What caches are told of Origin, for requests that have none; pages' requests are test_security.py's."""

from typing import Any

import httpx
import pytest
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archer_ws.api.http.cors import LeanCORS

ORIGINS = ["http://localhost:1420"]


def answering(*headers: tuple[bytes, bytes]) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"x"})

    return app


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.parametrize("origin", [None, *ORIGINS, "https://evil.example"])
@pytest.mark.parametrize("given", [(), ((b"vary", b"Accept"),), ((b"vary", b"Accept"), (b"vary", b"Cookie"))])
async def test_an_answer_has_the_fields_that_starlette_s_own_would_give(
    method: str, origin: str | None, given: tuple[tuple[bytes, bytes], ...]
) -> None:
    headers = {"access-control-request-method": "GET", **({"origin": origin} if origin else {})}
    answers = []
    for make in (CORSMiddleware, LeanCORS):
        app = make(answering((b"x-stream-id", b"s"), *given), allow_origins=ORIGINS)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.request(method, "/", headers=headers)
            answers.append((answer.status_code, answer.content, sorted(answer.headers.multi_items())))
    assert answers[0] == answers[1]


async def test_a_program_s_chunks_pass_without_a_coroutine() -> None:
    given: list[Any] = []
    taken: Any = object()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        given.append(send({"type": "http.response.body", "body": b"x", "more_body": True}))

    async def receive() -> Message:
        raise AssertionError

    scope = {"type": "http", "method": "GET", "headers": []}
    await LeanCORS(app, allow_origins=ORIGINS)(scope, receive, lambda _: taken)
    assert given == [taken]
