"""uvicorn's HTTP/1.1, except that a connection has one timer for all its pauses between two requests.

uvicorn sets a timer after each response and cancels it with the next bytes, also if they begin no request. Here it is
set once, and only a request ends the pause: when the timer is due, it is set again for the rest of the present pause.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from archer_ws.core.standstill import stood_still


class IdleConnections(HttpToolsProtocol):
    """One connection; closed when no request has come for `timeout_keep_alive` seconds after a response."""

    #: When the last response ended (loop time); None since the next request.
    _idle_since: float | None = None
    _idle_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_idling()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Stop waiting: the WebSocket protocol has its own pings."""
        self._stop_idling()
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """A request ends the pause."""
        self._idle_since = None
        super().on_message_begin()

    def on_response_complete(self) -> None:
        """A response has ended: as uvicorn has it, but for the timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self.scope is not self.cycle.scope:
            # The beginning of a further request is here: its head has a deadline.
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_at_pause)

    def _unset_keepalive_if_required(self) -> None:
        """uvicorn's own timer is never set."""

    def _look_at_pause(self) -> None:
        self._idle_timer = None
        if self._idle_since is None:
            return
        now = self.loop.time()
        if stood_still(self._idle_since + self.timeout_keep_alive, now):
            # A request may have come meanwhile.
            self._idle_since = now
        rest_s = self._idle_since + self.timeout_keep_alive - now
        if rest_s > 0:
            self._idle_timer = self.loop.call_later(rest_s, self._look_at_pause)
        else:
            self.transport.close()

    def _stop_idling(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
