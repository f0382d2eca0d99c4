"""A server that stood still holds no client to a time limit that ran out meanwhile: the limit begins anew."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from archer_ws.core.limits import Limits
from archer_ws.core.standstill import STANDSTILL_S
from tests.fakes.raw_websocket import PING, PONG, frame, raw_websocket
from tests.test_socket.conftest import Socketed, StartSocketed, assert_quiet, until
from tests.test_socket.test_abuse import LIMIT_S
from tests.test_socket.test_http_abuse import connected, post

#: Every limit that the standstill exceeds, in seconds.
SHORT_S = 0.5
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def stand_still() -> None:
    """Let the limits run out while the event loop stands still; then let the timers run before anything is read."""
    time.sleep(SHORT_S + STANDSTILL_S + 0.1)  # noqa: ASYNC251 - it is the event loop that stands still
    for _ in range(3):
        await asyncio.sleep(0)


async def a_body_goes_on(archer: Socketed) -> None:
    async with connected(archer) as client:
        await client.send(post(b"/api/v1/sessions", b"Content-Length: 22\r\n"))
        await until(lambda: any(each._body_timer for each in archer.http_connections))
        await stand_still()
        await client.send(b'{"session_id": "oslo"}')
        assert (await client.head()).startswith(b"HTTP/1.1 201 ")


async def a_head_goes_on(archer: Socketed) -> None:
    async with connected(archer) as client:
        await client.send(GET + GET[:20])
        await client.answer()
        await stand_still()
        await client.send(GET[20:])
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def a_pause_ends(archer: Socketed) -> None:
    async with connected(archer) as client:
        await client.send(GET)
        await client.answer()
        await stand_still()
        await client.send(GET)
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def a_ping_is_answered(archer: Socketed) -> None:
    async with raw_websocket(archer.address) as client:
        await client.head()
        opcode, payload = await client.frame()
        assert opcode == PING
        await stand_still()
        await client.send(frame(PONG, payload))
        assert (await client.frame())[0] == PING


@pytest.mark.parametrize("goes_on", [a_body_goes_on, a_head_goes_on, a_pause_ends, a_ping_is_answered])
async def test_a_limit_that_ran_out_while_the_server_stood_still_begins_anew(
    start_socketed: StartSocketed,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    goes_on: Callable[[Socketed], Awaitable[None]],
) -> None:
    monkeypatch.setattr("archer_ws.server.server.KEEP_ALIVE_S", SHORT_S)
    limits = Limits(
        head_deadline_s=SHORT_S, body_progress_window_s=SHORT_S, ping_interval_s=0.1, ping_timeout_s=SHORT_S
    )
    async with asyncio.timeout(LIMIT_S), start_socketed(limits=limits) as archer:
        await goes_on(archer)
    assert_quiet(caplog)
