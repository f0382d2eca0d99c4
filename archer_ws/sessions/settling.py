"""Stores answers, also where the store is slow or fails for a while: the end of a stream does not wait for that.

It owns the tasks that still try, and gives them up with a log line at the latest when SETTLE_PAUSES_S are over or the
process stops.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from archer_ws.core.exceptions import ArcherError, RequestError
from archer_ws.core.limits import SETTLE_LIMIT_S, SETTLE_PAUSES_S

log = structlog.get_logger(__name__)

Write = Callable[[], Awaitable[None]]


class Settling:
    """Every answer that is being stored."""

    def __init__(self) -> None:
        self._writing: set[asyncio.Task[None]] = set()

    async def keep(self, write: Write) -> bool:
        """Whether `write` succeeded at once, within SETTLE_LIMIT_S. Otherwise it is tried on behind this call.

        `write` may be called again after a failure, and after a success that looked like one.
        """
        first: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        writing = asyncio.create_task(self._write(write, first), name="answer")
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.wait((first,), timeout=SETTLE_LIMIT_S)
        if not first.done():
            log.warning("answer_not_stored_yet", cause=f"the store takes longer than {SETTLE_LIMIT_S:g} s")
            first.set_result(False)
        return first.result()

    async def aclose(self, limit_s: float = SETTLE_LIMIT_S) -> None:
        """Wait for the answers that are still being stored, and give up what is left after `limit_s`."""
        if self._writing:
            _, late = await asyncio.wait(self._writing, timeout=limit_s)
            for writing in late:
                writing.cancel()
            if late:
                await asyncio.wait(late, timeout=limit_s)

    async def _write(self, write: Write, first: "asyncio.Future[bool]") -> None:
        try:
            for pause in SETTLE_PAUSES_S:
                failure = await _try(write)
                if failure is None:
                    if not _tell(first, success=True):
                        log.info("answer_stored_late")
                    return
                _tell(first, success=False)
                if isinstance(failure, RequestError):
                    break  # The session is gone: nothing mends that.
                log.warning("answer_not_stored_yet", cause=str(failure), next_try_s=pause)
                await asyncio.sleep(pause)
            else:
                failure = await _try(write)
            if failure is not None:
                log.error("answer_not_stored", cause=str(failure))
        except asyncio.CancelledError:
            log.error("answer_not_stored", cause="the server stopped first")  # noqa: TRY400 - a traceback tells nothing
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
