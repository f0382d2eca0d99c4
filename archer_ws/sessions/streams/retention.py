"""Which streams are known: the running ones, and the ended ones for as long as their logs are kept.

An ended stream stays for `retention_s`, unless all together take more than `bytes_max`: then ended ones go, the oldest
of the principal who has the most of them first (protocol section 7, and nobody's streams push out another's). Running
ones are never dropped.

An ended stream that somebody still reads stays in memory until he has read it, and counts for so long: letting it go
would free nothing. Nobody is cut short while he reads steadily. Only where all together take more than `bytes_max`, and
no stream is left that nobody reads, are readers cut off: whoever took nothing for STALLED_READER_S, and whoever still
reads SLOW_READER_S after the end. His connection is broken; coming back, he is told `stream_not_found`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from archer_ws.core.limits import SLOW_READER_S
from archer_ws.sessions.streams.alarm import Alarm
from archer_ws.sessions.streams.stream import Stream

Key = tuple[str, str]

#: How old the count of the running streams' bytes may be, in seconds.
RECOUNT_S = 0.5
#: How often readers are looked at while there is no room, in seconds.
LOOK_S = 1.0


@dataclass(slots=True)
class EndedStream:
    """An ended stream, and what it counts."""

    stream: Stream
    ended_at: float
    size: int


@dataclass(slots=True)
class Owned:
    """One principal's streams, each with its number; both in the order in which they were accepted."""

    streams: dict[str, tuple[int, Stream]] = field(default_factory=dict)
    live: dict[str, tuple[int, Stream]] = field(default_factory=dict)
    #: The ended ones in the order of their ends, and what they take.
    ended: OrderedDict[str, EndedStream] = field(default_factory=OrderedDict)
    ended_bytes: int = 0


class StreamTable:
    """Streams by principal and id.

    Args:
        retention_s: how long an ended one is kept.
        bytes_max: what all may take, running ones included.
        clock: monotonic seconds.
        on_forget: told of each ended one that can't be found any more.
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
        self._live: dict[Key, Stream] = {}
        # In the order of their ends.
        self._ended: OrderedDict[Key, EndedStream] = OrderedDict()
        # No longer to be found, but still being read.
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
        return list(self._live.values())

    @property
    def live_count(self) -> int:
        """How many streams run."""
        return len(self._live)

    @property
    def ended_bytes(self) -> int:
        """What the ended streams take that are kept or still read."""
        return self._ended_bytes

    def get(self, principal: str, stream_id: str) -> Stream | None:
        """The stream, running or still kept."""
        self._forget_old()
        owned = self._owned.get(principal)
        found = owned.streams.get(stream_id) if owned else None
        return found[1] if found else None

    def newest_first(
        self, principal: str, *, active: bool = False, before: int | None = None
    ) -> Iterator[tuple[int, Stream]]:
        """The principal's streams with their numbers, the last accepted first; those with numbers under `before`."""
        self._forget_old()
        owned = self._owned.get(principal)
        if owned is None:
            return
        for number, stream in reversed((owned.live if active else owned.streams).values()):
            if before is None or number < before:
                yield number, stream

    def add(self, stream: Stream) -> None:
        """A new, running stream."""
        principal, stream_id = _key(stream)
        self._live[principal, stream_id] = stream
        self._count += 1
        owned = self._owned.setdefault(principal, Owned())
        owned.streams[stream_id] = owned.live[stream_id] = (self._count, stream)

    def add_ended(self, stream: Stream) -> None:
        """One that ended before this process began, unless its id is taken by now: kept as if it ended now."""
        if self.get(*_key(stream)) is None:
            self.add(stream)
            self.end(stream)

    def drop(self, stream: Stream) -> None:
        """Nothing of an ended stream is left: find it no more."""
        ended = self._ended.get(_key(stream))
        if ended is not None and ended.stream is stream:
            self._forget(ended)

    def drop_session(self, principal: str, session_id: str | None) -> None:
        """The ended streams of a session went with it, those of all of a principal's sessions where none is named."""
        owned = self._owned.get(principal)
        for ended in list(owned.ended.values()) if owned else ():
            its_session = ended.stream.identity.session_id
            if its_session is not None and session_id in (None, its_session):
                self._forget_unread(ended)

    def resized(self, stream: Stream) -> None:
        """An ended stream takes more than before, or less."""
        key = _key(stream)
        ended = self._ended.get(key)
        if ended is None or ended.stream is not stream:
            ended = self._outlived.get(stream)
        else:
            self._owned[key[0]].ended_bytes += stream.size_bytes - ended.size
        if ended is not None:
            self._ended_bytes += stream.size_bytes - ended.size
            ended.size = stream.size_bytes
            self.expire()

    def refuse(self, stream: Stream) -> None:
        """Forget a stream that was not accepted."""
        principal, stream_id = key = _key(stream)
        if self._live.pop(key, None) is not None:
            owned = self._owned[principal]
            del owned.streams[stream_id], owned.live[stream_id]
            self._drop_empty(principal)

    def end(self, stream: Stream) -> None:
        """The stream has ended: keep it for a while."""
        principal, stream_id = key = _key(stream)
        del self._live[key]
        owned = self._owned[principal]
        del owned.live[stream_id]
        ended = EndedStream(stream, self._clock(), stream.size_bytes)
        self._ended[key] = owned.ended[stream_id] = ended
        owned.ended_bytes += ended.size
        self._ended_bytes += ended.size
        self.expire()
        self._await_due()

    def unheld(self, stream: Stream) -> None:
        """Nobody reads the ended stream any more: if it was kept for that alone, it goes."""
        outlived = self._outlived.pop(stream, None)
        if outlived is not None:
            self._ended_bytes -= outlived.size
        elif self._ended_bytes + self._live_bytes > self._bytes_max:
            self.expire()

    def expire(self) -> None:
        """Forget what is too old or too much."""
        self._forget_old()
        if self._make_room() > 0 and self._ended_bytes:
            self._look.set(LOOK_S)

    def look_at_readers(self) -> None:
        """Make room at the cost of readers who do not read, where there is no other; a timer's, while that is so."""
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
        """Forget ended streams that nobody reads until there is room; what is still taken beyond `bytes_max`."""
        if not self._ended_bytes:
            return 0
        over = self._ended_bytes + self._count_live_bytes() - self._bytes_max
        while over > 0 and (ended := self._next_to_go()) is not None:
            over -= ended.size
            self._forget(ended)
        return over

    def _next_to_go(self) -> EndedStream | None:
        """The oldest ended stream that nobody reads, of the principal who has the most."""
        for owned in sorted(self._owned.values(), key=lambda each: -each.ended_bytes):
            for ended in owned.ended.values():
                if not ended.stream.is_held:
                    return ended
        return None

    def _cut_off(self, over: int) -> None:
        """Take streams from readers who do not read, until all together take `over` bytes less."""
        now = self._clock()
        for ended in [*self._outlived.values(), *self._ended.values()]:
            holds = ended.stream.holds
            is_late = now - ended.ended_at >= SLOW_READER_S
            # Each is asked, since each answer is compared with the one before.
            stalled = [hold for hold in holds if hold.has_stalled(now) or is_late]
            if over <= 0 or not stalled:
                continue
            for hold in stalled:
                hold.cut_off()
            if len(stalled) == len(holds):
                over -= ended.size
                self._forget(ended)

    def _count_live_bytes(self) -> int:
        """What the running streams take, as of a moment ago: with thousands ending at once, a walk over all at each end
        would stall the loop."""
        now = self._clock()
        if now >= self._recount_at:
            self._live_bytes = sum(stream.size_bytes for stream in self._live.values())
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
        """`_forget`, but count it for as long as it is read."""
        self._forget(ended)
        if ended.stream.is_held:
            self._outlived[ended.stream] = ended
            self._ended_bytes += ended.size

    def _forget(self, ended: EndedStream) -> None:
        """Find it no more, and count it no more."""
        principal, stream_id = key = _key(ended.stream)
        if self._ended.get(key) is ended:
            owned = self._owned[principal]
            del self._ended[key], owned.ended[stream_id], owned.streams[stream_id]
            owned.ended_bytes -= ended.size
            self._ended_bytes -= ended.size
            self._drop_empty(principal)
            self._on_forget(ended.stream)
        elif self._outlived.pop(ended.stream, None) is not None:
            self._ended_bytes -= ended.size

    def _drop_empty(self, principal: str) -> None:
        if not self._owned[principal].streams:
            del self._owned[principal]

    def _await_due(self) -> None:
        """Wake when the oldest is due, so that memory is given back without anybody asking."""
        if self._ended:
            due = next(iter(self._ended.values())).ended_at + self._retention_s
            self._due.set(max(1.0, due - self._clock()))

    def _on_due(self) -> None:
        self.expire()
        self._await_due()


def _key(stream: Stream) -> Key:
    return stream.identity.principal, stream.stream_id
