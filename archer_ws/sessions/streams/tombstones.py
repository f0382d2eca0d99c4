"""Remembers cancels that arrived before their request: such a request is cancelled at once (protocol section 6)."""

import time
from collections import OrderedDict
from collections.abc import Callable

TOMBSTONE_S = 10.0
TOMBSTONES_PER_PRINCIPAL = 1024


class Tombstones:
    """The ids of cancelled but unknown streams, for TOMBSTONE_S seconds and at most TOMBSTONES_PER_PRINCIPAL each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_principal: dict[str, OrderedDict[str, float]] = {}

    def add(self, principal: str, stream_id: str) -> None:
        """Remember an id; it replaces the oldest if there are too many."""
        mine = self._by_principal.setdefault(principal, OrderedDict())
        mine[stream_id] = self._clock() + TOMBSTONE_S
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

    def _prune(self, mine: OrderedDict[str, float]) -> None:
        now = self._clock()
        while mine and (len(mine) > TOMBSTONES_PER_PRINCIPAL or next(iter(mine.values())) <= now):
            mine.popitem(last=False)
