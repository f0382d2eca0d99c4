"""Middleware around the whole application: gives each request its id, and logs one line when it is over.

The line has the method, the path without its query (which may hold secrets), the status and the duration. It never has
headers or bodies. Whatever happens inside logs its own lines under the same `request_id`.
"""

import re
import time
from collections.abc import Awaitable, Iterable
from urllib.parse import quote

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archer_ws.api.http.scope import departed_at, is_health, request_id
from archer_ws.core.bound_field import bound_field
from archer_ws.core.clock import tenths
from archer_ws.core.deferred import afterwards

log = structlog.get_logger(__name__)
_BOUND_ID = bound_field("request_id")

#: How much of a path is logged, in characters: a server accepts paths of 64 KiB.
_MAX_PATH_CHARS = 256
#: Matches a path in which `quote` finds nothing to do, as in nearly all.
_UNQUOTED = re.compile(r"[\w.~/-]*", re.ASCII).fullmatch
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class RequestLog:
    """Binds `request_id` for logs and `request.state`, sends it as `X-Request-ID`, and logs the line.

    Health probes are logged at DEBUG, everything else at INFO. A WebSocket's line is logged when it is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application. If it raises, log the line and pass the exception on to the server."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request = ObservedRequest(scope, receive, send)
        # Of a WebSocket only the handshake is observed, not its frames.
        watched = request.receive if scope["type"] == "http" else receive
        try:
            await self._app(scope, watched, request.send)
        except Exception:
            request.failed()
            raise
        finally:
            # The id stays bound: the server may still log about this request, and the next one clears it.
            request.finish()


class ObservedRequest:
    """Observes what passes between the application and the server for one request, which begins now."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        structlog.contextvars.clear_contextvars()
        self._request_id = request_id(scope)
        _BOUND_ID.set(self._request_id)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = time.perf_counter()
        self._ended: float | None = None
        self._status: int | None = None
        self._client_left = False
        self._broke_off = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and self._ended is None:
            self._client_left = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        # Not a coroutine: so a chunk of a stream costs only a function call.
        kind = message["type"]
        if kind == "http.response.body":
            if not message.get("more_body", False):
                self._ended = time.perf_counter()
        elif kind in _STARTS:
            self._status = message.get("status", 101)
            return self._send({**message, "headers": self._fields(message.get("headers", ()))})
        elif kind == "websocket.close" and self._status is None:
            # Closed before it was accepted: the server rejects the handshake with this status (ASGI specification).
            self._status = 403
        return self._send(message)

    def _fields(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The header fields of the response, with those that all responses have."""
        fields = list(given)
        for name, _ in fields:
            if name.lower() == b"x-request-id":
                return fields
        fields.append((b"x-request-id", self._request_id.encode()))
        return fields

    def failed(self) -> None:
        """The application raised: the server, or a middleware around this one, sends 500 or aborts the connection."""
        self._broke_off = self._status is not None
        if self._status is None:
            self._status = 500

    def finish(self) -> None:
        """The request is over; the line is logged after the response."""
        left_at = departed_at(self._scope)
        if left_at is not None and (self._ended is None or left_at < self._ended):
            self._client_left = True
        if self._ended is None:
            self._ended = time.perf_counter()
        duration_ms = tenths((self._ended - self._began) * 1000)
        afterwards(lambda: self._write_line(duration_ms))

    def _write_line(self, duration_ms: float) -> None:
        path: str = self._scope["path"]
        facts: dict[str, object] = {
            "method": self._scope.get("method", "WEBSOCKET"),
            "path": (path if _UNQUOTED(path) else quote(path, errors="replace"))[:_MAX_PATH_CHARS],
            "status": self._status,
            "duration_ms": duration_ms,
        }
        if self._client_left:
            facts["client_left"] = True
        if self._broke_off:
            facts["broke_off"] = True
        # The logger itself: structlog's proxy finds its methods only by way of an exception.
        logger = log.bind()
        (logger.debug if is_health(self._scope) else logger.info)("request", **facts)
