"""A connection without a request is closed, by one timer for all its pauses."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from archer_ws.api.streaming.departure import DEPARTURE
from archer_ws.core.limits import BODY_PROGRESS_WINDOW_S, HEAD_DEADLINE_S
from archer_ws.server.http_protocol import BoundedHeadProtocol
from tests.fakes.raw_client import request

PAUSE_S = 75


@dataclass
class Timer:
    due: float
    work: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def when(self) -> float:
        return self.due


@dataclass
class Clock:
    """The timers of an event loop, whose time passes as told."""

    now: float = 1000.0
    timers: list[Timer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, work: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay, work)
        self.timers.append(timer)
        return timer

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def waiting(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    def pass_until(self, now: float) -> None:
        while due := [timer for timer in self.waiting() if timer.due <= now]:
            first = min(due, key=lambda timer: timer.due)
            self.timers.remove(first)
            self.now = first.due
            first.work()
        self.now = now


class Transport:
    """What the protocol needs of one."""

    def __init__(self) -> None:
        self.is_closed = False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True


async def respond(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def connected(app: Any = respond) -> tuple[BoundedHeadProtocol, Transport, Clock]:
    config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=PAUSE_S)
    config.load()
    clock, transport = Clock(), Transport()
    protocol = BoundedHeadProtocol(config, ServerState(), {}, cast(Any, clock))
    protocol.connection_made(cast(Any, transport))
    return protocol, transport, clock


async def test_a_connection_is_closed_when_no_request_has_come_for_so_long_after_the_last_response() -> None:
    protocol, transport, clock = connected()
    protocol.data_received(request("GET", "/"))
    clock.pass_until(1050)
    protocol.data_received(request("GET", "/"))
    clock.pass_until(1050 + PAUSE_S - 1)
    assert not transport.is_closed
    clock.pass_until(1050 + PAUSE_S)
    assert transport.is_closed


async def test_a_request_that_runs_when_the_timer_is_due_is_no_pause_and_the_next_pause_has_a_timer() -> None:
    may_end = asyncio.Event()
    may_end.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_end.wait()
        await respond(scope, receive, send)

    protocol, transport, clock = connected(app)
    protocol.data_received(request("GET", "/"))
    may_end.clear()
    clock.pass_until(1060)
    protocol.data_received(request("GET", "/"))
    clock.pass_until(1500)
    assert not transport.is_closed
    may_end.set()
    await asyncio.gather(*protocol.tasks)
    clock.pass_until(1500 + PAUSE_S - 1)
    assert not transport.is_closed
    clock.pass_until(1500 + PAUSE_S)
    assert transport.is_closed


async def test_a_lost_connection_has_no_timer() -> None:
    protocol, _, clock = connected()
    protocol.data_received(request("GET", "/"))
    assert clock.waiting()
    protocol.connection_lost(None)
    assert clock.waiting() == []


async def test_line_ends_that_begin_no_request_keep_no_connection_open() -> None:
    # RFC 9112, section 2.2: they are ignored.
    protocol, transport, clock = connected()
    protocol.data_received(request("GET", "/"))
    protocol.data_received(b"\r\n")
    clock.pass_until(1000 + PAUSE_S)
    assert transport.is_closed


async def test_a_request_whose_beginning_came_with_the_one_before_is_no_pause() -> None:
    may_end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/long":
            await may_end.wait()
        await respond(scope, receive, send)

    protocol, transport, clock = connected(app)
    long = request("GET", "/long")
    protocol.data_received(request("GET", "/") + long[:4])
    await asyncio.gather(*protocol.tasks)
    protocol.data_received(long[4:])
    assert protocol.tasks
    clock.pass_until(1000 + 10 * PAUSE_S)
    assert not transport.is_closed
    may_end.set()
    await asyncio.gather(*protocol.tasks)
    clock.pass_until(1000 + 11 * PAUSE_S)
    assert transport.is_closed


async def test_a_head_of_which_no_more_is_read_while_others_wait_is_not_overdue() -> None:
    may_end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_end.wait()
        await respond(scope, receive, send)

    protocol, transport, clock = connected(app)
    asked = request("GET", "/")
    protocol.data_received(asked)
    protocol.data_received(asked + asked[:4])
    assert protocol.flow.read_paused
    clock.pass_until(1000 + 10 * HEAD_DEADLINE_S)
    assert not transport.is_closed
    may_end.set()
    while protocol.tasks:
        await asyncio.gather(*protocol.tasks)
    clock.pass_until(clock.now + HEAD_DEADLINE_S)
    assert transport.is_closed


def until_told(may_end: asyncio.Event) -> Any:
    """An application that watches for its client, as a generation does: so more is read while it runs."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        extensions: Any = scope["extensions"]
        extensions[DEPARTURE].watch(lambda: None)
        await may_end.wait()
        await respond(scope, receive, send)

    return app


async def test_a_head_that_does_not_come_behind_a_response_cuts_off_none_of_it() -> None:
    may_end = asyncio.Event()
    protocol, transport, clock = connected(until_told(may_end))
    asked = request("GET", "/")
    protocol.data_received(asked + asked[:4])
    clock.pass_until(1000 + 10 * HEAD_DEADLINE_S)
    assert not transport.is_closed
    may_end.set()
    await asyncio.gather(*protocol.tasks)
    assert transport.is_closed


async def test_a_body_that_waits_behind_a_response_may_stand_still_until_its_turn() -> None:
    may_end = asyncio.Event()
    protocol, transport, clock = connected(until_told(may_end))
    # A client may wait for "100 Continue", which comes when the request is served.
    protocol.data_received(request("GET", "/") + request("POST", "/", "Expect: 100-continue", body=b"{}")[:-2])
    assert not protocol.flow.read_paused
    clock.pass_until(1000 + 10 * BODY_PROGRESS_WINDOW_S)
    assert not transport.is_closed
    may_end.set()
    protocol.data_received(b"{}")
    while protocol.tasks:
        await asyncio.gather(*protocol.tasks)
    assert protocol.server_state.total_requests == 2
