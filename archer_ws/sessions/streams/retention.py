"""The table of all streams: the running ones, and the ended ones while their logs are retained.

An ended stream is retained for `retention_s`. If all streams together take more than `bytes_max`, ended ones are
forgotten earlier: those of the principal whose ended streams take the most, oldest first, so that no principal evicts
another's (protocol section 7). Running streams are never dropped.

An ended stream that is being read stays in memory, and counts, until it has been read: forgetting it would free
nothing. Readers are cut off only if all streams together take more than `bytes_max` and each ended stream is being
read: then those that accepted no data for STALLED_READER_S, and those that still read SLOW_READER_S after the end.
Their connection is broken; when they return, the error is `stream_not_found`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from archer_ws.core.limits import SLOW_READER_S
from archer_ws.sessions.streams.alarm import Alarm
from archer_ws.sessions.streams.stream import Stream

#: How long the count of the running streams' bytes is cached, in seconds.
RECOUNT_S = 0.5
#: How often readers are checked while `bytes_max` is exceeded, in seconds.
LOOK_S = 1.0


@dataclass(slots=True)
class EndedStream:
    """An ended stream, with its size in bytes as it was counted."""

    stream: Stream
    ended_at: float
    size: int


@dataclass(slots=True)
class Owned:
    """One principal's streams, each with its number, in the order in which they were accepted."""

    streams: dict[str, tuple[int, Stream]] = field(default_factory=dict)
    live: dict[str, tuple[int, Stream]] = field(default_factory=dict)
    #: The ended streams in the order of their ends, and their size.
    ended: OrderedDict[Stream, EndedStream] = field(default_factory=OrderedDict)
    ended_bytes: int = 0


class StreamTable:
    """Streams by principal and id.

    Args:
        retention_s: how long an ended stream is retained, in seconds.
        bytes_max: the limit of all streams, including the running ones, in bytes.
        clock: a monotonic clock, in seconds.
        on_forget: called with each ended stream that is forgotten.
    """

    def __init__(
        self,
        *,
        retention_s: float,
        bytes_max: int,
        clock: Callable[[], float] = time.monotonic,
        on_forget: Callable[[Stream], None] = lambda _: None,
    ) -> None:
        self._retention_s = retention_s
        self._bytes_max = bytes_max
        self._clock = clock
        self._on_forget = on_forget
        # A dict, since a set takes twice the memory.
        self._live: dict[Stream, None] = {}
        # In the order of their ends.
        self._ended: OrderedDict[Stream, EndedStream] = OrderedDict()
        # Forgotten, but still being read.
        self._outlived: dict[Stream, EndedStream] = {}
        self._owned: dict[str, Owned] = {}
        self._count = 0
        self._ended_bytes = 0
        self._live_bytes = 0
        self._recount_at = 0.0
        self._due = Alarm(self._on_due)
        self._look = Alarm(self.look_at_readers)

    @property
    def live(self) -> list[Stream]:
        """The running streams."""
        return list(self._live)

    @property
    def live_count(self) -> int:
        """How many streams run."""
        return len(self._live)

    @property
    def ended_bytes(self) -> int:
        """The size of the ended streams that are retained or being read, in bytes."""
        return self._ended_bytes

    def get(self, principal: str, stream_id: str) -> Stream | None:
        """The stream, if it is running or retained."""
        self._forget_old()
        owned = self._owned.get(principal)
        found = owned.streams.get(stream_id) if owned else None
        return found[1] if found else None

    def newest_first(
        self, principal: str, *, active: bool = False, before: int | None = None
    ) -> Iterator[tuple[int, Stream]]:
        """The principal's streams with their numbers, the last accepted first; only those with a number below
        `before`."""
        self._forget_old()
        owned = self._owned.get(principal)
        if owned is None:
            return
        for number, stream in reversed((owned.live if active else owned.streams).values()):
            if before is None or number < before:
                yield number, stream

    def add(self, stream: Stream) -> None:
        """Add a new, running stream."""
        identity = stream.identity
        stream_id = identity.stream_id
        self._live[stream] = None
        self._count += 1
        owned = self._owned.get(identity.principal)
        if owned is None:
            owned = self._owned[identity.principal] = Owned()
        owned.streams[stream_id] = owned.live[stream_id] = (self._count, stream)

    def add_ended(self, stream: Stream) -> None:
        """Add a stream of an earlier process as if it ended now, unless its id has been taken since."""
        if self.get(stream.identity.principal, stream.stream_id) is None:
            self.add(stream)
            self.end(stream)

    def drop(self, stream: Stream) -> None:
        """Forget an ended stream whose log no longer exists."""
        ended = self._ended.get(stream)
        if ended is not None:
            self._forget(ended)

    def drop_session(self, principal: str, session_id: str | None) -> None:
        """Forget the ended streams of a deleted session, or of all the principal's sessions if `session_id` is None."""
        owned = self._owned.get(principal)
        for ended in list(owned.ended.values()) if owned else ():
            its_session = ended.stream.identity.session_id
            if its_session is not None and session_id in (None, its_session):
                self._forget_unread(ended)

    def resized(self, stream: Stream) -> None:
        """Count an ended stream's new size."""
        ended = self._ended.get(stream)
        if ended is None:
            ended = self._outlived.get(stream)
        else:
            self._owned[stream.identity.principal].ended_bytes += stream.size_bytes - ended.size
        if ended is not None:
            self._ended_bytes += stream.size_bytes - ended.size
            ended.size = stream.size_bytes
            self.expire()

    def refuse(self, stream: Stream) -> None:
        """Forget a stream that was not accepted."""
        if stream in self._live:
            principal, stream_id = stream.identity.principal, stream.stream_id
            owned = self._owned[principal]
            del self._live[stream], owned.streams[stream_id], owned.live[stream_id]
            self._drop_empty(principal)

    def end(self, stream: Stream) -> None:
        """Note that the stream has ended, and retain it."""
        identity, size = stream.identity, stream.size_bytes
        owned = self._owned[identity.principal]
        del self._live[stream], owned.live[identity.stream_id]
        self._ended[stream] = owned.ended[stream] = EndedStream(stream, self._clock(), size)
        owned.ended_bytes += size
        self._ended_bytes += size
        self.expire()
        if not self._due.is_pending:
            self._await_due()

    def unheld(self, stream: Stream) -> None:
        """Note that an ended stream is no longer being read, and free it if it was in memory only for that."""
        outlived = self._outlived.pop(stream, None)
        if outlived is not None:
            self._ended_bytes -= outlived.size
        elif self._ended_bytes + self._live_bytes > self._bytes_max:
            self.expire()

    def expire(self) -> None:
        """Forget the streams that are too old, or too large in sum."""
        self._forget_old()
        if self._make_room() > 0 and self._ended_bytes:
            self._look.set(LOOK_S)

    def look_at_readers(self) -> None:
        """If nothing else makes room, cut off readers that do not read. Called by a timer while `bytes_max` is
        exceeded."""
        self._forget_old()
        over = self._make_room()
        if over > 0:
            self._cut_off(over)
            self.expire()

    def close(self) -> None:
        """Stop the timers."""
        self._due.cancel()
        self._look.cancel()

    def _make_room(self) -> int:
        """Forget ended streams that nobody reads until there is room. Returns the bytes that still exceed
        `bytes_max`."""
        if not self._ended_bytes:
            return 0
        over = self._ended_bytes + self._count_live_bytes() - self._bytes_max
        while over > 0 and (ended := self._next_to_go()) is not None:
            over -= ended.size
            self._forget(ended)
        return over

    def _next_to_go(self) -> EndedStream | None:
        """The oldest ended stream that nobody reads, of the principal whose ended streams take the most."""
        for owned in sorted(self._owned.values(), key=lambda each: -each.ended_bytes):
            for ended in owned.ended.values():
                if not ended.stream.is_held:
                    return ended
        return None

    def _cut_off(self, over: int) -> None:
        """Cut off readers that do not read, until `over` bytes are freed."""
        now = self._clock()
        for ended in [*self._outlived.values(), *self._ended.values()]:
            holds = ended.stream.holds
            is_late = now - ended.ended_at >= SLOW_READER_S
            # Called for every hold, since it compares the position with that of the previous call.
            stalled = [hold for hold in holds if hold.has_stalled(now) or is_late]
            if over <= 0 or not stalled:
                continue
            for hold in stalled:
                hold.cut_off()
            if len(stalled) == len(holds):
                over -= ended.size
                self._forget(ended)

    def _count_live_bytes(self) -> int:
        """The size of the running streams in bytes, cached for RECOUNT_S: if thousands end at once, counting at each
        end would block the event loop."""
        now = self._clock()
        if now >= self._recount_at:
            self._live_bytes = sum(stream.size_bytes for stream in self._live)
            self._recount_at = now + RECOUNT_S
        return self._live_bytes

    def _forget_old(self) -> None:
        oldest = self._clock() - self._retention_s
        while self._ended:
            ended = next(iter(self._ended.values()))
            if ended.ended_at > oldest:
                break
            self._forget_unread(ended)

    def _forget_unread(self, ended: EndedStream) -> None:
        """`_forget`, but go on counting its size while it is being read."""
        self._forget(ended)
        if ended.stream.is_held:
            self._outlived[ended.stream] = ended
            self._ended_bytes += ended.size

    def _forget(self, ended: EndedStream) -> None:
        """Remove it from the table and from the sizes."""
        stream = ended.stream
        if stream in self._ended:
            principal = stream.identity.principal
            owned = self._owned[principal]
            del self._ended[stream], owned.ended[stream], owned.streams[stream.stream_id]
            owned.ended_bytes -= ended.size
            self._ended_bytes -= ended.size
            self._drop_empty(principal)
            self._on_forget(stream)
        elif self._outlived.pop(stream, None) is not None:
            self._ended_bytes -= ended.size

    def _drop_empty(self, principal: str) -> None:
        if not self._owned[principal].streams:
            del self._owned[principal]

    def _await_due(self) -> None:
        """Set the timer for the oldest stream, so that its memory is freed without a further call."""
        if self._ended:
            due = next(iter(self._ended.values())).ended_at + self._retention_s
            self._due.set(max(1.0, due - self._clock()))

    def _on_due(self) -> None:
        self.expire()
        self._await_due()
