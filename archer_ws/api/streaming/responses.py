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

from archer_ws.api.streaming.sse import KEEP_ALIVE, MEDIA_TYPE, encode_event
from archer_ws.core.exceptions import http_status
from archer_ws.core.lean_event import LeanEvent
from archer_ws.core.limits import EVENTS_KEEP_ALIVE_S
from archer_ws.sessions.manager import HeldStream
from archer_ws.sessions.streams.events import Event, StreamEnded
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.views import chat_response

log = structlog.get_logger(__name__)

#: Events that wait are joined into one write of up to about this size, in bytes.
WRITE_BYTES = 64 * 1024


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
        super().__init__(headers=_headers(stream))
        # Set by Response for its empty body.
        del self.headers["content-length"]
        self._log: StreamLog | None = stream.log
        self._hold = held.hold
        self._hold.reader = self
        self._unwatch: Callable[[], None] = lambda: None
        self._cursor = after
        self._keep_alive_s = keep_alive_s
        self._encode = encode or encode_event
        self._more = LeanEvent()
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._beating: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end is sent or the client has disconnected."""
        self._beat()
        if self._log is not None:
            self._unwatch = self._log.watch(self._more.set)
        try:
            departure = _departure(receive, self._more.set)
            try:
                await self._send_events(send, departure)
            finally:
                await _taken_down(departure)
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
        self._more.set()

    async def _send_events(self, send: Send, departure: asyncio.Task[None]) -> None:
        """Send whenever there are more events. A `send` that waits ends with the client's connection."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        ended = False
        while not ended:
            self._more.clear()
            if departure.done() or self._log is None:
                return
            # Nearly every second check finds nothing new, since a block contains all there is.
            block, ended = self._next_block(self._log) if self._cursor < self._log.head_seq else (b"", False)
            if not block and self._loop.time() >= self._sent_at + self._keep_alive_s:
                block = KEEP_ALIVE
            if block:
                self._sent_at = self._loop.time()
                await send({"type": "http.response.body", "body": block, "more_body": True})
            else:
                await self._more.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _beat(self) -> None:
        """Check for silence now and then: a timer for each wait would cost a tenth of a token."""
        now, due = self._loop.time(), self._sent_at + self._keep_alive_s
        if now >= due:
            self._more.set()
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
    head = Response(headers=_headers(stream), media_type=MEDIA_TYPE)
    del head.headers["content-length"]
    return head


def _headers(stream: Stream) -> dict[str, str]:
    return {"X-Stream-ID": stream.stream_id, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class WholeCompletionResponse(Response):
    """The response that `respond` makes of a stream once it has ended.

    If the client disconnects before, the hold is released at once.
    """

    def __init__(self, held: HeldStream, respond: Callable[[Stream], Response]) -> None:
        super().__init__()
        self._stream: Stream | None = held.stream
        self._hold = held.hold
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, then send."""
        ended_or_left = LeanEvent()
        try:
            departure = _departure(receive, ended_or_left.set)
            try:
                # Send before the watch for a disconnect is ended, which takes several loop iterations.
                await (await self._whole(ended_or_left))(scope, receive, send)
            finally:
                await _taken_down(departure)
        finally:
            self._hold.release()

    async def _whole(self, ended_or_left: LeanEvent) -> Response:
        """The response, once the stream has ended. The stream is released then: a client that does not read holds only
        its response."""
        stream, self._stream = self._stream, None
        assert stream is not None
        await _until(lambda: stream.log.ended is not None, stream.log, ended_or_left)
        self._hold.release()
        return self._respond(stream)


def whole_completion(stream: Stream) -> Response:
    """The completion as JSON. If it failed or is incomplete, the status is its error's, and beside `error` it has the
    text that was generated."""
    whole = chat_response(stream)
    headers = {"X-Stream-ID": stream.stream_id}
    status = 200
    if whole.error is not None:
        status = http_status(whole.error.kind)
        if whole.error.retry_after_ms is not None:
            headers["Retry-After"] = str(math.ceil(whole.error.retry_after_ms / 1000))
    return Response(whole.model_dump_json(), status, headers, media_type="application/json")


async def until_text(held: HeldStream, receive: Receive, limit_s: float) -> None:
    """Wait for the stream's first text or its end, at most for `limit_s`, the longest that a client may get no head.

    The hold stays, except if this is cancelled; also when the client disconnects, which the stream's follower then
    notices.
    """
    stream_log, come_or_left = held.stream.log, LeanEvent()
    try:
        departure = _departure(receive, come_or_left.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await _until(
                        lambda: stream_log.text_bytes > 0 or stream_log.ended is not None, stream_log, come_or_left
                    )
        finally:
            await _taken_down(departure)
    except BaseException:
        held.hold.release()
        raise


async def _until(has_come: Callable[[], bool], stream_log: StreamLog, woken: LeanEvent) -> None:
    """Wait until the log has what is waited for, or until something else sets `woken`."""

    def look() -> None:
        if has_come():
            woken.set()

    unwatch = stream_log.watch(look)
    try:
        look()
        await woken.wait()
    finally:
        unwatch()


def _departure(receive: Receive, tell: Callable[[], None]) -> asyncio.Task[None]:
    """A task that ends when the client disconnects, and then calls `tell`; `_taken_down` must follow."""
    departure = asyncio.create_task(client_departure(receive))
    departure.add_done_callback(lambda _: tell())
    return departure


async def _taken_down(departure: asyncio.Task[None]) -> None:
    """Cancel the watch for a disconnect and wait until it has ended. If it raised, the next read or write raises the
    same.

    Awaited directly, which costs a third less than `gather`; so a cancel of the calling task must be told from the
    cancel made here.
    """
    owner = asyncio.current_task()
    cancels = owner.cancelling() if owner else 0
    departure.cancel()
    try:
        await departure
    except asyncio.CancelledError:
        if owner and owner.cancelling() > cancels:
            raise
    except Exception:  # noqa: BLE001 - a failure of the connection, which the next send raises as well
        pass


async def client_departure(receive: Receive) -> None:
    """Return when the client has closed its connection; the request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
