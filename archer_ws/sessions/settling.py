"""Stores answers, also where the store is slow or fails for a while: the end of a stream does not wait for that.

It owns the tasks that still try, and gives them up with a log line at the latest when all pauses are over or the
process stops.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from archer_ws.core.exceptions import ArcherError, RequestError
from archer_ws.core.limits import Limits

log = structlog.get_logger(__name__)

Write = Callable[[], Awaitable[None]]


class Settling:
    """Every answer that is being stored.

    Args:
        limits: how long storing one may hold back a stream's end, and the pauses between the attempts.
    """

    def __init__(self, limits: Limits) -> None:
        self._limit_s = limits.settle_limit_s
        self._pauses_s = limits.settle_pauses_s
        self._writing: set[asyncio.Task[None]] = set()

    async def keep(self, write: Write) -> bool:
        """Whether `write` succeeded at once, within the limit. Otherwise it is tried on behind this call.

        `write` may be called again after a failure, and after a success that looked like one.
        """
        first: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        writing = asyncio.create_task(self._write(write, first), name="answer")
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.wait((first,), timeout=self._limit_s)
        if not first.done():
            log.warning("completion_not_stored_yet", cause=f"the store takes longer than {self._limit_s:g} s")
            first.set_result(False)
        return first.result()

    async def aclose(self) -> None:
        """Wait for the answers that are still being stored, and give up what is left after the limit."""
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
                    break  # The session is gone: nothing mends that.
                log.warning("completion_not_stored_yet", cause=str(failure), next_try_s=pause)
                await asyncio.sleep(pause)
            else:
                failure = await _try(write)
            if failure is not None:
                log.error("completion_not_stored", cause=str(failure))
        except asyncio.CancelledError:
            log.error("completion_not_stored", cause="the server stopped first")  # noqa: TRY400 - a traceback tells nothing
            raise


async def _try(write: Write) -> ArcherError | None:
    try:
        await write()
    except ArcherError as failure:
        return failure
    return None


def _tell(first: "asyncio.Future[bool]", *, success: bool) -> bool:
    """Say how the first attempt went; whether somebody still waited for that."""
    if first.done():
        return False
    first.set_result(success)
    return True
