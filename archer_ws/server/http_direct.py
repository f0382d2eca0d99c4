"""Offers the application to read a request and to write its response directly (api/http/direct.py)."""

import weakref
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from archer_ws.api.http.direct import DIRECT


def offer_direct(cycle: RequestResponseCycle) -> None:
    """Add the extension to the scope of a request, which has those of its connection."""
    scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]  # uvicorn's TypedDict has no other extensions
    # The cycle refers to its scope: a reference back would leave both to the garbage collector.
    scope["extensions"] = {**scope["extensions"], DIRECT: partial(_direct_of, weakref.ref(cycle))}


class DirectCycle:
    """One request and its response."""

    __slots__ = ("_cycle", "_flow", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._flow = cycle.flow
        self._transport = cycle.transport

    def take_body(self, most: int) -> bytes | None:
        """The request's body, if the whole of it is here and has at most `most` bytes."""
        cycle = self._cycle
        if cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected or len(cycle.body) > most:
            return None
        self._flow.resume_reading()
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def begin(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> bool:
        """Write the head of a chunked response."""
        head = self._head(status, fields, b"transfer-encoding: chunked\r\n")
        if head is None:
            return False
        self._cycle.chunked_encoding = True
        self._transport.write(head)
        return True

    def respond(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write a whole response."""
        head = self._head(status, fields)
        if head is None:
            return False
        self._transport.write(head + body)
        self._complete()
        return True

    def end(self, block: bytes) -> bool:
        """Write the last chunk, and that it was the last."""
        if not self.is_ready():
            return False
        self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(block), block))
        self._complete()
        return True

    def is_ready(self) -> bool:
        """Whether a chunk can be written now: chunked, between the head and the end, and the peer keeps up."""
        cycle = self._cycle
        return (
            cycle.chunked_encoding is True
            and not self._flow.write_paused
            and not cycle.response_complete
            # A lost connection is closing, too.
            and not self._transport.is_closing()
        )

    def write(self, block: bytes) -> None:
        """Write a chunk (RFC 9112, section 7.1)."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(block), block))

    def _complete(self) -> None:
        """End the response, as uvicorn does."""
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def _head(self, status: int, fields: Sequence[tuple[bytes, bytes]], framing: bytes = b"") -> bytes | None:
        """The head of the response, which has begun with this call; None where uvicorn has more to do than to write
        it."""
        cycle = self._cycle
        names, values = zip(*fields, strict=True)
        if (
            self._flow.write_paused
            or cycle.disconnected
            or cycle.response_started
            or cycle.scope["http_version"] != "1.1"
            or not _are_names(names)
            or HEADER_VALUE_RE.search(b"".join(values))
        ):
            return None
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        lines = b"\r\n".join(map(b": ".join, (*cycle.default_headers, *fields)))
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        return b"%b%b\r\n%b%b" % (STATUS_LINE[status], lines, framing, end)


@lru_cache(maxsize=64)
def _are_names(names: tuple[bytes, ...]) -> bool:
    """Whether a response may have fields of these names; those of our own responses are always the same."""
    return HEADER_RE.search(b"".join(names)) is None


def _direct_of(cycle: "weakref.ref[RequestResponseCycle]") -> DirectCycle | None:
    found = cycle()
    # A response to HEAD has no body.
    return None if found is None or found.scope["method"] == "HEAD" else DirectCycle(found)
