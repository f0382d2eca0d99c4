"""Native turns of callers without a session, for a while (protocol section 24).

They send the whole conversation each time and get the ids of their calls from us: by them their answers are found
again. After a restart, or when it is over, they go on without old reasoning.
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
        """What it is found by."""
        return [(self.principal, self.turn.provider, self.turn.model, call_id) for call_id in self.turn.kept.call_ids]


class NativeTurnCache:
    """The last native turns, found by principal, provider, model and call.

    Where it is full, the principal that takes most loses what it has not used for the longest time: so nobody can push
    out what others keep.

    Args:
        bytes_max: what all take together, with what each costs beside its text: so their number is bounded, too.
        ttl_s: how long one is kept behind its last use, in seconds.
        clock: monotonic seconds.
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
        #: Least recently used first, of all principals and of each; by identity.
        self._all: OrderedDict[int, _Kept] = OrderedDict()
        self._by_principal: dict[str, OrderedDict[int, _Kept]] = {}
        self._sizes: Counter[str] = Counter()
        self._size = 0

    @property
    def size(self) -> int:
        """What all take, in bytes."""
        return self._size

    def put(self, principal: str, turn: NativeTurn) -> None:
        """Keep a turn."""
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
        """What is kept of the answers of a conversation's current tool loop, by the id of each call."""
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
        """Forget what is over; all are kept equally long, so that those stand first."""
        now = self._clock()
        while self._all and (kept := next(iter(self._all.values()))).until_s <= now:
            self._forget(kept)
