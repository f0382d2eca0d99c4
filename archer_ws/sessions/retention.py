"""Which streams are known: the running ones, and the ended ones for as long as their logs are kept.

An ended log stays for `retention_s`, unless all logs together pass `bytes_max`: then the oldest ended go first
(protocol section 7). Running ones are never dropped.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from archer_ws.sessions.stream import Stream

Key = tuple[str, str]

#: How old the count of the running streams' bytes may be, in seconds.
RECOUNT_S = 0.5


class StreamTable:
    """Streams by principal and id."""

    def __init__(self, *, retention_s: float, bytes_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._retention_s = retention_s
        self._bytes_max = bytes_max
        self._clock = clock
        self._live: dict[Key, Stream] = {}
        # In the order of their ends, with the moment to forget them and their log's size.
        self._ended: OrderedDict[Key, tuple[Stream, float, int]] = OrderedDict()
        self._ended_bytes = 0
        self._live_bytes = 0
        self._recount_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_loop: asyncio.AbstractEventLoop | None = None

    @property
    def live(self) -> list[Stream]:
        """The running streams."""
        return list(self._live.values())

    @property
    def live_count(self) -> int:
        """How many streams run."""
        return len(self._live)

    def get(self, principal: str, stream_id: str) -> Stream | None:
        """The stream, running or still kept."""
        self._forget_old()
        key = (principal, stream_id)
        if key in self._live:
            return self._live[key]
        kept = self._ended.get(key)
        return kept[0] if kept else None

    def of(self, principal: str) -> Iterator[Stream]:
        """The principal's streams: ended ones first, in the order of their ends."""
        self._forget_old()
        for (owner, _), (stream, _, _) in self._ended.items():
            if owner == principal:
                yield stream
        for (owner, _), stream in self._live.items():
            if owner == principal:
                yield stream

    def add(self, stream: Stream) -> None:
        """A new, running stream."""
        self._live[stream.identity.principal, stream.stream_id] = stream

    def refuse(self, stream: Stream) -> None:
        """Forget a stream that was not accepted."""
        self._live.pop((stream.identity.principal, stream.stream_id), None)

    def end(self, stream: Stream) -> None:
        """The stream has ended: keep its log for a while."""
        key = (stream.identity.principal, stream.stream_id)
        self._live.pop(key, None)
        size = stream.log.size_bytes
        self._ended[key] = (stream, self._clock() + self._retention_s, size)
        self._ended_bytes += size
        self.expire()
        self._arm()

    def expire(self) -> None:
        """Forget what is too old or too much."""
        self._forget_old()
        if not self._ended:
            return
        total = self._ended_bytes + self._count_live_bytes()
        while self._ended and total > self._bytes_max:
            total -= self._forget_oldest()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count_live_bytes(self) -> int:
        """What the running streams' logs take, as of a moment ago: with thousands ending at once, a walk over all at
        each end would stall the loop."""
        now = self._clock()
        if now >= self._recount_at:
            self._live_bytes = sum(stream.log.size_bytes for stream in self._live.values())
            self._recount_at = now + RECOUNT_S
        return self._live_bytes

    def _forget_old(self) -> None:
        now = self._clock()
        while self._ended:
            _, forget_at, _ = next(iter(self._ended.values()))
            if forget_at > now:
                break
            self._forget_oldest()

    def _forget_oldest(self) -> int:
        """Forget one, and tell its size."""
        _, (_, _, size) = self._ended.popitem(last=False)
        self._ended_bytes -= size
        return size

    def _arm(self) -> None:
        """Wake when the oldest is due, so that memory is given back without anybody asking."""
        loop = asyncio.get_running_loop()
        # A timer of a loop that was closed meanwhile will never fire.
        if self._timer is not None and not self._timer.cancelled() and self._timer_loop is loop:
            return
        if not self._ended:
            return
        _, forget_at, _ = next(iter(self._ended.values()))
        self._timer_loop = loop
        self._timer = loop.call_later(max(1.0, forget_at - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.expire()
        self._arm()
