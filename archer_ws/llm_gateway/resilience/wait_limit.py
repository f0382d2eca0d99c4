"""Bounds a stream's waits by a time that moves on with every chunk, at the price of one timer.

`asyncio.timeout` makes and cancels a timer for each wait: at a chunk a token, that was a sixth of all a token cost.
"""

import asyncio
from types import TracebackType

from archer_ws.core.exceptions import ProviderTimeout

#: By how much a wait is cut late, at most, that begins when its time is over already; in seconds.
LATE_BY_S = 1.0


class WaitLimit:
    """`with`: around the waits of one task; `begin` before the first, and before one that is bounded otherwise.

    A wait that lasts too long is cancelled, and leaves the block as ProviderTimeout. Time between the waits, in which
    the reader of the chunks has its turn, does not count: `is_waiting` is false meanwhile, and before the next wait
    `by` is moved on. Plain attributes, as this is done for every token.

    Attributes:
        by: when the present wait must be over (loop time); it only ever moves on, but for `begin`.
        is_waiting: whether the task waits.

    Args:
        provider: named in the error.
        whole_by: when all of them must be over (loop time), which is `whole_s` after the first began.
    """

    def __init__(self, provider: str, *, whole_by: float, whole_s: float) -> None:
        self._provider = provider
        self._whole_by = whole_by
        self._whole_s = whole_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.is_waiting = False
        self._has_struck = False
        self.by = 0.0
        self._what = ""
        self._limit_s = 0.0

    def __enter__(self) -> "WaitLimit":
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        return self

    def begin(self, by: float, what: str, limit_s: float) -> None:
        """Waits may last until `by` (loop time); `what` and `limit_s` say in the error what took too long."""
        self.by, self._what, self._limit_s = by, what, limit_s
        self.is_waiting = True
        # A timer that strikes too early sets itself anew: only one that would be late is replaced.
        if self._timer is None or min(by, self._whole_by) < self._timer.when():
            self._set_timer()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # A cancelled task keeps the frames it was cancelled in, and they keep us: what they hold, a stream's whole log
        # among it, would else wait for the garbage collector.
        task, self._task = self._task, None
        if not self._has_struck:
            return
        assert task is not None
        # Another's cancel at the same time wins, as in asyncio.timeout.
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ProviderTimeout(
                f"{self._provider} {self._what} {self._limit_s:g} s",
                hint="Try again, choose a faster model, or raise the time-outs "
                "(FIRST_TOKEN_TIMEOUT_S, IDLE_TIMEOUT_S, TOTAL_TIMEOUT_S, MODEL_LOAD_TIMEOUT_S).",
                provider=self._provider,
            ) from error

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(self.by, self._whole_by), self._strike)

    def _strike(self) -> None:
        self._timer = None
        now = self._loop.time()
        if not self.is_waiting:
            # No timer is set for the next wait alone: it is looked for again, in case its end is past when it begins.
            self._timer = self._loop.call_at(now + min(self._limit_s, LATE_BY_S), self._strike)
            return
        if now < min(self.by, self._whole_by):
            self._set_timer()
            return
        if self.by > self._whole_by:
            self._what, self._limit_s = "did not finish within", self._whole_s
        self._has_struck = True
        assert self._task is not None
        self._task.cancel()
