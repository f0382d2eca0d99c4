"""The wait for a stream's turn to be stored: bounded in time, and ended by a cancel."""

import asyncio
from collections.abc import Callable

from archer_ws.core.eager_task import start_now
from archer_ws.core.exceptions import StorageUnavailable
from archer_ws.sessions.streams.work import Work


async def admit(
    work: Work,
    stream_id: str,
    cancelled: asyncio.Future[None],
    *,
    limit_s: float,
    on_orphan: Callable[[asyncio.Task[None]], None],
) -> None:
    """Have the turn stored within `limit_s`, unless `cancelled` comes first.

    A cancel does not wait for the store: what the store still makes of the turn is a question without an answer. The
    task that is left then goes to `on_orphan`.

    Raises:
        ArcherError: the request is refused.
    """
    admitting = start_now(work.admit(), name=f"admission {stream_id}")
    try:
        if not admitting.done():
            await asyncio.wait((admitting, cancelled), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if admitting.done():
            admitting.result()
        elif not cancelled.done():
            raise StorageUnavailable(
                f"the conversation's store did not take the message within {limit_s:g} s",
                hint="Send it again in a moment, or without session_id: then nothing is stored.",
            )
    finally:
        if not admitting.done():
            admitting.cancel()
            on_orphan(admitting)
