"""Stores what streams generated, and retries in the background while the store is slow or fails, so that the end of a
stream need not wait for it.

It owns the tasks that retry. A task gives up, and logs that, after its last attempt or when the process stops.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from archer_ws.core.exceptions import ArcherError, RequestError
from archer_ws.core.limits import Limits
from archer_ws.core.patience import patient_wait

log = structlog.get_logger(__name__)

Write = Callable[[], Awaitable[None]]


class Settling:
    """All completions that are being stored.

    Args:
        limits: how long a stream's end may wait for the store, and the pauses between the attempts.
    """

    def __init__(self, limits: Limits) -> None:
        self._limit_s = limits.settle_limit_s
        self._pauses_s = limits.settle_pauses_s
        self._writing: set[asyncio.Task[None]] = set()

    async def keep(self, write: Write) -> bool:
        """Run `write`, and return whether it succeeded at the first attempt and within the limit. If not, a task
        retries.

        `write` must be idempotent: it may be called again although it succeeded, if the store reported a failure.
        """
        first: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        writing = asyncio.create_task(self._write(write, first), name="completion")
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await patient_wait((first,), self._limit_s)
        if not first.done():
            log.warning("completion_not_stored_yet", cause=f"the store takes longer than {self._limit_s:g} s")
            first.set_result(False)
        return first.result()

    async def aclose(self) -> None:
        """Wait until the pending completions are stored; cancel what is left after the limit."""
        if self._writing:
            _, late = await asyncio.wait(self._writing, timeout=self._limit_s)
            for writing in late:
                writing.cancel()
            if late:
                await asyncio.wait(late, timeout=self._limit_s)

    async def _write(self, write: Write, first: "asyncio.Future[bool]") -> None:
        try:
            for pause in self._pauses_s:
                failure = await _try(write)
                if failure is None:
                    if not _tell(first, success=True):
                        log.info("completion_stored_late")
                    return
                _tell(first, success=False)
                if isinstance(failure, RequestError):
                    break  # The session is gone: no retry can succeed.
                log.warning("completion_not_stored_yet", cause=str(failure), next_try_s=pause)
                await asyncio.sleep(pause)
            else:
                failure = await _try(write)
            if failure is not None:
                log.error("completion_not_stored", cause=str(failure))
        except asyncio.CancelledError:
            log.error("completion_not_stored", cause="the server stopped first")  # noqa: TRY400 - a traceback adds nothing
            raise


async def _try(write: Write) -> ArcherError | None:
    try:
        await write()
    except ArcherError as failure:
        return failure
    return None


def _tell(first: "asyncio.Future[bool]", *, success: bool) -> bool:
    """Report the result of the first attempt; whether the caller still waited for it."""
    if first.done():
        return False
    first.set_result(success)
    return True
