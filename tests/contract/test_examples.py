"""Every example in the documents, sent to a real server as it stands, is accepted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets

from archer_ws.core.ids import new_id
from archer_ws.examples.story import (
    CALL_ID,
    FILE_ID,
    QUESTION_ID,
    SESSION_ID,
    SKY_STREAM_ID,
    SUNSET_STREAM_ID,
    TOKEN,
)
from archer_ws.main import openapi_document
from archer_ws.rpc.methods import archer_v1
from archer_ws.rpc.openrpc import openrpc_document
from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.rpc_peer import RpcPeer, SocketTransport

#: What the file of the examples holds: a picture as far as its first bytes show.
PICTURE = b"\x89PNG\r\n\x1a\n"

CALLS = [
    pytest.param(
        method["name"], {each["name"]: each["value"] for each in example["params"]}, id=f"{method['name']} {n}"
    )
    for method in openrpc_document(archer_v1())["methods"]
    if "x-direction" not in method
    for n, example in enumerate(method["examples"])
]
POSTS = [
    pytest.param(method.upper(), path, example["value"], id=f"{method.upper()} {path} {name}")
    for path, item in openapi_document()["paths"].items()
    for method, operation in item.items()
    for name, example in operation.get("requestBody", {})
    .get("content", {})
    .get("application/json", {})
    .get("examples", {})
    .items()
]


@asynccontextmanager
async def told_of(archer: Archer, example: Any) -> AsyncIterator[None]:
    """What the example speaks of is there, but for what it makes itself."""
    archer.answer(ollama_stream("Because", "."))
    begins_a_stream = isinstance(example.get("messages"), list)
    stream_id = SUNSET_STREAM_ID if begins_a_stream else example.get("stream_id", SUNSET_STREAM_ID)
    if example.get("stream_id") == stream_id and begins_a_stream:
        stream_id = SKY_STREAM_ID
    asked = {"messages": [{"role": "user", "content": "Why?"}], "session_id": SESSION_ID, "stream_id": stream_id}
    (await archer.http.post("/api/v1/sessions", json={"session_id": SESSION_ID})).raise_for_status()
    (await archer.http.post("/api/v1/chat/completions", json=asked)).raise_for_status()
    (await archer.http.post("/api/v1/files", content=PICTURE)).raise_for_status()
    yield


@pytest.fixture(autouse=True)
def _the_examples_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message that is stored gets the id that examples speak of, and so does a file."""
    monkeypatch.setattr("archer_ws.files.writing.id_of", lambda _: FILE_ID)
    minted = [QUESTION_ID]
    monkeypatch.setattr(
        "archer_ws.sessions.storage.conversation.new_id",
        lambda prefix: minted.pop() if prefix == "msg" and minted else new_id(prefix),
    )


def test_there_are_examples_of_every_method_and_body() -> None:
    methods = {method["name"] for method in openrpc_document(archer_v1())["methods"] if "x-direction" not in method}
    assert {str(each.values[0]) for each in CALLS} == methods
    bodies = {
        (method.upper(), path)
        for path, item in openapi_document()["paths"].items()
        for method, operation in item.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert {each.values[:2] for each in POSTS} == bodies


@pytest.mark.parametrize(("method", "params"), CALLS)
async def test_a_calls_example_is_accepted(start_archer: StartArcher, method: str, params: dict[str, Any]) -> None:
    async with start_archer() as archer, told_of(archer, params):
        if "token" in params:
            # Only a server that has tokens takes one.
            async with start_archer(auth_token=TOKEN) as guarded, _peer(guarded) as peer:
                assert await peer.call(method, **params)
            return
        async with _peer(archer) as peer:
            result = await peer.call(method, **params)
            if method == "chat/send":
                assert (await peer.ended(result["stream_id"])).ended is not None


@asynccontextmanager
async def _peer(archer: Archer) -> AsyncIterator[RpcPeer]:
    async with websockets.connect(f"ws://{archer.address}/api/v1/ws", proxy=None, max_size=None) as connection:
        peer = RpcPeer(SocketTransport(connection))
        yield peer
        await peer.stop()


@pytest.mark.parametrize(("method", "path", "body"), POSTS)
async def test_a_requests_example_is_accepted(
    start_archer: StartArcher, method: str, path: str, body: dict[str, Any]
) -> None:
    async with start_archer() as archer, told_of(archer, body):
        path = path.format(session_id=SESSION_ID, stream_id=SUNSET_STREAM_ID, call_id=CALL_ID)
        if str(body.get("model", "")).startswith("local/"):
            body = {**body, "model": body["model"].replace("local/", "ollama/")}
        response = await archer.http.request(method, path, json=body)
        assert response.is_success, response.text
