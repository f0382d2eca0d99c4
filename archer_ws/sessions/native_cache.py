"""Caches the native turns of callers without a session (protocol section 24).

A native turn is a completion in its provider's own form, which the provider must see again in a tool loop. A caller
without a session sends the whole conversation with each request; the ids of its calls, which this server made, are the
keys under which the native turns are found. After a restart, or once a turn has expired, the conversation goes on
without the old reasoning.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archer_ws.core.limits import NATIVE_CACHE_BYTES, NATIVE_CACHE_S
from archer_ws.llm_gateway.native_replay import calling_in_loop
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.types import ChatMessage

_Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    principal: str
    turn: NativeTurn
    size: int
    until_s: float

    @property
    def places(self) -> list[_Key]:
        """Its keys: one for each of its calls."""
        return [(self.principal, self.turn.provider, self.turn.model, call_id) for call_id in self.turn.kept.call_ids]


class NativeTurnCache:
    """The latest native turns, by principal, provider, model and call id.

    When it is full, the principal that uses the most memory loses its least recently used turn, so that no principal
    can evict another's.

    Args:
        bytes_max: the limit of all turns together, in bytes. The overhead of each turn counts, which limits their
            number.
        ttl_s: how long a turn is cached after its last use, in seconds.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        *,
        bytes_max: int = NATIVE_CACHE_BYTES,
        ttl_s: float = NATIVE_CACHE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._clock = clock
        self._by_key: dict[_Key, _Kept] = {}
        #: In order of use, the least recent first: of all principals, and of each one. The key is the id() of the
        #: value.
        self._all: OrderedDict[int, _Kept] = OrderedDict()
        self._by_principal: dict[str, OrderedDict[int, _Kept]] = {}
        self._sizes: Counter[str] = Counter()
        self._size = 0

    @property
    def size(self) -> int:
        """The size of all cached turns, in bytes."""
        return self._size

    def put(self, principal: str, turn: NativeTurn) -> None:
        """Cache a turn. It replaces the turns that have one of its calls."""
        self._expire()
        kept = _Kept(principal, turn, turn.size, self._clock() + self._ttl_s)
        for key in kept.places:
            if key in self._by_key:
                self._forget(self._by_key[key])
        if kept.size > self._bytes_max:
            return
        self._add(kept)
        while self.size > self._bytes_max:
            largest = max(self._sizes, key=lambda each: self._sizes[each])
            self._forget(next(iter(self._by_principal[largest].values())))

    def of_loop(
        self, principal: str, provider: str, model: str, messages: Sequence[ChatMessage]
    ) -> dict[str, NativeTurn]:
        """The cached native turns of a conversation's current tool loop, by call id. Counts as a use of each."""
        if not self._by_key:
            return {}
        self._expire()
        found: dict[str, NativeTurn] = {}
        for place in calling_in_loop(messages):
            for call in messages[place].tool_calls or ():
                kept = self._by_key.get((principal, provider, model, call.call_id))
                if kept is not None and call.call_id not in found:
                    found |= dict.fromkeys(kept.turn.kept.call_ids, kept.turn)
                    self._forget(kept)
                    self._add(_Kept(principal, kept.turn, kept.size, self._clock() + self._ttl_s))
        return found

    def _add(self, kept: _Kept) -> None:
        self._all[id(kept)] = kept
        self._by_principal.setdefault(kept.principal, OrderedDict())[id(kept)] = kept
        self._by_key.update(dict.fromkeys(kept.places, kept))
        self._sizes[kept.principal] += kept.size
        self._size += kept.size

    def _forget(self, kept: _Kept) -> None:
        del self._all[id(kept)]
        mine = self._by_principal[kept.principal]
        del mine[id(kept)]
        self._sizes[kept.principal] -= kept.size
        self._size -= kept.size
        if not mine:
            del self._by_principal[kept.principal], self._sizes[kept.principal]
        for key in kept.places:
            del self._by_key[key]

    def _expire(self) -> None:
        """Remove expired turns. All have the same lifetime, so the expired ones come first."""
        now = self._clock()
        while self._all and (kept := next(iter(self._all.values()))).until_s <= now:
            self._forget(kept)
