"""A connection's seat (seats.py): taken when the connection is made, and passed to the application."""

import asyncio
from typing import Any

from archer_ws.api.security.seats import SEAT, Seat, Seats
from archer_ws.server.http_bodies import BoundedBodyProtocol

_FULL = b"This server has as many connections as it may: try again in a moment."
_FULL_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_FULL), _FULL)
)


class SeatedHttpProtocol(BoundedBodyProtocol):
    """One connection. Under a server whose state has no `seats`, it needs none."""

    _seat: Seat | None = None
    #: The ASGI extensions that each request's scope gets.
    extensions: dict[str, Any]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a seat, or close the connection if there is none."""
        super().connection_made(transport)
        self.extensions = {}
        seats: Seats | None = getattr(self.server_state, "seats", None)
        if seats is None:
            return
        self._seat = seats.take(transport, self.client[0] if self.client else None)
        if self._seat is None:
            transport.write(_FULL_ANSWER)
            transport.close()
        else:
            self.extensions[SEAT] = self._seat

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the seat."""
        if self._seat is not None:
            self._seat.leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """The WebSocket protocol takes over the seat with the connection."""
        super().handle_websocket_upgrade()
        successor: Any = self.transport.get_protocol()
        if successor is not self and self._seat is not None:
            successor.take_seat(self._seat)
