"""How long to wait between attempts to connect."""

import random
from collections.abc import Callable


class Backoff:
    """Full jitter (protocol section 11): a random part of a ceiling that doubles with each failure.

    Args:
        first_s: the first ceiling, in seconds.
        cap_s: the highest ceiling, in seconds.
        chance: returns a new random number from 0 to 1 at each call.
    """

    def __init__(self, first_s: float = 0.5, cap_s: float = 20.0, chance: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._chance = chance
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """How long to wait before the next attempt, in seconds; doubles the ceiling."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(2 * ceiling_s, self._cap_s)
        return self._chance() * ceiling_s

    def reset(self) -> None:
        """Start again from the first ceiling, because a request succeeded."""
        self._ceiling_s = self._first_s
