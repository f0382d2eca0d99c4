"""Work that nobody waits for, put behind what somebody does wait for."""

import asyncio
from collections.abc import Callable


def afterwards(work: Callable[[], object]) -> None:
    """Call `work` once those who were woken in this turn of the event loop have had theirs, and what they and we wrote
    has been sent.

    A line in the log takes as long as a tenth of a whole request. Transports send at the end of a turn, so the work
    begins in the turn after the next; it keeps the caller's logging context, and a loop that is about to close still
    does it.
    """
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, work)
