"""Offers the application to write to a response's body directly (api/http/direct_body.py)."""

import weakref
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from archer_ws.api.http.direct_body import DIRECT_BODY


class DirectBodies(HttpToolsProtocol):
    """One connection; the scope of each of its requests has the extension."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]  # uvicorn's TypedDict has no other extensions
        # The cycle refers to its scope: a reference back would leave both to the garbage collector.
        scope["extensions"] = {**(scope.get("extensions") or {}), DIRECT_BODY: partial(_body_of, weakref.ref(cycle))}
        super()._start_asgi_task(cycle, app)


class ChunkedBody:
    """The body of one response."""

    __slots__ = ("_cycle", "_flow", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._flow = cycle.flow
        self._transport = cycle.transport

    def is_ready(self) -> bool:
        """Whether a chunk can be written now: chunked, between the head and the end, and the peer keeps up."""
        cycle = self._cycle
        return (
            bool(cycle.chunked_encoding)
            and not self._flow.write_paused
            and not cycle.disconnected
            and not cycle.response_complete
            and not self._transport.is_closing()
        )

    def write(self, block: bytes) -> None:
        """Write a chunk (RFC 9112, section 7.1)."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(block), block))


def _body_of(cycle: "weakref.ref[RequestResponseCycle]") -> ChunkedBody | None:
    found = cycle()
    # A response to HEAD has no body.
    return None if found is None or found.scope["method"] == "HEAD" else ChunkedBody(found)
