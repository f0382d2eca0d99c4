"""How long to wait before connecting again."""

import random
from collections.abc import Callable


class Backoff:
    """Full jitter (protocol section 11): a random part of a ceiling that doubles with each failure.

    Args:
        first_s: the first ceiling, in seconds.
        cap_s: the highest ceiling, in seconds.
        chance: a number from 0 to 1, anew each time.
    """

    def __init__(self, first_s: float = 0.5, cap_s: float = 20.0, chance: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._chance = chance
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """How long to wait now, in seconds."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(2 * ceiling_s, self._cap_s)
        return self._chance() * ceiling_s

    def reset(self) -> None:
        """Begin from the first ceiling: a request succeeded."""
        self._ceiling_s = self._first_s
