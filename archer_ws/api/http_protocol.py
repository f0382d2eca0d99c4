"""uvicorn's HTTP/1.1, with bounds on what a client may do before its request is known.

uvicorn with httptools takes 50 MB of header fields, and waits for ever for a request that does not come.
"""

import asyncio

from archer_ws.api.http_1_0 import UnchunkedForOldClients
from archer_ws.api.upgrade_offers import UpgradeOffers

#: The most a request line with its header fields may take, in bytes; one read (256 KiB) may pass it.
MAX_HEAD_BYTES = 64 * 1024
#: How long a client may take to send them, from connecting or from the first byte of a further request, in seconds.
HEAD_DEADLINE_S = 20.0


class BoundedHeadProtocol(UpgradeOffers, UnchunkedForOldClients):
    """One connection; closed when a request's head is too long in bytes or in time."""

    _head_deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; what comes while a head is incomplete counts as its."""
        belongs_to_head = self._head_deadline is not None
        super().data_received(data)
        if belongs_to_head and self._head_deadline is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's header fields are too large.")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self._head_deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is whole; from here on the application judges."""
        self._head_arrived()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_deadline = self.loop.call_later(HEAD_DEADLINE_S, self._head_overdue)

    def _head_arrived(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _head_overdue(self) -> None:
        self._head_deadline = None
        self.transport.close()
