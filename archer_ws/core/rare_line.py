"""Log lines that clients can cause at will."""

import time

import structlog

log = structlog.get_logger(__name__)

#: The window in which a line may be written `burst` times; the next line after it says how many were left out. In
#: seconds.
LOG_INTERVAL_S = 10.0


class RareLine:
    """A log line that clients can cause at will: it is written rarely, with the number of lines left out since.

    Args:
        event: the event that is logged.
        level: the level of the line.
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
        """A new RareLine with the same arguments and no history."""
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
