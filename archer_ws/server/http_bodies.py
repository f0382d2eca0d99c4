"""The inbound side of an HTTP connection behind a request's head: bodies, trailers, and what nobody waits for.

A body may be slow, but not stand still. Trailer fields count for nothing (RFC 9110, section 6.5): they come when a
request has been judged by its head, so that a token, a Host or an Origin there must not look like a header. Behind an
answer that did not wait for the whole body the connection closes; what still comes is dropped, within bounds, so that
the answer arrives.
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
from archer_ws.server.http_stalls import WatchedHttpProtocol

_refused = RareLine("request_refused")


class BoundedBodyProtocol(WatchedHttpProtocol):
    """One connection, whose requests' bodies cost bounded time and memory."""

    #: Whether a head is whole and its request is not.
    _awaits_body = False
    #: Bytes of the body so far, and at the last look.
    _body_bytes = _seen_body_bytes = 0
    #: Bytes since the body's last: lines of chunks, and trailers.
    _framing_bytes = 0
    _body_timer: asyncio.TimerHandle | None = None
    #: Whether the answer to an incomplete request is sent, and all that comes is dropped.
    _drops_input = False
    _dropped_bytes = _seen_dropped_bytes = 0
    #: How much that may be, and when it ends, by the loop's clock.
    _dropped_bytes_max = BODY_REST_BYTES
    _drops_until = 0.0
    #: What uvicorn would make of the connection behind the answer, had the request been whole.
    _may_be_kept = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_body_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a request that stays incomplete is watched from now on."""
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

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._awaits_body = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; a trailer is dropped."""
        if not self._awaits_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole; the body, if there is one, comes."""
        super().on_headers_complete()
        self._awaits_body = True
        self._body_bytes = self._framing_bytes = 0
        if len(self.pipeline) > PIPELINED_REQUESTS_MAX and not self.transport.is_closing():
            self.refuse(b"429 Too Many Requests", "Too many requests wait on this connection.")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        cycle, self._awaits_body = self._incomplete_cycle(), False
        if self._body_timer is not None:
            self._stop_body_timer()
            if cycle is not None and not cycle.response_started:
                cycle.keep_alive = self._may_be_kept
        super().on_message_complete()

    def shutdown(self) -> None:
        """The server stops: the connection closes behind its answer."""
        self._may_be_kept = False
        super().shutdown()

    def refuse(self, status: bytes, text: str) -> None:
        """End the request that is incomplete: the client is told, unless its answer has begun, and the connection ends.

        `status` is its number with its reason phrase.
        """
        _refused.write(status=int(status[:3]), cause=text, peer=self.client[0] if self.client else None)
        cycle = self._incomplete_cycle()
        if self.pipeline or (cycle is not None and cycle.response_started):
            # What is written now would be taken for a part of another answer.
            self.transport.abort()
            return
        fields = b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n" % len(text)
        self.transport.write(b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, fields, text.encode("ascii")))
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _incomplete_cycle(self) -> RequestResponseCycle | None:
        """The application's side of the request that is incomplete; there is none before the head is whole."""
        return self.cycle if self._awaits_body and self.cycle is not None and self.cycle.scope is self.scope else None

    def _await_body(self) -> None:
        """The head came without the whole body: hold the client to its progress, and close behind a hasty answer."""
        self._seen_body_bytes = self._body_bytes
        self._stop_body_timer()
        self._body_timer = self.loop.call_later(self.limits.body_progress_window_s, self._look_at_body)
        cycle = self._incomplete_cycle()
        if cycle is not None:
            self._may_be_kept = cycle.keep_alive
            cycle.keep_alive = False
            cycle.transport = cast(asyncio.Transport, _ResponseTransport(self.transport, self._close_behind_answer))

    def _look_at_body(self) -> None:
        came = self._body_bytes - self._seen_body_bytes
        self._seen_body_bytes = self._body_bytes
        if came >= self.limits.body_progress_bytes or self.flow.read_paused:
            # It moves, or the application does not take what there is.
            self._body_timer = self.loop.call_later(self.limits.body_progress_window_s, self._look_at_body)
            return
        self._body_timer = None
        self.refuse(
            b"408 Request Timeout",
            f"The request's body stands still: fewer than {self.limits.body_progress_bytes} bytes in "
            f"{self.limits.body_progress_window_s:g} s.",
        )

    def _close_behind_answer(self) -> None:
        """Close; where the request is not whole, its rest is read and dropped while it moves."""
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
    """What uvicorn answers an incomplete request with: closing it is ours."""

    __slots__ = ("abort", "close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Any) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.abort = transport.abort
        self.close = close
