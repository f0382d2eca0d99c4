"""Limits a stream's waits by a deadline that moves with every chunk, at the cost of one timer.

`asyncio.timeout` creates and cancels a timer for each wait: with a token per chunk, that was a sixth of a token's cost.
"""

import asyncio
from types import TracebackType

from archer_ws.core.exceptions import ProviderTimeout
from archer_ws.core.standstill import stood_still

#: How late a wait may be cancelled that begins after its deadline, at most, in seconds.
LATE_BY_S = 1.0


class WaitLimit:
    """A context manager around the waits of one task. Call `begin` before the first wait, and before one with another
    limit.

    A wait that lasts too long is cancelled, and leaves the block as ProviderTimeout. Time between the waits, while the
    reader handles a chunk, does not count: `is_waiting` is false meanwhile, and `by` is moved before the next wait. A
    pushed chunk moves `by` during the wait. They are plain attributes, since this runs for every token.

    Attributes:
        by: the deadline of the present wait (loop time); it only increases, except by `begin`.
        is_waiting: whether the task waits.
        time: tells the loop's time.

    Args:
        provider: named in the error.
        whole_by: the deadline of all waits (loop time), which is `whole_s` after the first began.
    """

    def __init__(self, provider: str, *, whole_by: float, whole_s: float) -> None:
        self._provider = provider
        self._whole_by = whole_by
        self._whole_s = whole_s
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._timer: asyncio.Handle | None = None
        #: When the timer is due (loop time). It is not asked itself: uvloop's has no `when` if it was set for less than
        #: half a millisecond, as one is that struck too early by a rounding error, and sets itself again.
        self._due = 0.0
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.is_waiting = False
        self._has_struck = False
        self.by = 0.0
        self._what = ""
        self._limit_s = 0.0

    def __enter__(self) -> "WaitLimit":
        self._task = asyncio.current_task(self._loop)
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        return self

    def begin(self, by: float, what: str, limit_s: float) -> None:
        """Set the deadline `by` (loop time); `what` and `limit_s` describe it in the error."""
        self.by, self._what, self._limit_s = by, what, limit_s
        self.is_waiting = True
        # A timer that fires too early sets itself again: only one that would be late is replaced.
        due = min(by, self._whole_by)
        if self._timer is None or due < self._due:
            self._set_timer(due)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # A cancelled task keeps its frames, and they keep this object: what they refer to, such as a stream's whole
        # log, would otherwise wait for the garbage collector.
        task, self._task = self._task, None
        if not self._has_struck:
            return
        assert task is not None
        # Another cancel at the same time wins, as in asyncio.timeout.
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ProviderTimeout(
                f"{self._provider} {self._what} {self._limit_s:g} s",
                hint="Try again, choose a faster model, or raise the time-outs "
                "(FIRST_TOKEN_TIMEOUT_S, IDLE_TIMEOUT_S, TOTAL_TIMEOUT_S, MODEL_LOAD_TIMEOUT_S).",
                provider=self._provider,
            ) from error

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._strike)

    def _strike(self) -> None:
        self._timer = None
        now = self._loop.time()
        if not self.is_waiting:
            # The timer is set again although no wait is running, in case the next one begins after its deadline.
            self._set_timer(now + min(self._limit_s, LATE_BY_S))
            return
        if now < min(self.by, self._whole_by):
            self._set_timer(min(self.by, self._whole_by))
            return
        if now < self._whole_by and stood_still(self._due, now):
            # What the provider has sent meanwhile is not read yet.
            self.by = now + self._limit_s
            self._set_timer(min(self.by, self._whole_by))
            return
        if self.by > self._whole_by:
            self._what, self._limit_s = "did not finish within", self._whole_s
        self._has_struck = True
        assert self._task is not None
        self._task.cancel()
