"""Waits until a stream's turn is stored, within a time limit; a cancel ends the wait."""

import asyncio
from collections.abc import Callable

from archer_ws.core.eager_task import start_now
from archer_ws.core.exceptions import StorageUnavailable
from archer_ws.core.patience import patient_wait
from archer_ws.sessions.streams.work import Work


async def admit(
    work: Work,
    stream_id: str,
    cancelled: asyncio.Future[None],
    *,
    limit_s: float,
    on_orphan: Callable[[asyncio.Task[None]], None],
) -> None:
    """Store the turn within `limit_s` seconds, unless `cancelled` is done first.

    A cancel does not wait for the store: the turn is withdrawn, since the store may succeed later. The task that still
    runs then is passed to `on_orphan`.

    Raises:
        ArcherError: the request is refused.
    """
    admitting = start_now(work.admit(), name=f"admission {stream_id}")

    def give_up(_: object) -> None:
        if admitting.cancel():
            work.withdraw()

    try:
        if not admitting.done():
            # Not left to the wait, which ends later: what was sent behind the cancel must not be stored before.
            cancelled.add_done_callback(give_up)
            await patient_wait((admitting, cancelled), limit_s, return_when=asyncio.FIRST_COMPLETED)
        if admitting.done() and not admitting.cancelled():
            admitting.result()
        elif not cancelled.done():
            raise StorageUnavailable(
                f"the conversation store did not store the message within {limit_s:g} s",
                hint="Send the request again in a moment, or send it without session_id: then nothing is stored.",
            )
    finally:
        if not admitting.done():
            admitting.cancel()
            on_orphan(admitting)
