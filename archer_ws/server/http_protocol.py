"""uvicorn's HTTP/1.1, with limits on what a client may do.

uvicorn with httptools accepts 50 MB of header fields, and waits forever for a request that does not come. This module
limits what comes before a request is known; http_bodies.py limits the body, http_stalls.py watches the response,
http_idle.py closes idle connections, and http_seats.py limits their number. http_prompt.py begins requests at once,
http_direct.py writes their responses, and http_departures.py reports a lost connection.
"""

import asyncio
import socket
from contextlib import suppress

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from archer_ws.api.streaming.departure import DEPARTURE
from archer_ws.core.limits import HTTP_SLICE_BYTES, MAX_HEAD_BYTES
from archer_ws.core.rare_line import RareLine
from archer_ws.core.standstill import stood_still
from archer_ws.server.http_1_0 import Unchunked
from archer_ws.server.http_departures import ConnectionLoss
from archer_ws.server.http_direct import offer_direct
from archer_ws.server.http_idle import IdleConnections
from archer_ws.server.http_prompt import PromptRequests
from archer_ws.server.http_seats import SeatedHttpProtocol
from archer_ws.server.upgrade_offers import UpgradeOffers

_unreadable = RareLine("request_unreadable")


class BoundedHeadProtocol(SeatedHttpProtocol, IdleConnections, UpgradeOffers, PromptRequests):
    """One connection; closed when a request's head is too large or takes too long."""

    #: Whether a head is incomplete, or the first has not begun; a deadline runs, at the latest from the end of the read
    #: that brought its beginning.
    _awaits_head = False
    _head_deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _loss: ConnectionLoss
    #: The request that is served, or was last; others may wait behind it.
    _served: RequestResponseCycle | None = None
    _is_websocket = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start waiting for the first request."""
        super().connection_made(transport)
        _send_at_once(transport)
        self._loss = ConnectionLoss(self.flow)
        self.extensions[DEPARTURE] = self._loss
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers, and tell the request that is served: uvicorn tells the last one alone, which may wait
        behind it."""
        self._head_arrived()
        served = self._served
        if served is not None and not served.response_complete:
            served.disconnected = True
            served.message_event.set()
        super().connection_lost(exc)
        self._loss.report()

    def data_received(self, data: bytes) -> None:
        """Parse slice by slice, so that a limit is exceeded by one slice at most; then begin what has come."""
        self.arrived = []
        try:
            if len(data) <= HTTP_SLICE_BYTES:
                self._take_slice(data)
                return
            for start in range(0, len(data), HTTP_SLICE_BYTES):
                if self.transport.is_closing() or self._is_websocket:
                    return
                self._take_slice(data[start : start + HTTP_SLICE_BYTES])
        finally:
            self.begin_requests()

    def _take_slice(self, data: bytes) -> None:
        """Parse one slice. Bytes that arrive while a head is incomplete count towards that head's size."""
        belongs_to_head = self._awaits_head
        super().data_received(data)
        if self._awaits_head and not self.transport.is_closing():
            if self._head_deadline is None:
                self._await_head()
            if belongs_to_head:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self.send_400_response("The request's header fields are too large.")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.scope["extensions"] = self.extensions
        self._awaits_head = True

    def on_headers_complete(self) -> None:
        """The head is complete; from here on the application decides."""
        self._head_arrived()
        version = self.parser.get_http_version()
        if version == "0.9":
            # HTTP/0.9 has no header fields, so neither a Host nor a credential; llhttp accepts it, even with header
            # fields.
            self.send_400_response("HTTP/0.9 is not spoken here: send HTTP/1.1.")
            raise ValueError
        if version == "1.0":
            # HTTP/1.0 has no `Expect`, so it is ignored (RFC 9110, section 10.1.1).
            self.expect_100_continue = False
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self.begin_body()
        elif not self.offer_is_untaken():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is complete; with an offer of an upgrade no request has begun."""
        if not self.parser.should_upgrade():
            self.end_body()
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        """A request is prepared; it begins at the end of the read."""
        self._served = cycle
        offer_direct(cycle)
        if cycle.scope["http_version"] == "1.0":
            app = Unchunked(app, cycle)
        super()._start_asgi_task(cycle, app)
        self.watch_response()

    def handle_websocket_upgrade(self) -> None:
        """The WebSocket protocol takes over; bytes after the handshake are not HTTP."""
        self._is_websocket = True
        super().handle_websocket_upgrade()

    def awaits_departure(self) -> bool:
        """Whether a response is followed that must end with the client, while further requests wait behind it."""
        return bool(self.pipeline) and self._loss.is_watched

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP/1, without cutting into a response before it. uvicorn would do that, and log a line
        each time, as often as a client likes."""
        if self._is_over or self.transport.is_closing():
            return
        _unreadable.write(cause=msg, peer=self.client[0] if self.client else None)
        if self.pipeline and self._incomplete_cycle() is not None:
            self._forget_last_request()
        if self._incomplete_cycle() is None and self.end_behind_responses():
            return
        if self.would_cut_in():
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _forget_last_request(self) -> None:
        """The last request will never be complete, and waits behind others: serve these alone."""
        self.forget_body()
        self.pipeline.popleft()
        before = self.pipeline[0][0] if self.pipeline else self._served
        assert before is not None
        self.cycle = before
        if not self.pipeline:
            self.flow.resume_reading()  # What comes is dropped, but for the end of the connection.

    def _await_head(self) -> None:
        self._awaits_head = True
        self._head_bytes = 0
        self._head_deadline = self.loop.call_later(self.limits.head_deadline_s, self._head_overdue)

    def _head_arrived(self) -> None:
        self._awaits_head = False
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _head_overdue(self) -> None:
        deadline, self._head_deadline = self._head_deadline, None
        is_late = deadline is not None and stood_still(deadline.when(), self.loop.time())
        if self.flow.read_paused or is_late:
            # What is missing may be there, behind requests that wait for their turn, or not read yet.
            self._head_deadline = self.loop.call_later(self.limits.head_deadline_s, self._head_overdue)
        elif not self._is_over and not self.end_behind_responses():
            self.transport.close()


def _send_at_once(transport: asyncio.BaseTransport) -> None:
    """Have each write leave at once. Otherwise the rest of a response, or the next token, waits until the client has
    acknowledged what came before, which may take 40 ms and more (RFC 896; RFC 1122, section 4.2.3.2).

    uvloop does it by itself; asyncio only for a socket that names its protocol, which an accepted one does not.
    """
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        # A client that has left again is noticed elsewhere.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
