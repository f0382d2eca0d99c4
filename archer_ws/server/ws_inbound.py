"""uvicorn's WebSocket, with limits on what a peer may send (protocol sections 2 and 8).

Frames are parsed in slices, so that no peer blocks the loop or fills memory with thousands of tiny frames. A peer that
breaks RFC 6455 is closed with the matching code and one log line. This module does not look into messages;
ws_protocol.py handles peers that do not read or do not answer pings.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHeaderValue
from websockets.frames import CloseCode, Frame
from websockets.http11 import Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from archer_ws.api.security.seats import SEAT, Seat
from archer_ws.core.limits import IDLE_FRAMES_WINDOW_S, WS_LINGER_S, WS_SLICE_BYTES, Limits
from archer_ws.core.rare_line import RareLine
from archer_ws.rpc.close_reasons import CLOSE_CODES, close_text
from archer_ws.server.ws_frames import FrameReader, whole_text
from archer_ws.server.ws_inbox import Inbox

OPEN = State.OPEN  # looking it up there costs as much as comparing with it

#: The loggers of uvicorn and websockets: at INFO they log every socket with its query string, which may hold secrets.
_wire_log = logging.getLogger(f"{__name__}.wire")
_wire_log.setLevel(logging.WARNING)

_violation = RareLine("websocket_violation")
_refused = RareLine("handshake_refused")


#: The close reason for a message that is too long, with where to send a picture instead; a close reason has 123 bytes
#: at most.
_TOO_LONG = "messages have 1 MiB at most: send files to POST /api/v1/files, and name their file_id"
_VERSION_FIELD = "Sec-WebSocket-Version"
#: The response to a handshake that the library can't read.
_BAD_HANDSHAKE_TEXT = b"Failed to open a WebSocket connection: its handshake has a body, or is not HTTP/1.1."
_BAD_HANDSHAKE = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_BAD_HANDSHAKE_TEXT), _BAD_HANDSHAKE_TEXT)
)


def _reject(conn: ServerProtocol, reject: Callable[[int, str], Response], status: int, text: str) -> Response:
    """A refusal of a handshake; one with another version is told which one is understood (RFC 6455, section 4.2.2)."""
    error = conn.handshake_exc
    if not isinstance(error, InvalidHeaderValue) or error.name != _VERSION_FIELD:
        return reject(status, text)
    response = reject(HTTPStatus.UPGRADE_REQUIRED, text)
    # Besides `close` (RFC 9110, section 7.8).
    response.headers["Connection"] = "Upgrade"
    response.headers["Upgrade"] = "websocket"
    response.headers[_VERSION_FIELD] = "13"
    return response


def _fail(fail: Callable[[int, str], None], code: int, reason: str = "") -> None:
    fail(code, _TOO_LONG if code == CloseCode.MESSAGE_TOO_BIG else reason)


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection; its input costs limited time and memory.

    A subclass that overrides `send` must call `_parse_soon` after it: an answered handshake or a close lets waiting
    input go on.
    """

    #: A server with other limits has its own subclass, since uvicorn creates the instances.
    limits = Limits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = self.conn.logger = _wire_log
        self.conn.debug = False
        self.queue = Inbox()  # type: ignore[assignment]  # all that uvicorn uses of a queue
        self._reader = self.conn.reader = FrameReader()
        self.conn.parser = self.conn.parse()  # it has begun to read from the reader before
        next(self.conn.parser)
        self.conn.fail = partial(_fail, self.conn.fail)  # type: ignore[method-assign]
        self.conn.reject = partial(_reject, self.conn, self.conn.reject)  # type: ignore[method-assign]
        self._late_pong: bytes | None = None
        self._unparsed = bytearray()
        self._parsing: asyncio.Handle | None = None
        self._is_lingering = False
        self._idle_frames = 0
        self._idle_window_ends = 0.0
        self._seat: Seat | None = None
        self._take_text: Callable[[str], bool] | None = None

    def take_seat(self, seat: Seat) -> None:
        """Take over the HTTP connection's seat, and put it into the scope for the application."""
        self._seat = seat
        scope: dict[str, Any] | None = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][SEAT] = seat

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: stop parsing, and free the input, since this stays in memory until the next garbage
        collection."""
        if self._seat is not None:
            self._seat.leave()
        if self._parsing is not None:
            self._parsing.cancel()
        self._unparsed.clear()
        self.frames = []
        self._reader.buffer.clear()
        self.conn.parser.close()  # It has the last message.
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: close, unless closing has begun."""
        if self.transport.is_closing():
            return  # uvicorn would raise for a close after the peer's own.
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse one slice per loop iteration; nothing before the handshake is answered, for which a client has to wait,
        and nothing while a message waits for the application. What is not parsed is one read at most."""
        if self._is_lingering:
            return
        if not self.handshake_initiated:
            super().data_received(data)
            if not self.handshake_initiated:
                self._refuse_handshake()
            if self.handshake_complete:
                self._tell_refusal()
        elif len(data) <= WS_SLICE_BYTES and not self._unparsed and self._may_parse():
            text = whole_text(data) if self._is_between_messages() else None
            if text is None:
                super().data_received(data)
            else:
                self._pass_on(text)
        else:
            self._unparsed += data
            self._pause_reading()
            self._parse_soon()

    def _parse_soon(self) -> None:
        """Parse the next slice, once the application has received the messages of the last one."""
        if self._unparsed and self._parsing is None and self._may_parse():
            self._parsing = self.loop.call_soon(self._parse_slice)

    def _may_parse(self) -> bool:
        return self.handshake_complete and (self.close_sent or self.queue.empty())

    def _is_between_messages(self) -> bool:
        conn = self.conn
        return self._reader.is_between_frames and conn.current_size is None and conn.state is OPEN

    def _parse_slice(self) -> None:
        self._parsing = None
        if self.transport.is_closing():
            self._unparsed.clear()
            return
        part = bytes(self._unparsed[:WS_SLICE_BYTES])
        del self._unparsed[:WS_SLICE_BYTES]
        super().data_received(part)
        if self._unparsed:
            self._pause_reading()
            self._parse_soon()
        elif self.read_paused and self.queue.empty():
            self._resume_reading()

    async def receive(self) -> ASGIReceiveEvent:
        """The next message for the application; more is parsed only when it has received them all."""
        message = await self.queue.get()
        if self._unparsed:
            self._parse_soon()
        elif self.read_paused and self.queue.empty():
            self._resume_reading()
        return message

    def _pause_reading(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        self.read_paused = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_text(self, event: Frame) -> None:
        """A text message, or its first fragment."""
        self.curr_msg_data_type = "text"
        self._begin_message(event)

    def handle_bytes(self, event: Frame) -> None:
        """A binary message, or its first fragment."""
        self.curr_msg_data_type = "bytes"
        self._begin_message(event)

    def _begin_message(self, event: Frame) -> None:
        if self._is_lingering:
            return
        # One growing buffer: a list of a million one-byte fragments would need 60 times their size.
        self.frames = [event.data if event.fin else bytearray(event.data)]  # type: ignore[list-item]  # bytes-like
        if event.fin:
            self.send_receive_event_to_app()

    def handle_cont(self, event: Frame) -> None:
        """A further fragment."""
        if self._is_lingering:
            return
        self.frames[0] += event.data
        if event.fin:
            self.send_receive_event_to_app()
        elif not event.data:
            self._count_idle_frame()

    def send_receive_event_to_app(self) -> None:
        """Pass a message to the application; one that is not valid UTF-8 closes the connection."""
        data = self.frames[0]
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "text":
            try:
                text = data.decode()
            except UnicodeDecodeError:
                self.conn.fail(1007, "not UTF-8")
                self.handle_parser_exception()
                return
            self._pass_on(text)
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": bytes(data)})

    def push_text_to(self, take: Callable[[str], bool] | None) -> None:
        """See DirectSocket."""
        self._take_text = take

    def _pass_on(self, text: str) -> None:
        if self._take_text is None or not self.queue.empty() or not self._take_text(text):
            self.queue.put_nowait({"type": "websocket.receive", "text": text})

    def handle_ping(self) -> None:
        """Answer the ping; for a peer that does not read, only the last one (RFC 6455, section 5.5.3)."""
        if self._is_lingering:
            return
        self._count_idle_frame()
        output = self.conn.data_to_send()
        if self.writable.is_set() or self.close_sent or self.conn.close_sent is not None:
            self.transport.write(b"".join(output))
        elif output:
            self._late_pong = output[-1]

    def _count_idle_frame(self) -> None:
        now = self.loop.time()
        if now >= self._idle_window_ends:
            self._idle_window_ends, self._idle_frames = now + IDLE_FRAMES_WINDOW_S, 0
        self._idle_frames += 1
        if self._idle_frames > self.limits.idle_frames_max and not self.close_sent:
            reason = close_text("protocol_violation", "too many empty frames")
            self.conn.fail(CLOSE_CODES["protocol_violation"], reason)
            self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """The peer broke the protocol: send it the reason, and go on reading for a moment."""
        if self._is_lingering:
            return
        close = self.conn.close_sent
        assert close is not None  # Frames are only parsed between the handshake and the close.
        if not self.close_sent:
            _violation.write(code=int(close.code), peer=self.client[0] if self.client else None)
            self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.close_sent = self._is_lingering = True
        self._unparsed.clear()
        self.frames = []
        self.transport.write(b"".join(self.conn.data_to_send()))
        # If the connection closed with input unread, TCP would reset it, and the peer might never see the close code.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self._resume_reading()
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(WS_LINGER_S, self.transport.close)

    def _refuse_handshake(self) -> None:
        """Refuse a handshake that passed the HTTP side and not the WebSocket side; uvicorn would leave it without a
        response."""
        answer = b"".join(self.conn.data_to_send())
        self.transport.write(answer or _BAD_HANDSHAKE)
        self.handshake_complete = self.close_sent = True
        self.transport.close()

    def _tell_refusal(self) -> None:
        """Log that the handshake was refused, and for which field; its values may be secret."""
        error = self.conn.handshake_exc
        cause = getattr(error, "name", None) or type(error).__name__
        _refused.write(cause=cause, peer=self.client[0] if self.client else None)

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        super().resume_writing()
        if self._late_pong is not None:
            pong, self._late_pong = self._late_pong, None
            if not self.close_sent and not self.transport.is_closing():
                self.transport.write(pong)
