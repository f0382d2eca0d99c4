"""Writes the running streams of sessions to the store: once a second, what is new in all of them, in one commit.

It reads from each log what was appended since the last write, so a token costs nothing here. The end of a stream is
written together with its completion (turn.py). `recover` ends the streams that an earlier process left running. The
manager knows which streams exist.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from archer_ws.core.clock import utc_now
from archer_ws.core.eager_task import start_now
from archer_ws.core.exceptions import ArcherError, SessionNotFound, StorageUnavailable
from archer_ws.core.limits import Limits
from archer_ws.core.patience import patient_timeout
from archer_ws.sessions.storage.journal import (
    KeptStream,
    LogEnd,
    LogPart,
    LogPiece,
    StreamJournal,
    StreamKey,
    StreamRecord,
    WaitingStream,
)
from archer_ws.sessions.storage.values import StoredCompletion
from archer_ws.sessions.streams.alarm import Alarm
from archer_ws.sessions.streams.events import ControlEvent, StreamEnded
from archer_ws.sessions.streams.lost import end_lost
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.pieces import event_piece, log_end
from archer_ws.sessions.streams.stream import Stream

log = structlog.get_logger(__name__)

#: How many pieces are read, and how many streams, before the task yields to the event loop: about a millisecond each.
_PIECES_AT_ONCE, _STREAMS_AT_ONCE = 256, 64
#: A log with more events is put together in a thread.
_EVENTS_AT_ONCE = 4096
#: The approximate limit of text in one commit, in bytes. A second brings far less; but after a disk was full for a long
#: time there is a backlog, and while it is full, each failed attempt costs one such commit.
_BYTES_AT_ONCE = 4 * 1024 * 1024


class Journaling:
    """Writes all running streams that outlive the process.

    Args:
        journal: the store of streams.
        bounds: how often it is written, and the time limit for reading and writing one stream.
        on_recovered: called with the streams of earlier processes, once they have been read, and with the principals
            and ids of the sessions that have changed with that: where streams were ended, or wait again.
    """

    def __init__(
        self,
        journal: StreamJournal,
        bounds: Limits,
        on_recovered: Callable[[Sequence[KeptStream | WaitingStream], Collection[tuple[str, str]]], None],
    ) -> None:
        self._journal = journal
        self._every_s = bounds.journal_every_s
        self._limit_s = bounds.store_limit_s
        self._on_recovered = on_recovered
        self._is_recovering = False
        #: Whether the ended streams of earlier processes have been reported, and whether the waiting ones have been,
        #: too.
        self._has_told, self.has_found = True, True
        #: Why they could not be found at the last attempt.
        self._failure_to_find: ArcherError | None = None
        #: The last event of each stream that was written.
        self._written: dict[Stream, int] = {}
        #: The streams that the periodic task is writing, and those that `keep` is writing: no stream is in both.
        self._in_commit: set[Stream] = set()
        self._keeping: dict[Stream, int] = {}
        #: The state beside the log (see LoopState) that is not written yet.
        self._loops: dict[Stream, Callable[[], str]] = {}
        self._forgotten: set[StreamKey] = set()
        self._alarm = Alarm(self._strike)
        self._writing: asyncio.Task[None] | None = None
        self._began = 0.0
        self._in_trouble = False
        self._is_closed = False
        self._withdrawing: dict[Stream, asyncio.Task[None]] = {}

    async def recover(self) -> None:
        """End the streams that earlier processes left running. Retried later if the store fails now."""
        self._is_recovering, self._has_told, self.has_found = True, False, False
        await self._write()
        self._await_next()

    def check_found(self) -> None:
        """Refuse a request that depends on the streams of earlier processes while these are not loaded.

        Raises:
            StorageUnavailable: they are not.
        """
        if not self.has_found:
            why = self._failure_to_find
            raise StorageUnavailable(
                "the streams from before the restart are not loaded yet" + (f": {why.message}" if why else ""),
                hint=(why and why.hint) or "Try again in a moment.",
                retry_after_ms=1000,
            )

    def begin(self, stream: Stream) -> StreamRecord | None:
        """Begin to write a stream that is about to be accepted. Returns its row; None if it has no session.

        Raises:
            StorageUnavailable: the streams of earlier processes are not loaded yet, and one of them may run in its
                session.
        """
        identity = stream.identity
        if identity.session_id is None:
            return None
        if not self.has_found:
            self.check_found()
        self._forgotten.discard(_key(stream))
        self._written[stream] = 0
        self._await_next()
        return StreamRecord(
            principal=identity.principal,
            stream_id=identity.stream_id,
            session_id=identity.session_id,
            provider=identity.provider,
            model=identity.model,
            request_id=identity.request_id,
            fingerprint=identity.fingerprint,
            created_at=stream.created_at,
        )

    def adopt(self, stream: Stream) -> None:
        """Begin to write a stream of an earlier process that goes on; its log so far is already written."""
        self._written[stream] = stream.log.head_seq

    async def keep(self, stream: Stream, events: Sequence[ControlEvent], loop: Callable[[], str] | None) -> None:
        """Write a log's next events before they are appended to it, together with all unwritten events before them.

        Args:
            stream: the stream.
            events: its next events.
            loop: returns what a restart needs beside the log, as JSON (see LoopState); None if that has not changed.

        Raises:
            StorageUnavailable, StorageFull: they are not stored, or it is unknown whether they are.
        """
        try:
            async with patient_timeout(self._limit_s):
                while stream in self._in_commit and (writing := self._writing) is not None:
                    # Two writers of one log at the same time could leave gaps between the pieces.
                    await asyncio.wait((writing,))
                if stream in self._written:
                    await self._keep(stream, events, loop)
        except TimeoutError:
            raise StorageUnavailable(
                f"the conversation store did not respond within {self._limit_s:g} s",
                hint="Try again in a moment; repeating the request is harmless.",
                retry_after_ms=2000,
            ) from None

    async def _keep(self, stream: Stream, events: Sequence[ControlEvent], loop: Callable[[], str] | None) -> None:
        if loop is not None:
            # If this write fails, the next write of the log includes the state.
            self._loops[stream] = loop
        self._keeping[stream] = self._keeping.get(stream, 0) + 1
        try:
            written, owed = self._written[stream], self._loops.get(stream)
            pieces = await _new(stream, written)
            part = LogPart(
                _key(stream), [*pieces, *map(event_piece, events)], loop=owed() if owed is not None else None
            )
            await self._journal.put([part])
            if pieces and stream in self._written:
                self._written[stream] = max(self._written[stream], pieces[-1].last_seq)
            if owed is not None and self._loops.get(stream) is owed:
                del self._loops[stream]
        finally:
            self._keeping[stream] -= 1
            if not self._keeping[stream]:
                del self._keeping[stream]

    async def end(self, stream: Stream, last: Sequence[ControlEvent]) -> LogEnd | None:
        """Stop writing the stream, and return the rest of its log with its last events, for the caller to write
        together with the completion. None if the stream is not written.
        """
        if stream not in self._written:
            return None
        pieces = await _new(stream, self._written[stream])
        ended = last[-1]
        assert isinstance(ended, StreamEnded)
        self._let_go(stream)
        return log_end(ended, stream.ended_at, [*pieces, *map(event_piece, last[:-1])])

    def over(self, stream: Stream) -> None:
        """Note that the stream has ended. If it was refused instead, withdraw its row and its turn from the store.

        A stream may be refused because the store was too slow, and the turn may be stored afterwards. The client was
        told to repeat the request, so without the withdrawal the question could be stored twice.
        """
        if stream.log.ended is None:
            self.withdraw(stream)

    def withdraw(self, stream: Stream, on_done: Callable[[bool], object] = lambda _: None) -> None:
        """Remove a stream's row and its turn from the store, also if they are stored only afterwards: it was refused,
        or cancelled before it was accepted. `on_done` is called when that is done, with whether nothing of the turn is
        stored."""
        if self._let_go(stream):
            # Enqueued at once, so that the store runs it after the write that it undoes, and before later requests.
            withdrawing = start_now(self._withdraw(stream, on_done), name="withdrawal")
            self._withdrawing[stream] = withdrawing
            withdrawing.add_done_callback(lambda _: self._withdrawing.pop(stream))

    async def until_withdrawn(self, stream: Stream) -> None:
        """Wait for what `withdraw` does, if it was called, within the time limit: the store reads before it writes, so
        whoever reads the session behind the stream's end could find its turn."""
        if (withdrawing := self._withdrawing.get(stream)) is not None:
            await asyncio.wait((withdrawing,), timeout=self._limit_s)

    async def _withdraw(self, stream: Stream, on_done: Callable[[bool], object]) -> None:
        try:
            identity = stream.identity
            is_gone = await self._journal.withdraw(_key(stream), identity.request_id, has_replaced=identity.replaces)
        except ArcherError as failure:
            log.warning("refused_request_not_withdrawn", stream_id=stream.stream_id, cause=str(failure))
        else:
            on_done(is_gone)

    def _let_go(self, stream: Stream) -> bool:
        """Stop writing the stream; whether it was being written."""
        self._loops.pop(stream, None)
        return self._written.pop(stream, None) is not None

    def forget(self, stream: Stream) -> None:
        """Delete the stream's rows with the next write: clients can no longer find it."""
        if stream.identity.session_id is not None:
            self._forgotten.add(_key(stream))
            self._await_next()

    async def load(self, stream: Stream) -> MemoryLog:
        """Read the log of a stored stream.

        Raises:
            SessionNotFound: it was deleted with its session.
            StorageUnavailable: it can't be read.
        """
        try:
            async with patient_timeout(self._limit_s):
                pieces = await self._journal.load(_key(stream))
        except TimeoutError:
            raise StorageUnavailable(
                f"the conversation store did not respond within {self._limit_s:g} s",
                hint="Try again in a moment.",
                retry_after_ms=2000,
            ) from None
        if pieces is None:
            raise SessionNotFound(
                f"the session {stream.identity.session_id!r} no longer exists",
                hint="Its streams were deleted with it. Create it again, or leave session_id out.",
            )
        try:
            # Decoding thousands of pieces, or checking thousands of events, takes a while.
            if len(pieces) > _PIECES_AT_ONCE or (pieces and pieces[-1].last_seq > _EVENTS_AT_ONCE):
                return await asyncio.to_thread(MemoryLog.of, pieces)
            return MemoryLog.of(pieces)
        except (ValueError, KeyError) as cause:
            # The exception's text may contain the completion's, which must not be logged.
            log.error("stream_damaged", stream_id=stream.stream_id, cause=type(cause).__name__)  # noqa: TRY400
            raise StorageUnavailable(
                "the stored events of this stream can't be read",
                hint="Send the request again as a new one. The server's log has the details.",
                retryable=False,
            ) from None

    async def aclose(self) -> None:
        """Write what is not written yet, in one attempt, within the time limit."""
        self._alarm.cancel()
        if not self._is_writing and (self._written or self._forgotten):
            self._strike()
        if (writing := self._writing) is not None:
            await asyncio.wait((writing,), timeout=self._limit_s)
            writing.cancel()
        self._is_closed = True
        self._alarm.cancel()

    def _await_next(self, took_s: float = 0.0) -> None:
        has_more = self._written or self._forgotten or self._is_recovering
        if has_more and not self._is_writing and not self._is_closed:
            # Measured from the beginning of one write to that of the next; at least half a pause, if the disk is slow.
            self._alarm.set(max(self._every_s - took_s, self._every_s / 2))

    @property
    def _is_writing(self) -> bool:
        # A task of a closed event loop is done, but its callback never ran.
        return self._writing is not None and not self._writing.done()

    def _strike(self) -> None:
        self._began = time.monotonic()
        self._writing = asyncio.create_task(self._write(), name="journal")
        self._writing.add_done_callback(self._after_writing)

    def _after_writing(self, _: object) -> None:
        self._writing = None
        self._await_next(time.monotonic() - self._began)

    async def _write(self) -> None:
        """Write what is new. What can't be written now is read from the logs again by the next write."""
        try:
            if self._is_recovering:
                await self._recover()
            await self._put()
        except ArcherError as failure:
            self._in_commit.clear()
            if not self._in_trouble:
                self._in_trouble = True
                log.warning("streams_not_written", cause=str(failure))
        else:
            if self._in_trouble:
                self._in_trouble = False
                log.info("streams_written_again")

    async def _recover(self) -> None:
        changed: set[tuple[str, str]] = set()

        def end(
            record: StreamRecord, pieces: Sequence[LogPiece], loop: str | None
        ) -> tuple[StoredCompletion, LogEnd] | None:
            changed.add((record.principal, record.session_id))
            return end_lost(record, pieces, loop, utc_now())

        try:
            kept = await self._journal.recover(end)
        except ArcherError as failure:
            self._failure_to_find = failure
            if not self._has_told:
                # A full disk can still be read: report the ended streams now, and write their ends once there is room.
                found = await self._journal.recover(_end_unstored, writes=False)
                ended = [each for each in found if isinstance(each, KeptStream)]
                self._has_told, self.has_found = True, len(ended) == len(found)
                self._on_recovered(ended, ())
            raise
        if self._has_told:
            kept = [each for each in kept if isinstance(each, WaitingStream)]
        self._is_recovering, self._has_told, self.has_found = False, True, True
        self._failure_to_find = None
        self._on_recovered(kept, changed)

    async def _put(self) -> None:
        forgotten = frozenset(self._forgotten)
        parts: dict[Stream, LogPart] = {}
        size = 0
        for number, stream in enumerate(list(self._written), 1):
            # Read first: an end that is appended while the pieces are read is written by the next commit.
            ended = stream.log.ended
            # As it is now: `keep` may have written more during an earlier commit, and pieces must not overlap.
            written = self._written.get(stream)
            if written is not None and stream.log.head_seq > written and stream not in self._keeping:
                self._in_commit.add(stream)
                pieces = stream.log.pieces(written, _PIECES_AT_ONCE)
                if len(pieces) == _PIECES_AT_ONCE:
                    pieces += await _new(stream, pieces[-1].last_seq)
                end = log_end(ended, stream.ended_at, ()) if ended is not None else None
                owed = self._loops.get(stream)
                parts[stream] = LogPart(_key(stream), pieces, end, owed() if owed is not None else None)
                size += sum(len(piece.text) for piece in pieces)
            if size > _BYTES_AT_ONCE:
                await self._commit(parts, frozenset())
                parts, size = {}, 0
            if number % _STREAMS_AT_ONCE == 0:
                await asyncio.sleep(0)
        if parts or forgotten:
            await self._commit(parts, forgotten)

    async def _commit(self, parts: Mapping[Stream, LogPart], forgotten: frozenset[StreamKey]) -> None:
        # Without those whose id a new stream has taken in the meantime.
        forgotten &= self._forgotten
        try:
            await self._journal.put(list(parts.values()), forgotten)
        finally:
            self._in_commit.difference_update(parts)
        self._forgotten -= forgotten
        for stream, part in parts.items():
            if part.end is not None:
                self._let_go(stream)
            elif stream in self._written:
                self._written[stream] = part.pieces[-1].last_seq if part.pieces else self._written[stream]
                if part.loop is not None:
                    self._loops.pop(stream, None)


async def _new(stream: Stream, after: int) -> list[LogPiece]:
    """The pieces of a stream's log after `after`, up to its head at the time of the call or later."""
    found: list[LogPiece] = []
    while some := stream.log.pieces(after, _PIECES_AT_ONCE):
        found += some
        after = some[-1].last_seq
        if len(some) < _PIECES_AT_ONCE:
            break
        await asyncio.sleep(0)
    return found


def _end_unstored(
    record: StreamRecord, pieces: Sequence[LogPiece], loop: str | None
) -> tuple[StoredCompletion, LogEnd] | None:
    return end_lost(record, pieces, loop, utc_now(), stored=False)


def _key(stream: Stream) -> StreamKey:
    return stream.identity.principal, stream.stream_id
