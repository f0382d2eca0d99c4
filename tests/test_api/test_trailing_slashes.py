"""A slash at a path's end: many join a base URL and a path so. A redirect would lose the bodies of most of them."""

import pytest
import websockets

from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.rpc_peer import RpcPeer, SocketTransport

CHAT = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions/", CHAT),
        ("POST", "/api/v1/chat/completions/", CHAT),
        ("POST", "/api/v1/chat/completions/stream//", CHAT),
        ("POST", "/api/v1/sessions/", {"title": "kept"}),
        ("POST", "/api/v1/ws/tickets/", {}),
        ("GET", "/api/v1/sessions/", None),
        ("GET", "/v1/models/", None),
        ("GET", "/v1/models/ollama/llama3.2/", None),
        ("GET", "/api/v1/models/ollama/?x=1", None),
        ("GET", "/health/", None),
        ("GET", "/health/live/", None),
        ("GET", "/docs/", None),
        ("GET", "/openapi.json/", None),
        ("GET", "/console/archer-client.js/", None),
        ("HEAD", "/health/live/", None),
    ],
)
async def test_a_slash_at_the_end_is_the_same_route(archer: Archer, method: str, path: str, body: object) -> None:
    archer.answer(ollama_stream("Hi"))
    answer = await archer.http.request(method, path, json=body)
    assert answer.status_code in {200, 201}, answer.text
    if body and "title" in str(body):
        assert answer.json()["title"] == "kept"


async def test_the_socket_is_there_too(archer: Archer) -> None:
    async with websockets.connect(f"ws://{archer.address}/api/v1/ws/", proxy=None) as connection:
        peer = RpcPeer(SocketTransport(connection))
        assert await peer.call("ping") == {}
        await peer.stop()


async def test_the_root_stays_what_it_is(archer: Archer) -> None:
    for path in ("/", "//"):
        assert (await archer.http.get(f"http://{archer.address}{path}")).json()["docs"].endswith("/docs")


async def test_guards_see_the_same_route(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="the-real-token") as archer:
        assert (await archer.http.get("/health/live/")).status_code == 200
        refused = await archer.http.get("/v1/models/")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert (await archer.http.get("/api/v1/models/")).json()["error"]["kind"] == "unauthenticated"
