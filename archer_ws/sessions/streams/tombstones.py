"""Remembers cancels that arrived before their request: such a request is cancelled at once (protocol section 6).

So is a stream of an earlier process that is loaded after its cancel.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

TOMBSTONE_S = 10.0
TOMBSTONES_PER_PRINCIPAL = 1024


class Tombstones:
    """The ids of cancelled but unknown streams, for TOMBSTONE_S seconds and at most TOMBSTONES_PER_PRINCIPAL each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: What the clock showed when the time stopped; None while it runs. And for how long it has stood still before.
        self._stopped_at: float | None = None
        self._stood_still_s = 0.0
        self._by_principal: dict[str, OrderedDict[str, float]] = {}

    def add(self, principal: str, stream_id: str) -> None:
        """Remember an id; it replaces the oldest if there are too many."""
        mine = self._by_principal.setdefault(principal, OrderedDict())
        mine[stream_id] = self._now() + TOMBSTONE_S
        mine.move_to_end(stream_id)
        self._prune(mine)

    def take(self, principal: str, stream_id: str) -> bool:
        """Whether the id is remembered. Forgets it."""
        mine = self._by_principal.get(principal)
        if mine is None:
            return False
        self._prune(mine)
        found = mine.pop(stream_id, None) is not None
        if not mine:
            del self._by_principal[principal]
        return found

    def stop_time(self) -> None:
        """Let the time stand still: the streams of an earlier process are not known yet, however long that takes."""
        if self._stopped_at is None:
            self._stopped_at = self._clock()

    def go_on(self) -> None:
        """Let the time go on. Harmless to repeat."""
        if self._stopped_at is not None:
            self._stood_still_s += self._clock() - self._stopped_at
            self._stopped_at = None

    def _now(self) -> float:
        return (self._clock() if self._stopped_at is None else self._stopped_at) - self._stood_still_s

    def _prune(self, mine: OrderedDict[str, float]) -> None:
        now = self._now()
        while mine and (len(mine) > TOMBSTONES_PER_PRINCIPAL or next(iter(mine.values())) <= now):
            mine.popitem(last=False)
