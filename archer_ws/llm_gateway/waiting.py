"""Bounds a stream's waits by a time that moves on with every chunk, at the price of one timer.

`asyncio.timeout` makes and cancels a timer for each wait: at a chunk a token, that was a sixth of all a token cost.
"""

import asyncio
from types import TracebackType

from archer_ws.core.exceptions import ProviderTimeout


class WaitLimit:
    """`with`: around the waits of one task; `begin` before each of them, `end` behind it.

    A wait that lasts too long is cancelled, and leaves the block as ProviderTimeout. Time between the waits, in which
    the reader of the chunks has its turn, does not count.

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
        self._is_waiting = False
        self._has_struck = False
        self._by = 0.0
        self._what = ""
        self._limit_s = 0.0

    def __enter__(self) -> "WaitLimit":
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        return self

    def begin(self, by: float, what: str, limit_s: float) -> None:
        """The next wait may last until `by` (loop time); `what` and `limit_s` say in the error what took too long."""
        if by > self._whole_by:
            by, what, limit_s = self._whole_by, "did not finish within", self._whole_s
        self._by, self._what, self._limit_s = by, what, limit_s
        self._is_waiting = True
        # A timer that strikes too early sets itself anew: only one that would be late is replaced.
        if self._timer is None or by < self._timer.when():
            self._set_timer()

    def end(self) -> None:
        """The wait is over."""
        self._is_waiting = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._has_struck:
            return
        assert self._task is not None
        # Another's cancel at the same time wins, as in asyncio.timeout.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ProviderTimeout(
                f"{self._provider} {self._what} {self._limit_s:g} s",
                hint="Try again, choose a faster model, or raise the time-outs "
                "(FIRST_TOKEN_TIMEOUT_S, IDLE_TIMEOUT_S, TOTAL_TIMEOUT_S, MODEL_LOAD_TIMEOUT_S).",
                provider=self._provider,
            ) from error

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._by, self._strike)

    def _strike(self) -> None:
        self._timer = None
        if not self._is_waiting:
            return  # the next wait sets it anew
        if self._loop.time() < self._by:
            self._set_timer()
            return
        self._has_struck = True
        assert self._task is not None
        self._task.cancel()
