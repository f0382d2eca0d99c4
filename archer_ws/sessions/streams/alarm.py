"""A timer that can be set again and again."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `strike` once after it was set. Setting it while it is pending changes nothing."""

    def __init__(self, strike: Callable[[], None]) -> None:
        self._strike = strike
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_pending(self) -> bool:
        """Whether `set` would change nothing."""
        # A timer of an event loop that was closed will never fire.
        return self._timer is not None and self._loop is asyncio.get_running_loop()

    def set(self, delay_s: float) -> None:
        """Call `strike` after `delay_s` seconds, on the running event loop."""
        if not self.is_pending:
            self._loop = asyncio.get_running_loop()
            self._timer = self._loop.call_later(delay_s, self._struck)

    def cancel(self) -> None:
        """Cancel the pending call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _struck(self) -> None:
        self._timer = None
        self._strike()
