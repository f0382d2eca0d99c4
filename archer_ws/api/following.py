"""How HTTP follows a stream: as server-sent events, or waiting for the whole answer.

Both watch for the client's leaving at every moment, and give up their hold on the stream when it goes; what that
means for the stream is the stream's `on_disconnect`.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from archer_ws.api.sse import KEEP_ALIVE, MEDIA_TYPE, encode_event
from archer_ws.api.statuses import http_status
from archer_ws.sessions.log import Delta, Ended, Event
from archer_ws.sessions.manager import Attachment
from archer_ws.sessions.stream import Stream
from archer_ws.sessions.views import chat_response

log = structlog.get_logger(__name__)

#: A comment goes out after so much silence (protocol section 10), in seconds.
KEEP_ALIVE_S = 15.0
#: Events are gathered into one write up to about this size, in bytes: what has piled up goes out together.
WRITE_BYTES = 64 * 1024


class EventStreamResponse(Response):
    """A stream's events after `after`, to the end or until the client leaves.

    `encode` makes an event's bytes, or none where it is not told; by default as the protocol says.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, attachment: Attachment, *, after: int = 0, encode: Callable[[Event], bytes] | None = None
    ) -> None:
        stream = attachment.stream
        super().__init__(
            headers={"X-Stream-ID": stream.stream_id, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        # Set by Response for its (empty) body.
        del self.headers["content-length"]
        self._stream = stream
        self._hold = attachment.hold
        self._cursor = after
        self._encode = encode or _encoder(stream.stream_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end is sent or the client has left."""
        departure = asyncio.create_task(client_departure(receive))
        sending = asyncio.create_task(self._send_events(send))
        try:
            await asyncio.wait((departure, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._hold.release()
            for task in (departure, sending):
                task.cancel()
            await asyncio.gather(departure, sending, return_exceptions=True)

    async def _send_events(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        more = asyncio.Event()
        unwatch = self._stream.log.watch(more.set)
        try:
            ended = False
            while not ended:
                more.clear()
                block, ended = self._next_block()
                if not block:
                    try:
                        async with asyncio.timeout(KEEP_ALIVE_S):
                            await more.wait()
                    except TimeoutError:
                        block = KEEP_ALIVE
                if block:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            unwatch()

    def _next_block(self) -> tuple[bytes, bool]:
        """What can be sent now, and whether it holds the end."""
        pieces: list[bytes] = []
        size = 0
        while size < WRITE_BYTES and (event := self._stream.log.read(self._cursor)) is not None:
            self._cursor = event.seq
            pieces.append(self._encode(event))
            size += len(pieces[-1])
            if isinstance(event, Ended):
                return b"".join(pieces), True
        return b"".join(pieces), False


def _encoder(stream_id: str) -> Callable[[Event], bytes]:
    # Not a partial: a keyword of one costs half a microsecond, and this runs for every token.
    return lambda event: encode_event(event, stream_id)


async def whole_answer(attachment: Attachment, receive: Receive) -> Response:
    """The answer once the stream has ended; the hold is given up at once if the client leaves before.

    A failed or incomplete answer has its error's status and, beside `error`, the text that came.
    """
    await until_ended(attachment, receive)
    stream = attachment.stream
    answer = chat_response(stream)
    headers = {"X-Stream-ID": stream.stream_id}
    status = 200
    if answer.error is not None:
        status = http_status(answer.error.kind)
        if answer.error.retry_after_ms is not None:
            headers["Retry-After"] = str(math.ceil(answer.error.retry_after_ms / 1000))
    return JSONResponse(answer.model_dump(mode="json"), status, headers)


async def until_ended(attachment: Attachment, receive: Receive) -> None:
    """Wait for the stream's end, or for the client's leaving; then the hold is given up."""
    try:
        await _unless_left(attachment.stream.wait_ended(), receive)
    finally:
        attachment.hold.release()


async def until_text(attachment: Attachment, receive: Receive) -> None:
    """Wait for the stream's first text or its end; no longer than a client may be left in silence.

    The hold stays, unless this is cancelled; also when the client leaves, which whoever follows the stream then sees.
    """
    try:
        await _unless_left(_text_or_end(attachment.stream), receive, limit_s=KEEP_ALIVE_S)
    except BaseException:
        attachment.hold.release()
        raise


async def _text_or_end(stream: Stream) -> None:
    more = asyncio.Event()
    unwatch = stream.log.watch(more.set)
    cursor = 0
    try:
        while True:
            more.clear()
            while (event := stream.log.read(cursor)) is not None:
                if isinstance(event, Delta | Ended):
                    return
                cursor = event.seq
            await more.wait()
    finally:
        unwatch()


async def _unless_left(waiting: Coroutine[Any, Any, None], receive: Receive, limit_s: float | None = None) -> None:
    departure = asyncio.create_task(client_departure(receive))
    awaited = asyncio.create_task(waiting)
    try:
        await asyncio.wait((departure, awaited), return_when=asyncio.FIRST_COMPLETED, timeout=limit_s)
    finally:
        departure.cancel()
        awaited.cancel()
        await asyncio.gather(departure, awaited, return_exceptions=True)


async def client_departure(receive: Receive) -> None:
    """Return when the client has closed its connection; the request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
