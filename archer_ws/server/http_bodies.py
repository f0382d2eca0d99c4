"""The inbound side of an HTTP connection after a request's head: bodies, trailers, and data that nobody reads.

A body may be slow, but must not stop. Trailer fields are ignored (RFC 9110, section 6.5): they arrive when the request
has already been judged by its head, so a token, a Host or an Origin in a trailer must not count as a header. When a
response is sent before the whole body has arrived, the connection closes after the response; what still arrives is
dropped, within limits, so that the client can read the response.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from archer_ws.core.limits import (
    BODY_REST_BYTES,
    BODY_REST_PROGRESS_BYTES,
    DECLARED_REST_BYTES,
    DECLARED_REST_S,
    MAX_HEAD_BYTES,
    PIPELINED_REQUESTS_MAX,
)
from archer_ws.core.rare_line import RareLine
from archer_ws.core.standstill import stood_still
from archer_ws.server.http_stalls import WatchedHttpProtocol

_refused = RareLine("request_refused")


class BoundedBodyProtocol(WatchedHttpProtocol):
    """One connection, whose request bodies cost limited time and memory."""

    #: Whether a complete head has arrived, but not yet the complete request.
    _awaits_body = False
    #: Bytes of the body so far, and at the last check.
    _body_bytes = _seen_body_bytes = 0
    #: Bytes since the last byte of the body: chunk-size lines and trailers.
    _framing_bytes = 0
    _body_timer: asyncio.TimerHandle | None = None
    #: Whether the response to an incomplete request has been sent, so that all further input is dropped.
    _drops_input = False
    _dropped_bytes = _seen_dropped_bytes = 0
    #: How many bytes are still dropped, and until when (loop time).
    _dropped_bytes_max = BODY_REST_BYTES
    _drops_until = 0.0
    #: Whether uvicorn would have kept the connection alive after the response, had the request been complete.
    _may_be_kept = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers."""
        self._stop_body_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; start the progress check if the request is still incomplete."""
        if self._drops_input:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > self._dropped_bytes_max:
                self.transport.close()
            return
        before = self._body_bytes
        super().data_received(data)
        if not self._awaits_body or self.transport.is_closing():
            return
        if self._body_timer is None:
            self._await_body()
        elif self._body_bytes != before:
            self._framing_bytes = 0
        else:
            self._framing_bytes += len(data)
            if self._framing_bytes > MAX_HEAD_BYTES:
                self.refuse(b"400 Bad Request", "The request's trailer fields are too large.")

    def begin_body(self) -> None:
        """The request's head is complete; its body, if any, follows."""
        # uvicorn adds trailer fields to this list, which from here on is not the request's.
        self.headers = []
        self._awaits_body = True
        self._body_bytes = self._framing_bytes = 0
        if len(self.pipeline) > PIPELINED_REQUESTS_MAX and not self.transport.is_closing():
            self.refuse(b"429 Too Many Requests", "Too many requests wait on this connection.")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def end_body(self) -> None:
        """The request is complete."""
        if self._body_timer is not None:
            self._stop_body_timer()
            cycle = self._incomplete_cycle()
            if cycle is not None and not cycle.response_started:
                cycle.keep_alive = self._may_be_kept
        self._awaits_body = False

    def forget_body(self) -> None:
        """The rest of the body is not awaited any more: the request is not served."""
        self._stop_body_timer()
        self._awaits_body = False

    def shutdown(self) -> None:
        """The server stops: close the connection after its response."""
        self._may_be_kept = False
        super().shutdown()

    def refuse(self, status: bytes, text: str) -> None:
        """End the incomplete request: send the client an error, unless its response has begun, and close the
        connection.

        `status` is the status code with its reason phrase.
        """
        _refused.write(status=int(status[:3]), cause=text, peer=self.client[0] if self.client else None)
        if self.would_cut_in():
            self.transport.abort()
            return
        cycle = self._incomplete_cycle()
        fields = b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n" % len(text)
        self.transport.write(b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, fields, text.encode("ascii")))
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def would_cut_in(self) -> bool:
        """Whether bytes written now would be read as part of a response that has begun, or that is due before."""
        cycle = self._incomplete_cycle()
        return bool(self.pipeline) or (cycle is not None and cycle.response_started)

    def _incomplete_cycle(self) -> RequestResponseCycle | None:
        """uvicorn's request cycle for the incomplete request; None before the head is complete."""
        return self.cycle if self._awaits_body and self.cycle is not None and self.cycle.scope is self.scope else None

    def _await_body(self) -> None:
        """The head came without the whole body: check that the body makes progress, and close after an early
        response."""
        self._seen_body_bytes = self._body_bytes
        self._stop_body_timer()
        self._body_timer = self.loop.call_later(self.limits.body_progress_window_s, self._look_at_body)
        cycle = self._incomplete_cycle()
        if cycle is not None:
            self._may_be_kept = cycle.keep_alive
            cycle.keep_alive = False
            cycle.transport = cast(asyncio.Transport, _ResponseTransport(self.transport, self._close_behind_answer))

    def _look_at_body(self) -> None:
        assert self._body_timer is not None
        is_late = stood_still(self._body_timer.when(), self.loop.time())
        came = self._body_bytes - self._seen_body_bytes
        self._seen_body_bytes = self._body_bytes
        if came >= self.limits.body_progress_bytes or self.flow.read_paused or self.pipeline or is_late:
            # The body makes progress, or what has arrived is not read by the application, or not yet by us; or the
            # request waits for its turn, and its client perhaps for "100 Continue".
            self._body_timer = self.loop.call_later(self.limits.body_progress_window_s, self._look_at_body)
            return
        self._body_timer = None
        self.refuse(
            b"408 Request Timeout",
            f"The request's body makes no progress: fewer than {self.limits.body_progress_bytes} bytes in "
            f"{self.limits.body_progress_window_s:g} s.",
        )

    def _close_behind_answer(self) -> None:
        """Close. If the request is incomplete, read and drop the rest while it makes progress."""
        self._stop_body_timer()
        if not self._awaits_body or self.transport.is_closing():
            self.transport.close()
            return
        self._drops_input = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._drops_until = self.loop.time() + self.limits.body_rest_s
        if self._has_length():
            self._drops_until, self._dropped_bytes_max = self.loop.time() + DECLARED_REST_S, DECLARED_REST_BYTES
        self._body_timer = self.loop.call_later(self.limits.body_rest_s, self._look_at_rest)

    def _has_length(self) -> bool:
        return any(name == b"content-length" for name, _ in self.scope["headers"])

    def _look_at_rest(self) -> None:
        came, self._seen_dropped_bytes = self._dropped_bytes - self._seen_dropped_bytes, self._dropped_bytes
        wait_s = min(self.limits.body_rest_s, self._drops_until - self.loop.time())
        if came < BODY_REST_PROGRESS_BYTES or wait_s <= 0:
            self.transport.close()
            return
        self._body_timer = self.loop.call_later(wait_s, self._look_at_rest)

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None


class _ResponseTransport:
    """The transport that uvicorn gets for the response to an incomplete request: closing the connection is up to us."""

    __slots__ = ("abort", "close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Any) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.abort = transport.abort
        self.close = close
