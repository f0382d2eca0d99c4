"""Lines in the log that clients can cause at will."""

import time

import structlog

log = structlog.get_logger(__name__)

#: The window within which a line may be written so many times, once unless said otherwise; the next one behind it tells
#: how many were left out. In seconds.
LOG_INTERVAL_S = 10.0


class RareLine:
    """A line that clients can cause at will: written seldom, with the number of those that were left out.

    Args:
        event: what is logged.
        level: the log's level.
        burst: how many lines are written within `LOG_INTERVAL_S`.
    """

    def __init__(self, event: str, *, level: str = "warning", burst: int = 1) -> None:
        self._event = event
        self._level = level
        self._burst = burst
        self._written = 0
        self._left_out = 0
        self._window_ends = 0.0

    def renewed(self) -> "RareLine":
        """The same line, of which none was written yet."""
        return RareLine(self._event, level=self._level, burst=self._burst)

    def write(self, **facts: object) -> None:
        """Write the line, or count it."""
        now = time.monotonic()
        if now >= self._window_ends:
            self._window_ends, self._written = now + LOG_INTERVAL_S, 0
        elif self._written >= self._burst:
            self._left_out += 1
            return
        self._written += 1
        if self._left_out:
            facts["left_out"] = self._left_out
            self._left_out = 0
        getattr(log, self._level)(self._event, **facts)
