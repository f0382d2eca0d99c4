"""An event to wait for that costs next to nothing while nobody waits."""

import asyncio


class LeanEvent:
    """As asyncio.Event, but without the deque that one keeps for its waiters: with several events for each connection
    and stream, those were a tenth of what an idle connection takes."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        """Whether `wait` would return at once."""
        return self._is_set

    def set(self) -> None:
        """Let all who wait go on, and those who come until `clear`."""
        self._is_set = True
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """Let those who come wait."""
        self._is_set = False

    async def wait(self) -> None:
        """Return once it is set."""
        if self._is_set:
            return
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            # Woken, it is no longer in the list; given up, it must leave it.
            if self._waiters is not None and waiter in self._waiters:
                self._waiters.remove(waiter)
