"""A request that no layer has to see: its body and its response may go past `receive` and `send`."""

from collections.abc import Iterable
from time import perf_counter

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from archer_ws.api.http.access_log import ObservedRequest
from archer_ws.api.http.cors import varying
from archer_ws.api.http.direct import direct

#: Where the scope of such a request has it.
_KEY = "archer.hot_request"
#: What a response gets that has no `Vary` of its own.
_VARYING = varying(())


class HotRequest(ObservedRequest):
    """Observes a request as the log does, and does for its response what the layers would do."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        #: The way past `receive` and `send`; None under another server than ours.
        self.direct = direct(scope)
        scope[_KEY] = self

    @property
    def has_begun(self) -> bool:
        """Whether the response has begun."""
        return self._status is not None

    def take_body(self, most: int) -> bytes | None:
        """The request's body, if the server has the whole of it and it has at most `most` bytes."""
        return None if self.direct is None else self.direct.take_body(most)

    def begin(self, response: Response) -> bool:
        """Send the head of a response without a length past `send`; False where it can't be."""
        status = response.status_code
        if self.direct is None or not self.direct.begin(status, self._fields(response.raw_headers)):
            return False
        self._status = status
        return True

    def end(self, block: bytes) -> bool:
        """Send the last piece of such a response, not empty, past `send`; False where it can't be."""
        if self.direct is None or not self.direct.end(block):
            return False
        self._ended = perf_counter()
        return True

    def respond(self, response: Response) -> bool:
        """Send a whole response past `send`; False where it can't be."""
        status = response.status_code
        if self.direct is None or not self.direct.respond(
            status, self._fields(response.raw_headers), bytes(response.body)
        ):
            return False
        self._status, self._ended = status, perf_counter()
        return True

    def finish(self) -> None:
        """The request is over."""
        # The scope refers to this, and this to the scope: they need no garbage collector.
        del self._scope[_KEY]
        super().finish()

    def _fields(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        fields = list(given)
        # (A name that only contains one of these takes the longer way, with the same result.)
        names = b" ".join(dict(fields)).lower()
        if b"vary" in names or b"x-request-id" in names:
            return super()._fields(varying(fields))
        return [*fields, *_VARYING, (b"x-request-id", self._request_id.encode())]


def hot_request(scope: Scope) -> HotRequest | None:
    """The request, if no layer has to see it; else None."""
    found: HotRequest | None = scope.get(_KEY)
    return found
