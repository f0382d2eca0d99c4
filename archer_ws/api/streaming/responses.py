"""How HTTP follows a stream: as server-sent events, or by waiting for the whole completion.

Both watch all the time whether the client disconnects, and then release their hold on the stream; what that means for
the stream is decided by its `on_disconnect`.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from archer_ws.api.http.direct import DirectBody, direct
from archer_ws.api.http.hot_request import HotRequest, hot_request
from archer_ws.api.streaming.departure import Departure
from archer_ws.api.streaming.sse import KEEP_ALIVE, MEDIA_TYPE, encode_event
from archer_ws.core.exceptions import http_status
from archer_ws.core.lean_event import LeanEvent
from archer_ws.core.limits import EVENTS_KEEP_ALIVE_S
from archer_ws.sessions.manager import HeldStream
from archer_ws.sessions.streams.events import Event, StreamEnded
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.views import response_fields, response_json

log = structlog.get_logger(__name__)

#: Events that wait are joined into one write of up to about this size, in bytes.
WRITE_BYTES = 64 * 1024
#: The header fields of an event stream beside its id.
_EVENTS_FIELDS = (
    # Proxies that compress, as webpack's development server does, may otherwise send nothing before the end.
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"content-type", f"{MEDIA_TYPE}; charset=utf-8".encode()),
)


class EventStreamResponse(Response):
    """A stream's events after `after`, up to the end or until the client disconnects.

    `encode` returns an event's bytes, empty if it is not sent; by default the protocol's form. When memory is short, a
    client that reads nothing loses its hold on an ended stream (see retention.py): the response then ends incomplete,
    as when a connection breaks, and its connection is closed. After `keep_alive_s` of silence a comment is sent.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        held: HeldStream,
        *,
        after: int = 0,
        encode: Callable[[Event], bytes] | None = None,
        keep_alive_s: float = EVENTS_KEEP_ALIVE_S,
    ) -> None:
        stream = held.stream
        # Not Response.__init__, which would set the length of an empty body.
        self.status_code, self.body, self.background = 200, b"", None
        self.raw_headers = _fields(stream)
        self._log: StreamLog | None = stream.log
        self._hold = held.hold
        self._hold.reader = self
        self._unwatch: Callable[[], None] = lambda: None
        self._cursor = after
        self._keep_alive_s = keep_alive_s
        self._encode = encode or encode_event
        self._more = LeanEvent()
        #: The ways past `send`, where there are any: for the response's begin and end, and for its body.
        self._hot: HotRequest | None = None
        self._direct: DirectBody | None = None
        #: Whether the task waits, with nothing left to send.
        self._is_idle = False
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._beating: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end is sent or the client has disconnected."""
        self._beating = self._loop.call_at(self._sent_at + self._keep_alive_s, self._beat)
        if self._log is not None:
            self._unwatch = self._log.watch(self._told_of_more)
        hot = self._hot = hot_request(scope)
        self._direct = direct(scope) if hot is None else hot.direct
        try:
            departure = Departure(scope, receive, self._wake)
            try:
                if hot is None or not hot.begin(self):
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send_events(send, departure)
            finally:
                await departure.end()
        finally:
            self._unwatch()
            if self._beating is not None:
                self._beating.cancel()
            self._hold.release()

    def stream_ended(self) -> None:
        """Do nothing: the end is sent from the log."""

    def position(self) -> float:
        """The last event that was handed to the connection."""
        return self._cursor

    def stream_parked(self) -> None:
        """End like a broken connection: the client reconnects for more."""
        self._release()

    def cut_off(self) -> None:
        """Release the stream's log: the events that wait to be sent may never be."""
        log.warning("reader_cut_off", stream_id=self.headers["x-stream-id"])
        self._release()

    def _release(self) -> None:
        self._unwatch()
        self._log, self._unwatch, self._encode = None, lambda: None, lambda _: b""
        self._wake()

    async def _send_events(self, send: Send, departure: Departure) -> None:
        """Send whenever there are more events. A `send` that waits ends with the client's connection."""
        ended = False
        while not ended:
            self._more.clear()
            if departure.has_come or self._log is None:
                return
            # A wake-up may find nothing new: a block contains all there is.
            block, ended = self._next_block(self._log) if self._cursor < self._log.head_seq else (b"", False)
            if not block and self._loop.time() >= self._sent_at + self._keep_alive_s:
                block = KEEP_ALIVE
            if block:
                self._sent_at = self._loop.time()
                if not self._write(block, ended=ended):
                    await send({"type": "http.response.body", "body": block, "more_body": not ended})
            else:
                self._is_idle = True
                await self._more.wait()

    def _write(self, block: bytes, *, ended: bool) -> bool:
        """Write past `send`; False, and nothing, where it must go through `send`."""
        if ended:
            return self._hot is not None and self._hot.end(block)
        if self._direct is None or not self._direct.is_ready():
            return False
        self._direct.write(block)
        return True

    def _told_of_more(self) -> None:
        """The log has grown: write the event at once, if the task only waits for one and the connection takes it.

        Else wake the task, which waits for the connection and then reads the log from the cursor on; it also sends the
        end.
        """
        body, stream_log = self._direct, self._log
        if self._is_idle and body is not None and stream_log is not None and stream_log.ended is None:
            event = stream_log.read(self._cursor)
            if event is not None and body.is_ready():
                try:
                    block = self._encode(event)
                except Exception:  # noqa: BLE001 - the task meets it again, and raises it where it belongs
                    self._wake()
                    return
                self._cursor = event.seq
                if block:
                    body.write(block)
                    self._sent_at = self._loop.time()
                if event.seq == stream_log.head_seq:
                    return
        self._wake()

    def _wake(self) -> None:
        """Have the task look at what there is to do."""
        self._is_idle = False
        self._more.set()

    def _beat(self) -> None:
        """Check for silence now and then: a timer for each wait would cost a tenth of a token."""
        now, due = self._loop.time(), self._sent_at + self._keep_alive_s
        if now >= due:
            self._wake()
            due = now + self._keep_alive_s
        self._beating = self._loop.call_at(due, self._beat)

    def _next_block(self, stream_log: StreamLog) -> tuple[bytes, bool]:
        """What can be sent now, and whether it contains the end."""
        head = stream_log.head_seq
        pieces: list[bytes] = []
        size = 0
        while size < WRITE_BYTES and (event := stream_log.read(self._cursor)) is not None:
            self._cursor = event.seq
            pieces.append(self._encode(event))
            size += len(pieces[-1])
            if event.seq == head:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces), isinstance(event, StreamEnded)
        return b"".join(pieces), False


def event_stream_head(stream: Stream) -> Response:
    """The head of an event stream, for HEAD: waits for nothing and holds nothing."""
    head = Response()
    head.raw_headers = _fields(stream)
    return head


def _fields(stream: Stream) -> list[tuple[bytes, bytes]]:
    return [(b"x-stream-id", stream.stream_id.encode()), *_EVENTS_FIELDS]


class WholeCompletionResponse(Response):
    """The response that `respond` makes of a stream once it has ended.

    If the client disconnects before, the hold is released at once.
    """

    def __init__(self, held: HeldStream, respond: Callable[[Stream], Response]) -> None:
        # Not Response.__init__: this has no status and no body of its own.
        self.background = None
        self._stream: Stream | None = held.stream
        self._hold = held.hold
        self._hold.reader = self
        self._respond = respond
        self._ended_or_left = LeanEvent()
        self._hot: HotRequest | None = None
        self._has_responded = False
        if held.stream.log.ended is not None:
            self._ended_or_left.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, then send."""
        self._hot = hot_request(scope)
        try:
            departure = Departure(scope, receive, self._ended_or_left.set)
            try:
                await self._ended_or_left.wait()
                # Before the watch for a disconnect is ended, which under other servers takes loop iterations.
                if not self._has_responded:
                    await self._send(scope, receive, send)
            finally:
                await departure.end()
        finally:
            self._hold.release()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; the stream is released: a client that does not read holds only its response."""
        stream, self._stream = self._stream, None
        assert stream is not None
        self._hold.release()
        response = self._respond(stream)
        if self._hot is None or not self._hot.respond(response):
            await response(scope, receive, send)

    def stream_ended(self) -> None:
        """Respond at once, if the connection takes the response. The task is woken either way: to respond otherwise,
        and to end."""
        hot = self._hot
        if hot is not None and hot.direct is not None and self._stream is not None:
            try:
                self._has_responded = hot.respond(self._respond(self._stream))
            except Exception:  # noqa: BLE001 - the task meets it again, and raises it where it belongs
                self._has_responded = False
        self._ended_or_left.set()

    def stream_parked(self) -> None:
        """Do nothing: the request ends with the server."""

    def position(self) -> float:
        """Constant: before the end nothing is sent."""
        return 0.0

    def cut_off(self) -> None:
        """Do nothing: this has a reference to the stream of its own."""


class JsonResponse(Response):
    """A response of JSON whose bytes and header fields are there already."""

    media_type = "application/json"

    def __init__(self, body: bytes, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        # Not Response.__init__, which would encode the body and each field anew.
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = [*fields, (b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]


def whole_completion(stream: Stream) -> Response:
    """The completion as JSON. If it failed or is incomplete, the status is its error's, and beside `error` it has the
    text that was generated."""
    headers = [(b"x-stream-id", stream.stream_id.encode())]
    status = 200
    ended = stream.log.ended
    if ended is not None and ended.error is not None:
        status = http_status(ended.error.kind)
        if ended.error.retry_after_ms is not None:
            headers.append((b"retry-after", b"%d" % math.ceil(ended.error.retry_after_ms / 1000)))
    return JsonResponse(response_json(response_fields(stream)), status, headers)


async def until_text(held: HeldStream, scope: Scope, receive: Receive, limit_s: float) -> None:
    """Wait for the stream's first text or its end, at most for `limit_s`, the longest that a client may get no head.

    The hold stays, except if this is cancelled; also when the client disconnects, which the stream's follower then
    notices.
    """
    stream_log, come_or_left = held.stream.log, LeanEvent()

    def look() -> None:
        if stream_log.text_bytes > 0 or stream_log.ended is not None:
            come_or_left.set()

    try:
        departure = Departure(scope, receive, come_or_left.set)
        unwatch = stream_log.watch(look)
        try:
            look()
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await come_or_left.wait()
        finally:
            unwatch()
            await departure.end()
    except BaseException:
        held.hold.release()
        raise
