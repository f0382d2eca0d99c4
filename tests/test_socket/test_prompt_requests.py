"""A request begins within the read that brought it, and learns from its connection that the client has left."""

import asyncio
import json
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from archer_ws.server.http_protocol import BoundedHeadProtocol
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.raw_client import raw_client, request
from tests.fakes.scripted_server import forever
from tests.test_socket.conftest import StartSocketed, assert_quiet, lines, until

LIMIT_S = 30
QUESTION = {"messages": [{"role": "user", "content": "hello"}]}


class Transport:
    """What the protocol needs of one; what is written is kept."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def test_the_application_has_run_when_the_read_is_over_and_pipelined_requests_follow_one_by_one() -> None:
    bodies: list[bytes] = []
    may_end, both_began = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append((await receive())["body"])
        if len(bodies) > 1:
            both_began.set()
        await may_end.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    protocol = BoundedHeadProtocol(config, ServerState(), {})
    protocol.connection_made(cast(Any, Transport()))
    first, second = (request("POST", "/", body=text) for text in (b"first", b"second"))
    protocol.data_received(first + second)
    assert bodies == [b"first"]
    may_end.set()
    async with asyncio.timeout(LIMIT_S):
        await both_began.wait()
    assert bodies == [b"first", b"second"]
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/chat/completions", QUESTION),
        ("/api/v1/chat/completions/stream", QUESTION),
        ("/v1/chat/completions", QUESTION),
        ("/v1/chat/completions", {**QUESTION, "stream": True}),
    ],
    ids=["whole", "events", "OpenAI's whole", "OpenAI's chunks"],
)
@pytest.mark.parametrize("pieces", [[], ["Hel"]], ids=["before the first text", "in mid-answer"])
async def test_a_client_that_leaves_ends_its_generation_and_its_line_says_so(
    start_socketed: StartSocketed,
    caplog: pytest.LogCaptureFixture,
    path: str,
    body: dict[str, object],
    pieces: list[str],
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        archer.answer(ollama_stream(*pieces, forever()))
        async with raw_client(archer.address) as client:
            await client.send(request("POST", path, body=json.dumps(body).encode()))
            exchange = await archer.ollama.exchange(path="/api/chat")
        await exchange.client_left.wait()
        await until(lambda: bool(_lines_about(caplog, path)))
    (line,) = _lines_about(caplog, path)
    assert line["client_left"] is True
    assert_quiet(caplog)


def _lines_about(caplog: pytest.LogCaptureFixture, path: str) -> list[dict[str, Any]]:
    told = [line.msg for line in lines(caplog, "request") if isinstance(line.msg, dict)]
    return [line for line in told if line.get("path") == path]
