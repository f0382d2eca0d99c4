"""Ends the running streams when the server stops: waits for them, parks them for the next process, or cancels them."""

import asyncio

import structlog

from archer_ws.sessions.changes import SessionChanges
from archer_ws.sessions.journaling import Journaling
from archer_ws.sessions.orphans import Orphans
from archer_ws.sessions.settling import Settling
from archer_ws.sessions.streams.retention import StreamTable
from archer_ws.sessions.streams.stream import STOP_GRACE_S, Stream

log = structlog.get_logger(__name__)


class Shutdown:
    """Ends all streams, within time limits.

    Args:
        table: the table of streams.
        journaling: writes streams to the store; None if the store has no streams.
        settling: stores completions after their streams' ends.
        orphans: the readers that did not stop.
        changes: notifies the watchers of conversations.
        settle_limit_s: how long storing a completion may take, in seconds.
    """

    def __init__(
        self,
        table: StreamTable,
        journaling: Journaling | None,
        settling: Settling,
        orphans: Orphans,
        changes: SessionChanges,
        *,
        settle_limit_s: float,
    ) -> None:
        self._table = table
        self._journaling = journaling
        self._settling = settling
        self._orphans = orphans
        self._changes = changes
        # How long streams may take to end: the reader's grace, the store's limit, and a margin.
        self._limit_s = STOP_GRACE_S + settle_limit_s + 1.0
        #: Whether new requests are refused.
        self.has_begun = False

    def begin(self) -> None:
        """See `SessionManager.begin_drain`."""
        self.has_begun = True

    async def drain(self, limit_s: float) -> None:
        """See `SessionManager.drain`."""
        self.begin()
        for stream in self._table.live:
            self.stream_waits(stream)
        if live := self._table.live:
            log.info("draining", streams=len(live), limit_s=limit_s)
            await asyncio.wait([stream.task for stream in live if stream.task], timeout=limit_s)
        await self.aclose()

    async def aclose(self) -> None:
        """See `SessionManager.aclose`."""
        self.begin()
        for stream in self._table.live:
            if stream.can_park and self._keeps(stream):
                stream.park(at_once=True)
            else:
                stream.cancel("draining")
        if tasks := [stream.task for stream in self._table.live if stream.task]:
            _, pending = await asyncio.wait(tasks, timeout=self._limit_s)
            for task in pending:
                task.cancel()
        await asyncio.gather(*(stream.leave(self._limit_s) for stream in self._table.live if stream.is_parked))
        await self._settling.aclose()
        if self._journaling is not None:
            await self._journaling.aclose()
        self._orphans.cancel()
        self._changes.close()
        self._table.close()

    def stream_waits(self, stream: Stream) -> None:
        """While draining: park a stream that waits for results, or cancel it once no client runs one of its calls."""
        if not self.has_begun or not stream.can_park:
            return
        if self._keeps(stream):
            stream.park()
        elif stream.status == "waiting":
            stream.exchange.when_idle(lambda: stream.cancel("draining"))

    def _keeps(self, stream: Stream) -> bool:
        """Whether the stream is stored, and outlives the process."""
        return self._journaling is not None and stream.identity.session_id is not None
