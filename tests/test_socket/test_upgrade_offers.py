"""Clients that offer an upgrade which is not taken are served as if they had not (RFC 9110, section 7.8)."""

import asyncio
import json

import pytest

from tests.fakes.ollama_api import ollama_stream
from tests.fakes.raw_client import RawClient, chunked, raw_client, request
from tests.fakes.raw_websocket import raw_websocket
from tests.fakes.scripted_server import Wait, forever
from tests.test_socket.conftest import Socketed, StartSocketed, assert_quiet, until

LIMIT_S = 60
SESSIONS = "/api/v1/sessions"
#: What OpenJDK's HttpClient and `curl --http2` send.
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
#: A request whose body is not what it announces.
NO_CHUNK = request("POST", "/api/v1/sessions", "Transfer-Encoding: chunked") + b"no number\r\n"
QUESTION = json.dumps({"messages": [{"role": "user", "content": "Why is the sky blue?"}]}).encode()
OFFERS = {
    "HTTP/2": H2C,
    "the token alone": ("connection: keep-alive, UPGRADE", "upgrade: H2C"),
    "two fields": ("Connection: keep-alive", "Connection: Upgrade", "Upgrade: h2c"),
    "TLS": ("Connection: Upgrade", "Upgrade: TLS/1.3"),
    "something unknown": ("Connection: upgrade", "Upgrade: carrier-pigeon/2, h2c"),
    "an old proxy's field": ("Proxy-Connection: Upgrade", "Upgrade: h2c"),
    "a socket by POST": WEBSOCKET,
}


def titled(title: str) -> bytes:
    return json.dumps({"title": title}).encode()


async def assert_created(client: RawClient, title: str) -> None:
    answer = await client.answer()
    assert (answer.status, json.loads(answer.body)["title"]) == (201, title)


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_a_java_client_s_session_keeps_its_title_whatever_upgrade_is_offered(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture, offer: tuple[str, ...]
) -> None:
    body = titled("kept")
    whole, in_chunks = request("POST", SESSIONS, *offer, body=body), chunked("POST", SESSIONS, *offer, pieces=[body])
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        for sent in (whole, in_chunks):
            head, _, rest = sent.partition(b"\r\n\r\n")
            for pieces in ([sent], [head + b"\r\n\r\n", rest], [sent[n : n + 1] for n in range(len(sent))]):
                async with raw_client(archer.address) as client:
                    await client.send(*pieces)
                    await assert_created(client, "kept")
                    # And whatever follows on the connection.
                    await client.send(request("GET", "/health/live"))
                    assert (await client.answer()).status == 200
    assert_quiet(caplog)


async def test_requests_behind_one_another_are_all_served(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        titles = [f"number {number}" for number in range(40)]
        requests = [
            request("POST", SESSIONS, *(H2C if number % 3 else ()), body=titled(title))
            for number, title in enumerate(titles)
        ]
        await client.send(b"".join(requests))
        for title in titles:
            await assert_created(client, title)


async def test_hundreds_of_offers_in_one_piece_are_as_many_requests(start_socketed: StartSocketed) -> None:
    asked = [request("GET", "/health/live", "Connection: Upgrade", "Upgrade: h2c")] * 600
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        sending = asyncio.create_task(client.send(b"".join(asked)))
        for _ in asked:
            assert (await client.answer()).status == 200
        await sending


async def test_a_client_that_closes_behind_its_request_is_answered_and_closed(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        await client.send(request("POST", SESSIONS, "Connection: close, Upgrade", "Upgrade: h2c", body=titled("last")))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (201, "close")
        assert await client.rest() == b""


async def test_a_body_that_waits_for_leave_gets_it(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        head, _, body = request("POST", SESSIONS, *H2C, "Expect: 100-continue", body=titled("later")).partition(
            b"\r\n\r\n"
        )
        await client.send(head + b"\r\n\r\n")
        assert (await client.head())[0] == 100
        await client.send(body)
        await assert_created(client, "later")


async def test_a_chat_streams_to_a_client_that_offers_http_2(start_socketed: StartSocketed) -> None:
    question = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        archer.answer(ollama_stream("Hel", "lo"))
        await client.send(request("POST", "/api/v1/chat/completions/stream", *H2C, body=question))
        answer = await client.answer()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.body.endswith(b"data: [DONE]\n\n")
        (chat,) = [exchange for exchange in archer.ollama.exchanges if exchange.path == "/api/chat"]
        assert chat.json()["messages"][-1]["content"] == "hello"


async def test_an_offer_over_http_1_0_is_none(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        for offer in (H2C, WEBSOCKET):
            async with raw_client(archer.address) as client:
                await client.send(request("POST", SESSIONS, *offer, body=titled("old"), version="1.0"))
                await assert_created(client, "old")
                assert await client.rest() == b""


@pytest.mark.parametrize("path", ["/health/live", "/api/v1/models?x=1"])
async def test_a_socket_where_there_is_none_is_a_plain_request(start_socketed: StartSocketed, path: str) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        for _ in range(2):
            await client.send(request("GET", path, *WEBSOCKET))
            assert (await client.answer()).status == 200


async def test_a_socket_at_a_wrong_path_is_told_the_right_one(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        await client.send(request("GET", "/ws", *WEBSOCKET))
        answer = await client.answer()
        assert answer.status == 404
        assert "/api/v1/ws" in json.loads(answer.body)["error"]["hint"]


async def test_a_socket_for_openai_s_responses_is_told_to_use_post_at_once(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        await client.send(request("GET", "/v1/responses", *WEBSOCKET, "OpenAI-Beta: responses_websockets=2026-02-06"))
        answer = await client.answer()
        assert (answer.status, answer.headers["upgrade"]) == (426, "HTTP/1.1")
        message = json.loads(answer.body)["error"]["message"]
        assert "by POST" in message
        # The next request may come over the same connection.
        await client.send(request("POST", "/v1/responses", body=b'{"input": "hello"}'))
        answer = await client.answer()
        assert answer.status == 404
        assert "Responses API" in json.loads(answer.body)["error"]["message"]


@pytest.mark.parametrize(
    "path",
    # The last one is in absolute form (RFC 9112, section 3.2.2).
    ["/api/v1/ws", "/api/v1/ws/", "/api/v1/w%73", "/api/v1/ws?x=1", "http://localhost/api/v1/ws?x=1"],
)
async def test_our_own_socket_is_one_however_its_path_is_written(start_socketed: StartSocketed, path: str) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_websocket(archer.address, path) as raw:
        assert " 101 " in await raw.head()


async def test_a_head_of_too_many_bytes_is_refused_with_an_offer_too(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        field = "X: " + "x" * 9000 + "\r\n"
        await client.send(request("POST", SESSIONS, *H2C)[:-2], field.encode() * 8)
        assert (await client.answer()).status == 400


async def refusal(archer: Socketed, *pieces: bytes) -> tuple[int, str]:
    """What a client is told before it is closed."""
    async with raw_client(archer.address) as client:
        await client.send(*pieces)
        answer = await client.answer()
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""
        return answer.status, answer.body.decode()


async def test_connect_is_refused_in_words(start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        asked = request("CONNECT", "elsewhere.example:443") + b"\x16\x03\x01\x00\x05hello"
        for pieces in ([asked], [asked[n : n + 1] for n in range(len(asked))]):
            status, reason = await refusal(archer, *pieces)
            assert status == 405
            assert "no proxy" in reason
    assert_quiet(caplog)


async def test_http_2_without_an_offer_is_refused_in_words(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        for pieces in ([preface], [preface[n : n + 1] for n in range(len(preface))]):
            status, reason = await refusal(archer, *pieces)
            assert status == 400
            assert "HTTP/1.1" in reason
    assert_quiet(caplog)


async def test_what_cannot_be_spoken_does_not_cut_into_the_answer_before_it(start_socketed: StartSocketed) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        await client.send(request("POST", SESSIONS, *H2C, body=titled("first")) + request("CONNECT", "a:80"))
        await assert_created(client, "first")
        assert await client.rest() == b""


@pytest.mark.parametrize("path", ["/api/v1/chat/completions", "/api/v1/chat/completions/stream"])
@pytest.mark.parametrize(
    "offered",
    [
        *(b"\x00\x01", b"GET / HTTP/0.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", request("CONNECT", "a:80")),
        *(NO_CHUNK, request("GET", "/health/live") + NO_CHUNK),
    ],
    ids=["no HTTP", "HTTP/0.9", "HTTP/2", "a tunnel", "no chunk", "no chunk behind a further request"],
)
async def test_a_running_response_comes_to_its_end_whatever_comes_behind_its_request(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture, path: str, offered: bytes
) -> None:
    may_end = asyncio.Event()
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        archer.answer(ollama_stream("Blue", Wait(may_end), "."))
        await client.send(request("POST", path, body=QUESTION))
        await archer.ollama.exchange(path="/api/chat")
        (connection,) = archer.http_connections
        await client.send(offered)
        await until(lambda: connection._is_over)
        # Its head has no deadline either.
        connection._head_overdue()
        may_end.set()
        answer = await client.answer()
        assert answer.status == 200
        assert b'"status":"completed"' in answer.body.replace(b": ", b":")
        if b"/health/live" in offered:
            assert (await client.answer()).status == 200
        assert await client.rest() == b""
    assert_quiet(caplog)


@pytest.mark.parametrize("path", ["/api/v1/chat/completions", "/api/v1/chat/completions/stream"])
@pytest.mark.parametrize(
    "offered", [b"\x00\x01", request("CONNECT", "a:80"), NO_CHUNK], ids=["no HTTP", "a tunnel", "no chunk"]
)
async def test_a_client_that_leaves_behind_what_ends_its_connection_closes_the_provider_s(
    start_socketed: StartSocketed, path: str, offered: bytes
) -> None:
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer:
        archer.answer(ollama_stream("Blue", forever()))
        async with raw_client(archer.address) as client:
            await client.send(request("POST", path, body=QUESTION))
            exchange = await archer.ollama.exchange(path="/api/chat")
            (connection,) = archer.http_connections
            await client.send(offered)
            await until(lambda: connection._is_over)
        await exchange.client_left.wait()


async def test_a_socket_is_no_socket_while_a_response_before_it_is_sent(
    start_socketed: StartSocketed, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = asyncio.Event()
    async with asyncio.timeout(LIMIT_S), start_socketed() as archer, raw_client(archer.address) as client:
        archer.answer(ollama_stream("Blue", Wait(may_end), "."))
        await client.send(request("POST", "/api/v1/chat/completions/stream", body=QUESTION))
        await archer.ollama.exchange(path="/api/chat")
        (connection,) = archer.http_connections
        await client.send(request("GET", "/api/v1/ws", *WEBSOCKET))
        await until(lambda: bool(connection.pipeline))
        may_end.set()
        answer = await client.answer()
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert (await client.answer()).status == 404
        # Then it is one.
        await client.send(request("GET", "/api/v1/ws", *WEBSOCKET[:2], f"Sec-WebSocket-Key: {KEY}", WEBSOCKET[3]))
        assert (await client.head())[0] == 101
    assert_quiet(caplog)
