"""Lines in the log that clients can cause at will."""

import time

import structlog

log = structlog.get_logger(__name__)

#: At most one line of a kind within so long, in seconds; the next tells how many were left out.
LOG_INTERVAL_S = 10.0


class RareLine:
    """A warning that clients can cause at will: written seldom, with the number of those that were left out."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._left_out = 0
        self._next_at = 0.0

    def write(self, **facts: object) -> None:
        """Write the line, or count it."""
        now = time.monotonic()
        if now < self._next_at:
            self._left_out += 1
            return
        if self._left_out:
            facts["left_out"] = self._left_out
        self._left_out = 0
        self._next_at = now + LOG_INTERVAL_S
        log.warning(self._event, **facts)
