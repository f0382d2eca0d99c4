"""Requests that wait to be sent or answered: whose turn it is, and what a loss leaves to be repeated. Pure."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from archer_ws.client.errors import ClientError, Refused
from archer_ws.client.frames import encode_request
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.rpc.messages import Limits

#: Until the server has told its own (protocol sections 2 and 8).
_LIMITS = Limits(max_frame_bytes=1024 * 1024, max_content_bytes=4 * 1024 * 1024, max_requests=64, max_streams=32)
#: What the server takes however busy it is (protocol section 8).
_CONTROL = frozenset({"stream/cancel", "stream/steer", "tool/approve", "tool/claim", "tool/result", "ping"})


@dataclass(eq=False)
class Request:
    """A request, and who is told of its answer, from within the reader."""

    method: str
    params: Mapping[str, Any]
    on_result: Callable[[Any], None]
    on_error: Callable[[ClientError], None]
    #: Whether it belongs to one connection, and means nothing on the next.
    is_of_connection: bool = False
    #: How often it was sent.
    sends: int = 0


class Requests:
    """All requests of a client, in the order in which they were made."""

    def __init__(self) -> None:
        self.limits = _LIMITS
        self._outbox: deque[Request] = deque()
        self._in_flight: dict[int, Request] = {}
        self._count = 0

    def put(self, request: Request) -> None:
        """Send it after the others."""
        self._outbox.append(request)

    def put_first(self, requests: list[Request]) -> None:
        """Send these, in their order, before the others."""
        self._outbox.extendleft(reversed(requests))

    def frame_of(self, request: Request) -> bytes:
        """The frame of a request that is sent now."""
        self._count += 1
        self._in_flight[self._count] = request
        request.sends += 1
        return encode_request(self._count, request.method, request.params)

    def next_frame(self) -> bytes | None:
        """What may be sent now: the server refuses more than so many requests at once, but never a cancel."""
        while (request := self._next_request()) is not None:
            frame = self.frame_of(request)
            if len(frame) <= self.limits.max_frame_bytes:
                return frame
            # Sent, it would close the connection, for everything else too.
            del self._in_flight[self._count]
            size = f"the request has {len(frame)} bytes; the server takes {self.limits.max_frame_bytes}"
            request.on_error(ClientError(size, "Send less text, or send it over REST."))
        return None

    def resolve(self, identity: int, result: Any) -> Request | None:
        """A request's result has come; which request it was."""
        request = self._in_flight.pop(identity, None)
        if request is not None:
            request.on_result(result)
        return request

    def reject(self, identity: int | None, error: ErrorInfo) -> None:
        """A request was answered with an error."""
        request = self._in_flight.pop(identity, None) if identity is not None else None
        if request is not None:
            request.on_error(Refused(error, repeated=request.sends > 1))

    def take_back(self) -> None:
        """The connection is lost: send again what was not answered, in the old order."""
        waiting = [*self._in_flight.values(), *self._outbox]
        self._in_flight.clear()
        self._outbox = deque(request for request in waiting if not request.is_of_connection)

    def fail(self, error: ClientError) -> None:
        """None of them can be answered."""
        requests = [*self._in_flight.values(), *self._outbox]
        self._in_flight = {number: request for number, request in self._in_flight.items() if request.is_of_connection}
        self._outbox.clear()
        for request in requests:
            if not request.is_of_connection:
                request.on_error(error)

    def _next_request(self) -> Request | None:
        is_full = len(self._in_flight) >= self.limits.max_requests
        for index, request in enumerate(self._outbox):
            if not is_full or request.method in _CONTROL:
                del self._outbox[index]
                return request
        return None
