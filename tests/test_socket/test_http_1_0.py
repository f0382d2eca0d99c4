"""Clients of HTTP/1.0, which may not know chunks (RFC 9112, section 6.1)."""

import asyncio
import json

import pytest

from tests.fakes.ollama_api import ollama_stream
from tests.fakes.raw_client import raw_client, request
from tests.fakes.scripted_server import forever
from tests.test_socket.conftest import StartSocketed, assert_quiet

LIMIT_S = 30
QUESTION = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize("keep_alive", [[], ["Connection: keep-alive"]], ids=["plain", "keep-alive"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/chat/completions/stream", QUESTION),
        ("/api/v1/chat/completions", {**QUESTION, "stream": True}),
        ("/v1/chat/completions", {**QUESTION, "stream": True}),
    ],
)
async def test_events_end_with_the_connection_and_have_no_sizes_of_chunks_between(
    start_socketed: StartSocketed,
    caplog: pytest.LogCaptureFixture,
    keep_alive: list[str],
    path: str,
    body: dict[str, object],
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        archer.answer(ollama_stream("Hel", "lo"))
        await client.send(request("POST", path, *keep_alive, body=json.dumps(body).encode(), version="1.0"))
        status, headers = await client.head()
        assert (status, headers["connection"]) == (200, "close")
        assert not {"transfer-encoding", "content-length"} & set(headers)
        text = (await client.rest()).decode()
    fields = {line.partition(":")[0] for line in text.splitlines() if line}
    assert fields <= {"id", "event", "data"}
    assert text.endswith("data: [DONE]\n\n")
    assert_quiet(caplog)


async def test_an_answer_whose_length_is_known_has_it(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        archer.answer(ollama_stream("Hello"))
        asked = json.dumps(QUESTION).encode()
        await client.send(request("POST", "/api/v1/chat/completions", body=asked, version="1.0"))
        answer = await client.answer()
        assert (answer.headers["connection"], json.loads(answer.body)["content"]) == ("close", "Hello")
        assert await client.rest() == b""


async def test_events_behind_another_request_are_not_chunked_either(start_socketed: StartSocketed) -> None:
    asked = request("POST", "/api/v1/chat/completions/stream", body=json.dumps(QUESTION).encode(), version="1.0")
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        archer.answer(ollama_stream("Hello"))
        await client.send(request("GET", "/health/live") + asked)
        assert (await client.answer()).status == 200
        assert "transfer-encoding" not in (await client.head())[1]
        assert (await client.rest()).endswith(b"data: [DONE]\n\n")


async def test_a_head_and_an_answer_without_a_body_are_as_ever(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        async with raw_client(archer.address) as client:
            await client.send(request("HEAD", "/health/live", version="1.0"))
            assert (await client.answer(is_head=True)).status == 200
            assert await client.rest() == b""
        async with raw_client(archer.address) as client:
            await client.send(request("POST", "/api/v1/sessions", body=b'{"session_id": "x"}', version="1.0"))
            await client.answer()
        async with raw_client(archer.address) as client:
            await client.send(request("DELETE", "/api/v1/sessions/x", version="1.0"))
            assert (await client.answer()).status == 204
            assert await client.rest() == b""


async def test_leave_to_send_a_body_is_not_given_to_who_cannot_ask(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        await client.send(request("POST", "/api/v1/sessions", "Expect: 100-continue", body=b"{}", version="1.0"))
        assert (await client.answer()).status == 201


async def test_a_client_of_http_1_1_gets_chunks(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        archer.answer(ollama_stream("Hello", forever()))
        asked = json.dumps(QUESTION).encode()
        await client.send(request("POST", "/api/v1/chat/completions/stream", body=asked))
        assert (await client.head())[1]["transfer-encoding"] == "chunked"
