"""The outbound side of an HTTP connection: a client that reads nothing is disconnected, as on a socket (protocol
section 8).

Otherwise its response, the stream that it follows and that stream's log would be kept for as long as it likes. The
check runs from a timer only, so that sending a chunk costs nothing more. It also notices a client that has left while
further requests of it wait: then nothing is read, and so no end either.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from archer_ws.core.limits import Limits
from archer_ws.core.rare_line import RareLine
from archer_ws.server.peer_progress import PeerProgress, cut

_stalled = RareLine("response_stalled")


class WatchedHttpProtocol(HttpToolsProtocol):
    """One connection; aborted when its peer reads no byte for `limits.write_deadline_s` while some wait.

    A slow trickle of bytes counts as progress. The check starts only when the system's buffers are full, so a client
    that stops reading is noticed later by the size of those buffers.
    """

    #: The limits of every HTTP connection of this package. A server with other limits has its own subclass, since
    #: uvicorn creates the instances.
    limits = Limits()

    _look_timer: asyncio.TimerHandle | None = None
    _progress: PeerProgress | None = None
    #: How much the peer had read at the last check, and since when it has read no more (loop time); None where nothing
    #: was waiting.
    _standing: tuple[int, float] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._stop_looking()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Stop watching: the WebSocket protocol has its own check."""
        self._stop_looking()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        super().pause_writing()
        self._look()

    def watch_response(self) -> None:
        """A request begins: from now on there may be data to send."""
        if self._look_timer is None:
            self._look_timer = self.loop.call_later(self.limits.look_every_s, self._look)

    def awaits_departure(self) -> bool:
        """Whether somebody waits to learn that the client has left, while further requests of it wait."""
        return False

    def _look(self) -> None:
        self._stop_looking()
        if self._progress is None:
            self._progress = PeerProgress(self.transport)
        sample = self._progress.sample()
        if sample.has_left and self.flow.read_paused and self.awaits_departure():
            self.transport.abort()
            return
        now = self.loop.time()
        if not sample.waiting:
            self._standing = None
        elif self._standing is None or self._standing[0] != sample.taken:
            self._standing = sample.taken, now
        elif now - self._standing[1] >= self.limits.write_deadline_s:
            _stalled.write(peer=self.client[0] if self.client else None, waiting_bytes=sample.waiting)
            cut(self.transport)
            return
        if sample.waiting or (self.cycle is not None and not self.cycle.response_complete):
            self._look_timer = self.loop.call_later(self.limits.look_every_s, self._look)

    def _stop_looking(self) -> None:
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None
