"""Our uvicorn server: its socket and protocol settings, reporting when it is ready, and draining.

uvicorn's own shutdown runs last, after the streams have ended. Until then the listener stays open: readiness answers
503, and new chats are refused with `draining` (protocol section 9). The session manager knows which streams run and
ends them; the command line prints.
"""

import asyncio
import gc
import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import Context
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
from archer_ws.core.huge_pages import gather_heap
from archer_ws.core.limits import KEEP_ALIVE_S, MAX_FRAME_BYTES, Limits
from archer_ws.core.memory import return_large_blocks
from archer_ws.core.rare_line import RareLine
from archer_ws.rpc.codec import SAFE_INTEGER
from archer_ws.server import standard_input
from archer_ws.server.http_forwarded import ForwardedHeaders
from archer_ws.server.http_protocol import BoundedHeadProtocol
from archer_ws.server.listening import descriptor_limit
from archer_ws.server.ws_protocol import WatchedWebSocketProtocol

log = structlog.get_logger(__name__)
#: For uvicorn's traceback of a start that was given up.
_given_up_log = logging.getLogger(f"{__name__}.given_up")
_given_up_log.setLevel(logging.CRITICAL + 1)

#: How long clients may take to read the ends of their streams when no time is left to drain; otherwise
#: `Limits.flush_s`.
HURRIED_FLUSH_S = 0.2
#: The garbage collector's thresholds: new objects before a collection of the youngest generation, and collections of
#: one generation before one of the next.
GC_THRESHOLDS = (50_000, 20, 20)
#: How long uvicorn's shutdown may take after that, which closes the adapters and the local model's process.
SHUTDOWN_LIMIT_S = 10.0


_accept_failed = RareLine("accept_failed")


class _State(uvicorn.server.ServerState):
    """The state that uvicorn's connections share, with the seats for connections."""

    def __init__(self, seats: Seats) -> None:
        super().__init__()
        self.seats = seats


class ArcherServer(uvicorn.Server):
    """Serves the application until it is asked to stop, then drains.

    The first SIGTERM, SIGINT, SIGHUP or `request_stop` starts draining: running streams may go on for `drain_s`. A
    second one ends at once what is left.

    Args:
        app: made by `create_app`.
        drain_s: how long running streams may go on after the first request to stop, in seconds.
        on_ready: called once: with None when the default provider can answer, else with what is wrong and what to do.
            Not called if the server is stopped before.
        on_stopped: called once when everything is closed, or given up, and only the event loop is left to close.
        watch_stdin: whether the end of standard input is a request to stop.
        limits: what clients may do, and for how long.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        drain_s: float,
        on_ready: Callable[[str | None], None],
        on_stopped: Callable[[], None] = lambda: None,
        watch_stdin: bool = False,
        limits: Limits = Limits(),
    ) -> None:
        super().__init__(_config(app, limits))
        #: The seats for connections.
        self.seats = Seats(descriptor_limit())
        self.server_state = _State(self.seats)
        self._app = app
        self._services: Services = app.state.services
        app.state.is_served_by_archer = True
        self._drain_s = drain_s
        self._flush_s = limits.flush_s
        #: The end of `flush_s`, in the loop's time, once it runs.
        self._flush_until: float | None = None
        self._on_ready = on_ready
        self._on_stopped = on_stopped
        self._watch_stdin = watch_stdin
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The task that starts the application, while it does.
        self._starting: asyncio.Task[Any] | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._stopping: list[asyncio.Task[None]] = []

    @property
    def was_hurried(self) -> bool:
        """Whether the server was asked to stop a second time, and so ended before draining was complete."""
        return len(self._stopping) > 1

    def request_stop(self, cause: str) -> None:
        """Drain and stop; called a second time, stop at once. May be called from a signal handler or any thread while
        `serve` runs."""
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop has just been closed.
                # In a context of its own: a signal comes in the middle of anything, and its lines are no request's.
                self._loop.call_soon_threadsafe(self._stop, cause, context=Context())

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped; returns normally after draining, whatever the signal was."""
        self._loop = asyncio.get_running_loop()
        return_large_blocks()
        self._loop.set_exception_handler(_handle_loop_error)
        logging.getLogger("uvicorn.error").addFilter(_is_not_invalid_http)
        if self._watch_stdin:
            # A daemon thread: nothing can interrupt its read.
            threading.Thread(target=self._await_stdin_end, name="stdin", daemon=True).start()
        try:
            await super().serve(sockets)
        finally:
            self._on_stopped()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn's, but a handled signal is not raised again: the caller chooses the exit status."""
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
        """Listen; then report when the provider is ready, without making clients wait for it. A start that goes on for
        SHUTDOWN_LIMIT_S after a request to stop, or when a second one comes, is given up."""
        self._starting = asyncio.current_task()
        try:
            await super().startup(sockets)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            log.warning("start_given_up")
            self.should_exit = True
            self.lifespan.logger = _given_up_log
            return
        finally:
            self._starting = None
        # uvicorn logs this only for sockets that it bound itself. Until the provider is ready, which may take minutes,
        # it is the only line.
        log.info("listening", addresses=[f"{at[0]} port {at[1]}" for at in (s.getsockname() for s in sockets or ())])
        self._announcing = asyncio.create_task(self._announce())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener, the connections and the application, within a time limit."""
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
        flush_s = self._flush_left_s()
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
            sockets.notify_draining(round(min(self._drain_s * 1000, SAFE_INTEGER)))
            await self._services.manager.drain(self._drain_s)
            await sockets.close_all("draining", self._flush_left_s())
        finally:
            self._cut_sockets()
            self.should_exit = True
            # Otherwise a disk that hangs would keep the process when the parent has gone, which asks only once.
            asyncio.get_running_loop().call_later(SHUTDOWN_LIMIT_S, self._give_up_start)

    def _flush_left_s(self) -> float:
        """How long clients may still read. Sockets and requests share this time, which begins with the first call."""
        now = asyncio.get_running_loop().time()
        if self._flush_until is None:
            self._flush_until = now + self._flush_s
        return HURRIED_FLUSH_S if self.was_hurried else max(self._flush_until - now, HURRIED_FLUSH_S)

    def _give_up_start(self) -> None:
        if self._starting is not None:
            self._starting.cancel()

    async def _hurry(self) -> None:
        self._give_up_start()
        # Every stream ends, so `drain` returns as well.
        await self._services.manager.aclose()
        await asyncio.sleep(HURRIED_FLUSH_S)
        self._abort_connections()

    def _abort_connections(self) -> None:
        """Abort the remaining connections: clients that do not read, or that have not finished their requests."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _cut_sockets(self) -> None:
        """Abort the sockets that could not be closed: unread data of their peers must not delay the stop."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, WatchedWebSocketProtocol) and not connection.close_sent:
                connection.transport.abort()

    async def _announce(self) -> None:
        preparing: asyncio.Task[str | None] = self._app.state.preparing
        await asyncio.wait({preparing})
        settle_garbage_collection()
        threading.Thread(target=_use_huge_pages, name="huge-pages", daemon=True).start()
        if preparing.cancelled():
            return
        if error := preparing.exception():
            log.error("preparation_failed", exc_info=error)
            reason: str | None = "the provider could not be made ready; the log has the details"
        else:
            reason = preparing.result() or await self._probe_result()
        if not self._stopping:
            self._on_ready(reason)

    async def _probe_result(self) -> str | None:
        """Probe the provider. A prepared provider may still be unable to answer: another process, or a key, may be
        missing."""
        status = await self._services.readiness.check()
        if status.available:
            return None
        return f"{status.error or 'the provider does not answer'}. {status.hint or ''}".strip()

    def _await_stdin_end(self) -> None:
        try:
            standard_input.await_end()
        except (OSError, ValueError, AttributeError):
            log.warning("stdin_unreadable", hint="--exit-with-parent needs a standard input that the parent keeps open")
        self.request_stop("end of standard input")


def _stop_signals() -> list[int]:
    """uvicorn's signals and SIGHUP, unless the parent process had SIGHUP ignored (nohup)."""
    numbers: list[int] = list(HANDLED_SIGNALS)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


def _handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's own exception handler, except for connections that can't be accepted: it would log each with a
    traceback."""
    if isinstance(context.get("exception"), OSError) and "accept" in context.get("message", ""):
        _accept_failed.write(error=str(context["exception"]), hint="raise the limit of descriptors: ulimit -n")
    else:
        loop.default_exception_handler(context)


def _is_not_invalid_http(record: logging.LogRecord) -> bool:
    """Drop uvicorn's log line for what is not HTTP: clients can cause it at will, and our own line is rate-limited."""
    return not str(record.msg).startswith("Invalid HTTP request received")


def settle_garbage_collection() -> None:
    """Run the garbage collector more rarely, and never again over the objects that exist at the start.

    Streams and connections are many and long-lived, and hardly ever form cycles. With Python's defaults and 8,000
    streams the collector took half of the time and stalled the loop for seconds (tests/benchmarks/soak.py shows it).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _use_huge_pages() -> None:
    log.debug("huge_pages", bytes=gather_heap())


def _http_protocol(app: FastAPI, bounds: Limits) -> type[BoundedHeadProtocol]:
    """The HTTP protocol class that knows at which paths the application has WebSockets."""
    paths = frozenset(route.path for route in app.routes if isinstance(route, WebSocketRoute))

    class HttpProtocol(BoundedHeadProtocol):
        socket_paths = paths
        limits = bounds

    return HttpProtocol


def websocket_protocol(bounds: Limits) -> type[WatchedWebSocketProtocol]:
    """The WebSocket protocol class with these limits instead of the defaults."""

    class WebSocketProtocol(WatchedWebSocketProtocol):
        limits = bounds

    return WebSocketProtocol


def _config(app: FastAPI, limits: Limits) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        # What is not a coroutine function is not recognised.
        interface="asgi3",
        proxy_headers=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        http=_http_protocol(app, limits),
        timeout_keep_alive=KEEP_ALIVE_S,
        # A fallback behind our own time limit: it cancels what still runs, which leaves tracebacks in the log.
        timeout_graceful_shutdown=math.ceil(limits.flush_s) + 2,
        ws=websocket_protocol(limits),
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=limits.ping_interval_s,
        ws_ping_timeout=limits.ping_timeout_s,
        ws_per_message_deflate=False,
    )
    config.app = ForwardedHeaders(app, config.forwarded_allow_ips)
    return config
