"""Requests that wait to be sent or for their response: which one is next, and which to repeat after a loss. Pure."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from archer_ws.client.errors import ClientError, Refused, Unanswered
from archer_ws.client.frames import encode_request
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.rpc.messages import ConnectionLimits

#: The limits until the server has sent its own (protocol sections 2 and 8).
_LIMITS = ConnectionLimits(
    max_frame_bytes=1024 * 1024, max_content_bytes=4 * 1024 * 1024, max_requests=64, max_streams=32
)
#: Methods that don't count towards the server's limit of requests (protocol section 8).
_CONTROL = frozenset({"stream/cancel", "stream/steer", "tool/approve", "tool/claim", "tool/result", "ping"})
#: After so many losses in a row with the same request in flight, it is sent only while no other such request is in
#: flight: one of them may be what the connection is closed for, and the others must not fail with it.
_LOSSES_OF_A_SUSPECT = 2
#: After so many it is sent after all others, and fails if they have taken long enough: in a bad network, it may not be
#: the reason for any of them.
LOSSES_MAX = 5


@dataclass
class Losses:
    """Connections in a row that were lost while the same request waited for its response."""

    count: int = 0
    #: When the first of them was lost.
    since: float = 0.0

    @property
    def are_suspicious(self) -> bool:
        """Whether the request may be the reason."""
        return self.count >= _LOSSES_OF_A_SUSPECT

    @property
    def are_many(self) -> bool:
        """Whether the request very likely is the reason."""
        return self.count >= LOSSES_MAX

    def add(self, now: float) -> None:
        """One more was lost."""
        self.since = self.since if self.count else now
        self.count += 1

    def are_too_many(self, now: float, give_up_after_s: float) -> bool:
        """Whether the request has to fail."""
        return self.are_many and now - self.since >= give_up_after_s


@dataclass(eq=False)
class Request:
    """A request, and the callbacks for its response, which the reader calls."""

    method: str
    params: Mapping[str, Any]
    on_result: Callable[[Any], object]
    on_error: Callable[[ClientError], None]
    #: Whether it belongs to one connection, and is not repeated on the next.
    is_of_connection: bool = False
    #: How many times it was sent.
    sends: int = 0
    #: Whether its caller no longer waits, so that it is not sent on a later connection.
    is_given_up: bool = False
    #: Shared by requests that are made anew for each connection.
    losses: Losses = field(default_factory=Losses)


class Requests:
    """All requests of a client, in the order in which they were made."""

    def __init__(self) -> None:
        self.limits = _LIMITS
        self._outbox: deque[Request] = deque()
        self._in_flight: dict[int, Request] = {}
        self._count = 0

    def put(self, request: Request) -> None:
        """Queue a request after the others."""
        self._outbox.append(request)

    def put_first(self, requests: list[Request]) -> None:
        """A connection begins: queue these, in their order, before the others."""
        # Stable: all but the worst stay in their order.
        self._outbox = deque(sorted([*requests, *self._outbox], key=lambda request: request.losses.are_many))

    def drop(self, request: Request) -> None:
        """Do not send a request that is still queued."""
        with suppress(ValueError):
            self._outbox.remove(request)

    def withdraw_chat(self, stream_id: str) -> bool:
        """Do not send the request for this stream; whether it was still queued."""
        for request in self._outbox:
            if request.method == "chat/send" and request.params.get("stream_id") == stream_id:
                self._outbox.remove(request)
                return True
        return False

    def frame_of(self, request: Request) -> bytes:
        """The frame of a request, which counts as sent from now on.

        Raises:
            ClientError: its params are not JSON.
        """
        self._count += 1
        frame = encode_request(self._count, request.method, request.params)
        self._in_flight[self._count] = request
        request.sends += 1
        return frame

    def next_frame(self) -> bytes | None:
        """The next frame to send; None where the server's limit of open requests is reached, or nothing is queued."""
        while (request := self._next_request()) is not None:
            try:
                frame = self.frame_of(request)
            except ClientError as error:
                # It concerns its caller alone; the connection carries all other streams.
                request.on_error(error)
                continue
            if len(frame) <= self.limits.max_frame_bytes:
                return frame
            # The server would close the connection, which carries all other streams.
            del self._in_flight[self._count]
            size = f"the request has {len(frame)} bytes; the server's limit is {self.limits.max_frame_bytes}"
            request.on_error(ClientError(size, "Send less text, or send it over REST."))
        return None

    def resolve(self, identity: int, result: Any) -> Request | None:
        """A successful response has come; returns its request."""
        request = self._answered(identity)
        if request is not None:
            request.on_result(result)
        return request

    def reject(self, identity: int | None, error: ErrorInfo) -> None:
        """An error response has come."""
        request = self._answered(identity)
        if request is not None:
            request.on_error(Refused(error, repeated=request.sends > 1))

    def take_back(self, now: float, give_up_after_s: float) -> None:
        """The connection is lost: queue the requests without a response again, in their order. Those fail for which it
        was lost again and again for so long.
        """
        waiting = [*self._in_flight.values(), *self._outbox]
        failed = []
        for request in self._in_flight.values():
            request.losses.add(now)
            if request.losses.are_too_many(now, give_up_after_s):
                failed.append(request)
        self._in_flight.clear()
        self._outbox = deque(
            request for request in waiting if not (request.is_of_connection or request.is_given_up or request in failed)
        )
        for request in failed:
            request.on_error(Unanswered(request.method, request.losses.count))

    def fail(self, error: ClientError) -> None:
        """None of the requests can get a response any more."""
        requests = [*self._in_flight.values(), *self._outbox]
        self._in_flight = {number: request for number, request in self._in_flight.items() if request.is_of_connection}
        self._outbox.clear()
        for request in requests:
            if not request.is_of_connection:
                request.on_error(error)

    def _answered(self, identity: int | None) -> Request | None:
        request = self._in_flight.pop(identity, None) if identity is not None else None
        if request is not None:
            request.losses.count = 0
        return request

    def _next_request(self) -> Request | None:
        is_full = len(self._in_flight) >= self.limits.max_requests
        has_suspect = any(request.losses.are_suspicious for request in self._in_flight.values())
        for index, request in enumerate(self._outbox):
            if (is_full and request.method not in _CONTROL) or (has_suspect and request.losses.are_suspicious):
                continue
            del self._outbox[index]
            return request
        return None
