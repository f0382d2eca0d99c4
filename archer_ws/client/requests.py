"""Requests that wait to be sent or answered: whose turn it is, and what a loss leaves to be repeated. Pure."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from archer_ws.client.errors import ClientError, Refused
from archer_ws.client.frames import encode_request
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.rpc.messages import ConnectionLimits

#: Until the server has told its own (protocol sections 2 and 8).
_LIMITS = ConnectionLimits(
    max_frame_bytes=1024 * 1024, max_content_bytes=4 * 1024 * 1024, max_requests=64, max_streams=32
)
#: What the server takes however busy it is (protocol section 8).
_CONTROL = frozenset({"stream/cancel", "stream/steer", "tool/approve", "tool/claim", "tool/result", "ping"})


@dataclass(eq=False)
class Call:
    """A request, and who is told of its answer, from within the reader."""

    method: str
    params: Mapping[str, Any]
    answered: Callable[[Any], None]
    failed: Callable[[ClientError], None]
    #: Whether it belongs to one connection, and means nothing on the next.
    is_of_connection: bool = False
    #: How often it was sent.
    sends: int = 0


class Requests:
    """All requests of a client, in the order in which they were made."""

    def __init__(self) -> None:
        self.limits = _LIMITS
        self._outbox: deque[Call] = deque()
        self._in_flight: dict[int, Call] = {}
        self._count = 0

    def put(self, call: Call) -> None:
        """Send it after the others."""
        self._outbox.append(call)

    def put_first(self, calls: list[Call]) -> None:
        """Send these, in their order, before the others."""
        self._outbox.extendleft(reversed(calls))

    def frame_of(self, call: Call) -> bytes:
        """The frame of a request that is sent now."""
        self._count += 1
        self._in_flight[self._count] = call
        call.sends += 1
        return encode_request(self._count, call.method, call.params)

    def next_frame(self) -> bytes | None:
        """What may be sent now: the server refuses more than so many requests at once, but never a cancel."""
        while (call := self._next_call()) is not None:
            frame = self.frame_of(call)
            if len(frame) <= self.limits.max_frame_bytes:
                return frame
            # Sent, it would close the connection, for everything else too.
            del self._in_flight[self._count]
            size = f"the request has {len(frame)} bytes; the server takes {self.limits.max_frame_bytes}"
            call.failed(ClientError(size, "Send less text, or send it over REST."))
        return None

    def answered(self, identity: int, result: Any) -> Call | None:
        """A request's result has come; which request it was."""
        call = self._in_flight.pop(identity, None)
        if call is not None:
            call.answered(result)
        return call

    def refused(self, identity: int | None, error: ErrorInfo) -> None:
        """A request was answered with an error."""
        call = self._in_flight.pop(identity, None) if identity is not None else None
        if call is not None:
            call.failed(Refused(error, repeated=call.sends > 1))

    def take_back(self) -> None:
        """The connection is lost: send again what was not answered, in the old order."""
        waiting = [*self._in_flight.values(), *self._outbox]
        self._in_flight.clear()
        self._outbox = deque(call for call in waiting if not call.is_of_connection)

    def fail(self, error: ClientError) -> None:
        """None of them can be answered."""
        calls = [*self._in_flight.values(), *self._outbox]
        self._in_flight = {number: call for number, call in self._in_flight.items() if call.is_of_connection}
        self._outbox.clear()
        for call in calls:
            if not call.is_of_connection:
                call.failed(error)

    def _next_call(self) -> Call | None:
        is_full = len(self._in_flight) >= self.limits.max_requests
        for index, call in enumerate(self._outbox):
            if not is_full or call.method in _CONTROL:
                del self._outbox[index]
                return call
        return None
