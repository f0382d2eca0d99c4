"""HEAD wherever GET is (RFC 9110, section 9.1): what health checks of containers and `curl -I` send."""

import asyncio
import logging

import pytest

from tests.conftest import Archer, StartArcher
from tests.fakes.ollama_api import ollama_stream
from tests.fakes.raw_client import raw_client, request
from tests.fakes.scripted_server import forever

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
#: What differs from one answer to the next.
OWN = {"date", "x-request-id"}


async def prepared(archer: Archer) -> None:
    """A session, and a stream that has ended."""
    archer.answer(ollama_stream("Hi"))
    await archer.http.post("/api/v1/sessions", json={"session_id": "sky"})
    await archer.http.post("/api/v1/chat/completions", json={**CHAT, "stream_id": "done"})


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/health/live",
        "/health/providers",
        "/docs",
        "/openapi.json",
        "/console/archer-client.js",
        "/api/v1/models",
        "/api/v1/models/ollama",
        "/api/v1/models/zebra",
        "/api/v1/sessions",
        "/api/v1/sessions/sky",
        "/api/v1/sessions/none",
        "/api/v1/streams",
        "/api/v1/streams/done",
        "/api/v1/streams/done/events",
        "/api/v1/streams/done/events?after=9999",
        "/api/v1/streams/none/events",
        "/v1/models",
        "/v1/models/ollama/llama3.2",
        "/api/v1/chat/completions",
        "/nothing",
        "/",
    ],
)
async def test_head_is_answered_as_get_without_the_body(archer: Archer, path: str) -> None:
    await prepared(archer)
    origin = {"Origin": "http://localhost:1420"}
    as_get = await archer.http.get(path, headers={**origin, "Accept-Encoding": "identity"})
    async with raw_client(archer.address) as client:
        await client.send(request("HEAD", path, f"Origin: {origin['Origin']}"))
        answer = await client.answer(is_head=True)
        assert answer.status == as_get.status_code
        expected = {name for name in as_get.headers if name != "transfer-encoding"}
        assert set(answer.headers) == expected
        # A latency differs each time, and an address as the request names it.
        is_always_the_same = "latency" not in as_get.text and archer.address not in as_get.text
        same = expected - OWN - (set() if is_always_the_same else {"content-length"})
        if answer.status < 400:  # An error has its request's id in it.
            assert {name: answer.headers[name] for name in same} == {name: as_get.headers[name] for name in same}
        # Nothing lies between it and the next answer.
        await client.send(request("GET", "/health/live"))
        assert (await client.answer()).body == b'{"status":"alive"}'


async def test_head_of_a_running_stream_neither_waits_for_it_nor_holds_it(archer: Archer) -> None:
    archer.answer(ollama_stream("first", forever()))
    body = {**CHAT, "stream_id": "long"}
    async with asyncio.timeout(20), archer.http.stream("POST", "/api/v1/chat/completions/stream", json=body):
        stream = archer.app.state.services.manager.find("local", "long")
        holders = stream.holds
        answer = await archer.http.head("/api/v1/streams/long/events")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-stream-id"] == "long"
        assert "content-length" not in answer.headers
        assert (stream.holds, stream.is_live) == (holders, True)
        assert (await archer.http.head("/api/v1/streams/long/events?after=7")).status_code == 422


async def test_head_needs_what_get_needs(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="the-real-token") as archer:
        assert (await archer.http.head("/api/v1/models")).status_code == 401
        assert (await archer.http.head("/health/live")).status_code == 200
        assert (await archer.http.head("/console/archer-client.js")).status_code == 200
        allowed = {"Authorization": "Bearer the-real-token"}
        assert (await archer.http.head("/api/v1/sessions", headers=allowed)).status_code == 200
        assert (await archer.http.head("/health", headers={"Origin": "https://evil.example"})).status_code == 200
        assert (await archer.http.head("/docs", headers={"Origin": "https://evil.example"})).status_code == 403


async def test_head_is_logged_as_such(archer: Archer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caplog.clear()
    await archer.http.head("/api/v1/sessions")
    await archer.http.get("/health/live")  # Lines come behind their answers.
    told = [record.getMessage() for record in caplog.records if "/api/v1/sessions" in record.getMessage()]
    assert len(told) == 1
    assert "HEAD" in told[0]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/api/v1/sessions", "GET, HEAD, POST, DELETE"),
        ("POST", "/api/v1/sessions/sky", "GET, HEAD, PATCH, DELETE"),
        ("PATCH", "/api/v1/streams/done", "GET, HEAD, DELETE"),
        ("HEAD", "/api/v1/chat/completions", "POST"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("DELETE", "/v1/models/a/b", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_told_all_that_it_takes(
    archer: Archer, method: str, path: str, allowed: str
) -> None:
    answer = await archer.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
