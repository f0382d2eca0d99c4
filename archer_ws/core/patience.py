"""Time limits that begin anew if this process stood still meanwhile: what was waited for may be there, unread."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

from archer_ws.core.standstill import stood_still


class PatientTimer:
    """Calls `strike` after `seconds`, unless it is cancelled."""

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


@asynccontextmanager
async def patient_timeout(limit_s: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`.

    Raises:
        TimeoutError: the block took longer.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = PatientTimer(limit_s, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()


async def patient_wait(
    awaited: Collection[asyncio.Future[Any]], limit_s: float, *, return_when: str = asyncio.ALL_COMPLETED
) -> None:
    """As `asyncio.wait`; returns when they are done or the limit is over."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + limit_s
        done, rest = await asyncio.wait(awaited, timeout=limit_s, return_when=return_when)
        is_over = not rest or (done and return_when == asyncio.FIRST_COMPLETED)
        if is_over or not stood_still(due, loop.time()):
            return
