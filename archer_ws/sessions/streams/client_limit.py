"""A time limit for what a client does."""

import asyncio
from collections.abc import Callable

from archer_ws.core.standstill import stood_still


class ClientLimit:
    """Calls `strike` after `seconds`, unless it is cancelled. If this process stood still meanwhile, the limit begins
    anew: what the client has sent is not read yet."""

    __slots__ = ("_due", "_loop", "_seconds", "_strike", "_timer")

    def __init__(self, seconds: float, strike: Callable[[], None]) -> None:
        self._seconds = seconds
        self._strike = strike
        self._loop = asyncio.get_running_loop()
        self._begin()

    def cancel(self) -> None:
        """Cancel the pending call."""
        self._timer.cancel()

    def _begin(self) -> None:
        self._due = self._loop.time() + self._seconds
        self._timer = self._loop.call_at(self._due, self._run_out)

    def _run_out(self) -> None:
        if stood_still(self._due, self._loop.time()):
            self._begin()
        else:
            self._strike()
