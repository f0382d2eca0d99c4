"""One timer that is set anew whenever there is something to wait for."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `strike` once after it was set; setting it while it waits changes nothing."""

    def __init__(self, strike: Callable[[], None]) -> None:
        self._strike = strike
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self, delay_s: float) -> None:
        """Strike after so long, on the running loop."""
        loop = asyncio.get_running_loop()
        # A timer of a loop that was closed meanwhile will never strike.
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_later(delay_s, self._struck)

    def cancel(self) -> None:
        """Do not strike."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _struck(self) -> None:
        self._timer = None
        self._strike()
