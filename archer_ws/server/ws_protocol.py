"""The WebSocket of `archer-ws serve`: a peer that does not read, or does not answer pings, is disconnected (protocol
section 8).

A peer that reads no byte for `limits.write_deadline_s` while some wait is aborted. A peer that does not answer a ping
is closed, unless it is only slow. ws_inbound.py limits what a peer may send.
"""

import asyncio
from typing import Any, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from websockets.frames import Frame
from websockets.http11 import Request

from archer_ws.api.socket import DIRECT_SOCKET
from archer_ws.core.limits import SEND_BUFFER_BYTES
from archer_ws.core.rare_line import RareLine
from archer_ws.core.standstill import stood_still
from archer_ws.server.corked_transport import CorkedTransport
from archer_ws.server.peer_progress import PeerProgress, Progress, bound_send_buffer, cut
from archer_ws.server.ws_frames import text_frame
from archer_ws.server.ws_inbound import OPEN, BoundedWebSocketProtocol

#: A ping is sent between messages at least every so many bytes; its pong shows that the peer has read up to there. TCP
#: alone does not show it: a system that has buffered 100 KB for a program that reads 1 KB/s may acknowledge nothing for
#: minutes. A peer that slow still answers each of these pings within the deadlines.
MARK_EVERY_BYTES = 16 * 1024
#: The length of such a ping's payload, which is its number; uvicorn's own pings have 4 bytes.
MARK_BYTES = 6
#: The resolution of uvloop's clock, in seconds. A rest of less is a rounding error; a timer set for it has no `when`.
TICK_S = 0.001
#: The longest close frame of a server (RFC 6455, section 5.5).
CLOSE_FRAME_BYTES = 2 + 125
_stalled = RareLine("websocket_stalled")
_silent = RareLine("websocket_silent")


class WatchedWebSocketProtocol(BoundedWebSocketProtocol):
    """One WebSocket connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._progress: PeerProgress
        self._look_timer: asyncio.TimerHandle | None = None
        self._taken = 0
        self._taken_at = 0.0
        #: How much the peer had received when it was last sent a ping.
        self._ping_taken = 0
        #: When the peer last answered any ping (loop time).
        self._answered_at = 0.0
        self._unmarked_bytes = 0
        self._marks_sent = self._marks_answered = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The HTTP protocol hands over a connection that asks for an upgrade."""
        corked = cast(asyncio.Transport, CorkedTransport(transport, self.loop, self._watch))
        super().connection_made(corked)
        bound_send_buffer(transport, SEND_BUFFER_BYTES)
        self._progress = PeerProgress(corked)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: stop watching."""
        if self._look_timer is not None:
            self._look_timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: close. A peer that lags may first read to the end: its pongs would meet a closed
        connection, whose reset drops all that it has not received. It replies to the close behind that; otherwise the
        server aborts it in the end."""
        if not self.close_sent or not self._lags():
            super().shutdown()

    def _lags(self) -> bool:
        """Whether the peer has not read all messages, as far as its pongs and the kernel tell."""
        return self._marks_answered < self._marks_sent or self._progress.sample().waiting > CLOSE_FRAME_BYTES

    def handle_close(self, event: Frame) -> None:
        """The peer's close, or its reply to ours."""
        super().handle_close(event)
        self._watch()

    def handle_parser_exception(self) -> None:
        """The peer is closed for invalid frames; it must read the close within the deadline."""
        super().handle_parser_exception()
        self._watch()

    def handle_pong(self, event: Frame) -> None:
        """The peer has read everything up to the ping that it answers."""
        if self._is_lingering:
            return
        payload = bytes(event.data)
        if payload == self.pending_ping_payload:
            self._answered_at = self.loop.time()
            super().handle_pong(event)
        elif self._is_new_mark(payload):
            self._marks_answered = int.from_bytes(payload)
            self._answered_at = self.loop.time()
        else:
            self._count_idle_frame()

    def _is_new_mark(self, payload: bytes) -> bool:
        return len(payload) == MARK_BYTES and self._marks_answered < int.from_bytes(payload) <= self._marks_sent

    async def send(self, message: ASGISendEvent) -> None:
        """Send the application's message; waits while the peer lags.

        Raises:
            ClientDisconnected: the connection is closed, by either side. Not raised for the start of a close's HTTP
                response, which is no message.
        """
        if self.close_sent and self.handshake_complete and self.initial_response is None:
            raise ClientDisconnected
        if message["type"] == "websocket.send":
            text = message.get("text") or ""
            self._mark(len(text) if text.isascii() else 3 * len(text))
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # Refused, by a response that is whole: otherwise uvicorn would log an error that the handshake is not done.
            self.handshake_complete = True
        await super().send(message)
        if self._unparsed:
            self._parse_soon()

    def handle_connect(self, event: Request) -> None:
        """The handshake: the application starts, and may send and receive past ASGI (DirectSocket)."""
        super().handle_connect(event)
        if not self.handshake_complete:
            extensions: dict[str, Any] | None = self.scope["extensions"]
            assert extensions is not None
            extensions[DIRECT_SOCKET] = self

    def try_send_text(self, text: str) -> bool:
        """Send a message as `send` would, but at once; False where `send` would wait or raise."""
        if not self.writable.is_set() or self.conn.state is not OPEN or self.close_sent or self.disconnected:
            return False
        frame = text_frame(text)
        self._mark(len(frame))
        self.transport.write(frame)
        return True

    def _mark(self, size: int) -> None:
        """Send a ping before a message of about this many bytes, if it completes a stretch of `MARK_EVERY_BYTES`."""
        before = self._unmarked_bytes
        self._unmarked_bytes = before + size
        if before and before + size > MARK_EVERY_BYTES and self.conn.state is OPEN and not self.close_sent:
            self._unmarked_bytes = size
            self._marks_sent += 1
            self.conn.send_ping(self._marks_sent.to_bytes(MARK_BYTES))
            self.transport.write(b"".join(self.conn.data_to_send()))

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        super().pause_writing()
        self._watch()

    def _watch(self) -> None:
        """Apply the write deadline to the peer until nothing waits."""
        if self._look_timer is None and not self.disconnected:
            sample = self._progress.sample()
            if sample.waiting:
                self._taken, self._taken_at = sample.taken, self.loop.time()
                self._look_timer = self.loop.call_later(self.limits.look_every_s, self._look)

    def _look(self) -> None:
        self._look_timer = None
        sample = self._progress.sample()
        if not sample.waiting:
            return
        now = self.loop.time()
        if sample.taken != self._taken:
            self._taken, self._taken_at = sample.taken, now
        self._taken_at = max(self._taken_at, self._answered_at)
        if now - self._taken_at >= self.limits.write_deadline_s:
            _stalled.write(peer=self.client[0] if self.client else None, waiting_bytes=sample.waiting)
            cut(self.transport)
        else:
            self._look_timer = self.loop.call_later(self.limits.look_every_s, self._look)

    def send_keepalive_ping(self) -> None:
        """Ping; this also notices data that waits only in the kernel's buffer."""
        self._watch()
        super().send_keepalive_ping()
        self._ping_taken = self._progress.sample().taken

    def keepalive_timeout(self) -> None:
        """No pong yet: close, unless the peer is only slow, or we are the side that does not read."""
        assert self.pong_timer is not None
        due, self.pong_timer = self.pong_timer.when(), None
        if self.close_sent or self.transport.is_closing():
            return
        sample = self._progress.sample()
        if wait_s := self._pong_delay(sample, due):
            self._ping_taken = sample.taken
            self.pong_timer = self.loop.call_later(wait_s, self.keepalive_timeout)
            return
        _silent.write(peer=self.client[0] if self.client else None, waiting_bytes=sample.waiting)
        if sample.waiting:
            cut(self.transport)
        else:
            super().keepalive_timeout()

    def _pong_delay(self, sample: Progress, due: float) -> float:
        """How much longer a pong that was due then may take, in seconds; 0 if the peer is to be disconnected."""
        timeout_s = self.ping_timeout or 0.0
        if self.read_paused or stood_still(due, self.loop.time()):
            # The pong may be in the input that we have not read; the write deadline decides whether the peer reads.
            return timeout_s
        if sample.waiting and sample.taken != self._ping_taken:
            return timeout_s
        left_s = self._answered_at + timeout_s - self.loop.time()
        return left_s if left_s >= TICK_S else 0.0
