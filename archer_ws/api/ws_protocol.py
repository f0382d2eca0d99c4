"""uvicorn's WebSocket, with bounds on what a peer may do: not read, not answer, or send junk (protocol section 8).

A peer that takes no byte for `WRITE_DEADLINE_S` while some wait is cut, and one that does not answer a ping is closed,
unless it is only slow. Frames are parsed in slices, so that no peer holds up the loop or fills memory with thousands of
tiny ones. Whoever breaks RFC 6455 is closed with its code and one line in the log. What the messages say is not looked
at here.
"""

import asyncio
import logging
import time
from typing import Any

import structlog
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from archer_ws.api.peer_progress import PeerProgress, bound_send_buffer, cut
from archer_ws.rpc.messages import CLOSE_CODES

log = structlog.get_logger(__name__)

#: uvicorn's and websockets': at INFO they tell of every socket, and with its query string, which may hold secrets.
_wire_log = logging.getLogger(f"{__name__}.wire")
_wire_log.setLevel(logging.WARNING)

#: A peer that takes no byte for so long while some wait is cut (protocol section 8), in seconds.
WRITE_DEADLINE_S = 30.0
#: How often a peer that lags is looked at; the deadline is late by this much at most. In seconds.
LOOK_EVERY_S = 3.0
#: The slowest peer that is borne with, in bytes a second: its pong comes behind what it has not read yet.
SLOWEST_BYTES_PER_S = 1024
#: So much unread earns no delay (heartbeats, small answers), in bytes; and the longest delay, in seconds.
UNREAD_FREE_BYTES, PONG_DELAY_MAX_S = 4096, 600.0
#: The most that the kernel keeps for a peer that lags, in bytes (Linux doubles it for its own accounts).
SEND_BUFFER_BYTES = 64 * 1024
#: So much of what came is parsed in one turn of the loop, in bytes: at worst 1,300 empty frames, some milliseconds.
SLICE_BYTES = 8 * 1024
#: Pings, pongs and empty fragments do nothing but cost: so many may come within the window.
IDLE_FRAMES_MAX, IDLE_FRAMES_WINDOW_S = 2000, 10.0
#: How long a peer that was closed for junk may go on sending, so that the close reaches it before a reset. In seconds.
LINGER_S = 2.0
#: At most one line of a kind within so long, in seconds; the next tells how many were left out.
LOG_INTERVAL_S = 10.0


class RareLine:
    """A warning that clients can cause at will: written seldom, with the number of those that were left out."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._left_out = 0
        self._next_at = 0.0

    def write(self, **facts: object) -> None:
        """Write the line, or count it."""
        now = time.monotonic()
        if now < self._next_at:
            self._left_out += 1
            return
        if self._left_out:
            facts["left_out"] = self._left_out
        self._left_out = 0
        self._next_at = now + LOG_INTERVAL_S
        log.warning(self._event, **facts)


_violation = RareLine("websocket_violation")
_stalled = RareLine("websocket_stalled")
_silent = RareLine("websocket_silent")


class WatchedWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = self.conn.logger = _wire_log
        self._progress: PeerProgress
        self._look_timer: asyncio.TimerHandle | None = None
        self._taken = 0
        self._taken_at = 0.0
        self._ping_end = 0
        self._ping_taken = 0
        #: The position in the outbound stream up to which the application at the other end has certainly read.
        self._read_through = 0
        self._late_pong: bytes | None = None
        self._unparsed = bytearray()
        self._parsing: asyncio.Handle | None = None
        self._is_lingering = False
        self._idle_frames = 0
        self._idle_window_ends = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The HTTP side hands over a connection that asks for an upgrade."""
        super().connection_made(transport)
        bound_send_buffer(transport, SEND_BUFFER_BYTES)
        self._progress = PeerProgress(transport)
        self._read_through = self._progress.sample().written

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over: nothing is watched any more."""
        for handle in (self._look_timer, self._parsing):
            if handle is not None:
                handle.cancel()
        self._unparsed.clear()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: close, where that has not begun."""
        if self.transport.is_closing():
            return  # uvicorn would raise for a close behind the peer's own.
        super().shutdown()

    # Inbound.

    def data_received(self, data: bytes) -> None:
        """Parse, a slice a turn; and nothing before the handshake is answered, for which a client has to wait."""
        if self._is_lingering:
            return
        if not self.handshake_initiated:
            super().data_received(data)
            if not self.handshake_initiated:
                self._refuse_handshake()
        elif len(data) <= SLICE_BYTES and not self._unparsed and self.handshake_complete:
            super().data_received(data)
        else:
            self._unparsed += data
            self._pause_reading()
            self._parse_soon()

    def _parse_soon(self) -> None:
        """Parse the next slice, once the application has taken the messages of the last one."""
        is_due = self.handshake_complete and (self.close_sent or self.queue.empty())
        if self._unparsed and is_due and self._parsing is None:
            self._parsing = self.loop.call_soon(self._parse_slice)

    def _parse_slice(self) -> None:
        self._parsing = None
        if self.transport.is_closing():
            self._unparsed.clear()
            return
        part = bytes(self._unparsed[:SLICE_BYTES])
        del self._unparsed[:SLICE_BYTES]
        super().data_received(part)
        if self._unparsed:
            self._pause_reading()
            self._parse_soon()
        elif self.read_paused and self.queue.empty():
            self._resume_reading()

    async def receive(self) -> ASGIReceiveEvent:
        """The next message for the application; only when it has all is more read."""
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
        """A text message, or its beginning."""
        self.curr_msg_data_type = "text"
        self._begin_message(event)

    def handle_bytes(self, event: Frame) -> None:
        """A binary message, or its beginning."""
        self.curr_msg_data_type = "bytes"
        self._begin_message(event)

    def _begin_message(self, event: Frame) -> None:
        # A growing buffer: a list of a million fragments of a byte takes 60 times their size.
        self.frames = [event.data if event.fin else bytearray(event.data)]  # type: ignore[list-item]  # bytes-like
        if event.fin:
            self.send_receive_event_to_app()

    def handle_cont(self, event: Frame) -> None:
        """A further fragment."""
        self.frames[0] += event.data
        if event.fin:
            self.send_receive_event_to_app()
        elif not event.data:
            self._count_idle_frame()

    def send_receive_event_to_app(self) -> None:
        """Give the application a message; one that is no UTF-8 closes the connection."""
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
            self.queue.put_nowait({"type": "websocket.receive", "text": text})
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": bytes(data)})
        self._pause_reading()

    def handle_ping(self) -> None:
        """Answer; to a peer that does not read, only the last ping (RFC 6455, section 5.5.3)."""
        self._count_idle_frame()
        output = self.conn.data_to_send()
        if self.writable.is_set() or self.close_sent or self.conn.close_sent is not None:
            self.transport.write(b"".join(output))
        elif output:
            self._late_pong = output[-1]

    def handle_pong(self, event: Frame) -> None:
        """The peer has read everything up to the ping that it answers."""
        if self.pending_ping_payload is None or bytes(event.data) != self.pending_ping_payload:
            self._count_idle_frame()
        else:
            self._read_through = self._ping_end
        super().handle_pong(event)

    def _count_idle_frame(self) -> None:
        now = self.loop.time()
        if now >= self._idle_window_ends:
            self._idle_window_ends, self._idle_frames = now + IDLE_FRAMES_WINDOW_S, 0
        self._idle_frames += 1
        if self._idle_frames > IDLE_FRAMES_MAX and not self.close_sent:
            self.conn.fail(CLOSE_CODES["protocol_violation"], "too many empty frames")
            self.handle_parser_exception()

    def handle_close(self, event: Frame) -> None:
        """The peer's close, or its answer to ours."""
        super().handle_close(event)
        self._watch()

    def handle_parser_exception(self) -> None:
        """The peer broke the protocol: tell it why, and read on for a moment."""
        close = self.conn.close_sent
        if self._is_lingering:
            return
        if close is None:
            cut(self.transport)
            return
        if not self.close_sent:
            _violation.write(code=int(close.code), peer=self.client[0] if self.client else None)
            self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.close_sent = self._is_lingering = True
        self._unparsed.clear()
        self.frames = []
        self.transport.write(b"".join(self.conn.data_to_send()))
        # Closed with input unread, TCP would reset the connection, and the peer might never see the close's code.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self._resume_reading()
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)
        self._watch()

    def _refuse_handshake(self) -> None:
        """What the HTTP side let through and the WebSocket side does not: uvicorn would leave it without an answer."""
        answer = b"".join(self.conn.data_to_send())
        self.transport.write(answer or b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.handshake_complete = self.close_sent = True
        self.transport.close()

    # Outbound.

    async def send(self, message: ASGISendEvent) -> None:
        """Send the application's message; waits while the peer lags."""
        await super().send(message)
        if self._look_timer is None and self.transport.get_write_buffer_size():
            self._watch()
        if self._unparsed:
            self._parse_soon()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        super().resume_writing()
        if self._late_pong is not None:
            pong, self._late_pong = self._late_pong, None
            if not self.close_sent and not self.transport.is_closing():
                self.transport.write(pong)

    def _watch(self) -> None:
        """Hold the peer to the write deadline from now on, until nothing waits."""
        if self._look_timer is None and not self.disconnected:
            sample = self._progress.sample()
            if sample.waiting:
                self._taken, self._taken_at = sample.taken, self.loop.time()
                self._look_timer = self.loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._look_timer = None
        sample = self._progress.sample()
        if not sample.waiting:
            return
        now = self.loop.time()
        if sample.taken != self._taken:
            self._taken, self._taken_at = sample.taken, now
        if now - self._taken_at >= WRITE_DEADLINE_S:
            _stalled.write(peer=self.client[0] if self.client else None, waiting_bytes=sample.waiting)
            cut(self.transport)
        else:
            self._look_timer = self.loop.call_later(LOOK_EVERY_S, self._look)

    def send_keepalive_ping(self) -> None:
        """Ping; what lies in the kernel's buffer alone is noticed here."""
        self._watch()
        super().send_keepalive_ping()
        sample = self._progress.sample()
        self._ping_end, self._ping_taken = sample.written, sample.taken

    def keepalive_timeout(self) -> None:
        """No pong yet: close, unless the peer is only slow, or it is us who do not read."""
        self.pong_timer = None
        if self.close_sent or self.transport.is_closing():
            return
        sample = self._progress.sample()
        if wait_s := self._pong_delay(sample.taken, sample.waiting):
            self._ping_taken = sample.taken
            self.pong_timer = self.loop.call_later(wait_s, self.keepalive_timeout)
            return
        _silent.write(peer=self.client[0] if self.client else None, waiting_bytes=sample.waiting)
        if sample.waiting:
            cut(self.transport)
        else:
            super().keepalive_timeout()

    def _pong_delay(self, taken: int, waiting: int) -> float:
        """How much longer the pong may take, in seconds; 0 where the peer has to be given up."""
        timeout_s = self.ping_timeout or 0.0
        has_progressed = taken != self._ping_taken
        if self.read_paused:
            # The pong may be among what we do not read; whether the peer reads is the write deadline's to judge.
            return timeout_s
        if waiting:
            return timeout_s if has_progressed else 0.0
        if not self._progress.is_exact:
            return 0.0
        unread = max(0, self._ping_end - self._read_through - UNREAD_FREE_BYTES)
        due_at = self.ping_sent_at + timeout_s + min(unread / SLOWEST_BYTES_PER_S, PONG_DELAY_MAX_S)
        return max(0.0, due_at - self.loop.time())
