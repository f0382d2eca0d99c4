"""Our uvicorn server: the wire's settings, telling when the server can serve, and draining.

uvicorn's own shutdown comes last, when the streams have ended: until then the listener answers, readiness with 503 and
new chats with `draining` (protocol section 9). Which streams run, and what ends them, is the session manager's; what is
printed is the command line's.
"""

import asyncio
import ctypes
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import structlog
import uvicorn
import uvicorn.server
from fastapi import FastAPI
from starlette.routing import WebSocketRoute
from uvicorn.server import HANDLED_SIGNALS

from archer_ws.api.dependencies import Services
from archer_ws.api.security.seats import Seats
from archer_ws.core.limits import KEEP_ALIVE_S, MAX_FRAME_BYTES, Limits
from archer_ws.core.memory import return_large_blocks
from archer_ws.core.rare_line import RareLine
from archer_ws.server.http_protocol import BoundedHeadProtocol
from archer_ws.server.listening import descriptor_limit
from archer_ws.server.ws_protocol import WatchedWebSocketProtocol

log = structlog.get_logger(__name__)

#: How long clients may take to read the ends of their streams when there is no time left; else `Limits.flush_s`.
HURRIED_FLUSH_S = 0.2
#: New objects before the young ones are looked at, and how many of such looks make one at the older generations.
GC_THRESHOLDS = (50_000, 20, 20)
#: glibc's malloc.h; and from which size on a block has pages of its own, in bytes (glibc's own beginning).
_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES = -3, 128 * 1024
#: How long uvicorn's shutdown may take after that: closing the adapters, and the local model's process.
SHUTDOWN_LIMIT_S = 10.0


_accept_failed = RareLine("accept_failed")


class _State(uvicorn.server.ServerState):
    """What uvicorn's connections share, and the places that there are for them."""

    def __init__(self, seats: Seats) -> None:
        super().__init__()
        self.seats = seats


class ArcherServer(uvicorn.Server):
    """Serves the application until it is told to stop, then drains.

    The first SIGTERM, SIGINT, SIGHUP or `request_stop` drains: running streams get `drain_s`. The second ends what is
    left at once.

    Args:
        app: made by `create_app`.
        drain_s: how long running streams may go on after the first request to stop, in seconds.
        on_ready: called once, when the default provider can answer (None) or it is known why not (what, and what to
            do); not when the server is stopped before.
        watch_stdin: whether the end of standard input is a request to stop.
        limits: what clients may do, and how long.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        drain_s: float,
        on_ready: Callable[[str | None], None],
        watch_stdin: bool = False,
        limits: Limits = Limits(),
    ) -> None:
        super().__init__(_config(app, limits))
        #: The places for connections.
        self.seats = Seats(descriptor_limit())
        self.server_state = _State(self.seats)
        self._app = app
        self._services: Services = app.state.services
        app.state.is_served_by_archer = True
        self._drain_s = drain_s
        self._flush_s = limits.flush_s
        self._on_ready = on_ready
        self._watch_stdin = watch_stdin
        self._loop: asyncio.AbstractEventLoop | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._stopping: list[asyncio.Task[None]] = []

    @property
    def was_hurried(self) -> bool:
        """Whether the server was told to stop a second time, and ended without draining to the end."""
        return len(self._stopping) > 1

    def request_stop(self, cause: str) -> None:
        """Drain and stop, a second time at once; from a signal handler or any thread, while `serve` runs."""
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop has just been closed.
                self._loop.call_soon_threadsafe(self._stop, cause)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped; returns normally after draining, whatever the signal was."""
        self._loop = asyncio.get_running_loop()
        _give_large_blocks_back()
        self._loop.set_exception_handler(_tell_of_loop)
        logging.getLogger("uvicorn.error").addFilter(_is_told_elsewhere)
        if self._watch_stdin:
            # A daemon: nothing can wake it from its read.
            threading.Thread(target=self._await_stdin_end, name="stdin", daemon=True).start()
        await super().serve(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn's, but a signal that was obeyed is not raised again: the exit status is the caller's to choose."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self.handle_exit) for number in _stop_signals()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.request_stop(signal.Signals(sig).name)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; then tell when the provider is ready, without keeping clients waiting."""
        await super().startup(sockets)
        # uvicorn says so only of sockets of its own. Until the provider is ready, which may take minutes, it is all.
        log.info("listening", addresses=[f"{at[0]} port {at[1]}" for at in (s.getsockname() for s in sockets or ())])
        self._announcing = asyncio.create_task(self._announce())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener, the connections and the application, in bounded time."""
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
        flush_s = HURRIED_FLUSH_S if self.was_hurried else self._flush_s
        aborting = asyncio.get_running_loop().call_later(flush_s, self._abort_connections)
        try:
            async with asyncio.timeout(flush_s + SHUTDOWN_LIMIT_S):
                await super().shutdown(sockets)
        except TimeoutError:
            log.warning("shutdown_incomplete", waited_s=flush_s + SHUTDOWN_LIMIT_S)
        finally:
            aborting.cancel()
        await asyncio.gather(*self._stopping)

    def _stop(self, cause: str) -> None:
        match len(self._stopping):
            case 0:
                log.info("stopping", cause=cause, streams=self._services.manager.running, limit_s=self._drain_s)
                self._stopping.append(asyncio.create_task(self._drain()))
            case 1:
                log.warning("stopping_at_once", cause=cause, streams=self._services.manager.running)
                self._stopping.append(asyncio.create_task(self._hurry()))

    async def _drain(self) -> None:
        sockets = self._services.sockets
        try:
            sockets.notify_draining(round(self._drain_s * 1000))
            await self._services.manager.drain(self._drain_s)
            await sockets.close_all("draining", HURRIED_FLUSH_S if self.was_hurried else self._flush_s)
        finally:
            self._cut_sockets()
            self.should_exit = True

    async def _hurry(self) -> None:
        # Every stream ends, so that `drain` returns as well.
        await self._services.manager.aclose()
        await asyncio.sleep(HURRIED_FLUSH_S)
        self._abort_connections()

    def _abort_connections(self) -> None:
        """Cut what is left: clients that do not read, or that have not finished their requests."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _cut_sockets(self) -> None:
        """Cut the sockets that could not be closed: what their peers have not read by now must not hold up the stop."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, WatchedWebSocketProtocol) and not connection.close_sent:
                connection.transport.abort()

    async def _announce(self) -> None:
        preparing: asyncio.Task[str | None] = self._app.state.preparing
        await asyncio.wait({preparing})
        return_large_blocks()
        settle_garbage_collection()
        if preparing.cancelled():
            return
        if error := preparing.exception():
            log.error("preparation_failed", exc_info=error)
            reason: str | None = "the provider could not be made ready; the log has the details"
        else:
            reason = preparing.result() or await self._what_the_probe_says()
        if not self._stopping:
            self._on_ready(reason)

    async def _what_the_probe_says(self) -> str | None:
        """Prepared is not yet answering: another process, or a key, may be missing."""
        status = await self._services.readiness.check()
        if status.available:
            return None
        return f"{status.error or 'the provider does not answer'}. {status.hint or ''}".strip()

    def _await_stdin_end(self) -> None:
        # Not through sys.stdin's buffer: the interpreter can't exit while another thread is reading there.
        try:
            descriptor = sys.stdin.fileno()
            while os.read(descriptor, 4096):
                pass
        except (OSError, ValueError, AttributeError):
            log.warning("stdin_unreadable", hint="--exit-with-parent needs a standard input that the parent keeps open")
        self.request_stop("end of standard input")


def _give_large_blocks_back() -> None:
    """Have glibc return what large blocks took as soon as they are freed; elsewhere the system decides.

    With its defaults it learns to keep blocks of up to 32 MB in its heap, where small ones that live on pin them down:
    after 60 logs of 4 MB were dropped, the process kept 150 MB.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # Another C library.
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def _stop_signals() -> list[int]:
    """uvicorn's, and a terminal's end, unless whoever started us wants that to be ignored (nohup)."""
    numbers: list[int] = list(HANDLED_SIGNALS)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


def _tell_of_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's own handler, but for connections that can't be accepted: it would tell of each, with a traceback."""
    if isinstance(context.get("exception"), OSError) and "accept" in context.get("message", ""):
        _accept_failed.write(error=str(context["exception"]), hint="raise the limit of descriptors: ulimit -n")
    else:
        loop.default_exception_handler(context)


def _is_told_elsewhere(record: logging.LogRecord) -> bool:
    """Keep uvicorn's line for what is no HTTP away: clients can cause it at will, and ours comes seldom."""
    return not str(record.msg).startswith("Invalid HTTP request received")


def settle_garbage_collection() -> None:
    """Look for garbage more rarely, and never again among what the start has left.

    Streams and connections are many and live long, and make hardly any cycles. With Python's defaults and 8,000
    streams the collector took half the time, and stalled the loop for seconds (tests/benchmarks/soak.py shows it).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _http_protocol(app: FastAPI, bounds: Limits) -> type[BoundedHeadProtocol]:
    """HTTP that knows where the application has sockets."""
    paths = frozenset(route.path for route in app.routes if isinstance(route, WebSocketRoute))

    class HttpProtocol(BoundedHeadProtocol):
        socket_paths = paths
        limits = bounds

    return HttpProtocol


def websocket_protocol(bounds: Limits) -> type[WatchedWebSocketProtocol]:
    """The sockets' protocol with other bounds than the table's."""

    class WebSocketProtocol(WatchedWebSocketProtocol):
        limits = bounds

    return WebSocketProtocol


def _config(app: FastAPI, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        http=_http_protocol(app, limits),
        timeout_keep_alive=KEEP_ALIVE_S,
        # A net under our own bound: it cancels what still runs, which leaves tracebacks in the log.
        timeout_graceful_shutdown=math.ceil(limits.flush_s) + 2,
        ws=websocket_protocol(limits),
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=limits.ping_interval_s,
        ws_ping_timeout=limits.ping_timeout_s,
        ws_per_message_deflate=False,
    )
