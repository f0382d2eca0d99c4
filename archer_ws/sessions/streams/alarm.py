"""A timer that can be set again and again."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `strike` once after it was set. Setting it while it is pending changes nothing."""

    def __init__(self, strike: Callable[[], None]) -> None:
        self._strike = strike
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self, delay_s: float) -> None:
        """Call `strike` after `delay_s` seconds, on the running event loop."""
        loop = asyncio.get_running_loop()
        # A timer of an event loop that was closed will never fire.
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_later(delay_s, self._struck)

    def cancel(self) -> None:
        """Cancel the pending call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _struck(self) -> None:
        self._timer = None
        self._strike()
