"""An event to wait for, which costs almost nothing while nobody waits."""

import asyncio


class LeanEvent:
    """Like asyncio.Event, but without the deque for its waiters. With several events for each connection and stream,
    those deques were a tenth of the memory of an idle connection.
    """

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        """Whether `wait` would return at once."""
        return self._is_set

    def set(self) -> None:
        """Wake all waiters; until `clear`, `wait` returns at once."""
        self._is_set = True
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """Make later calls of `wait` wait again."""
        self._is_set = False

    async def wait(self) -> None:
        """Return once the event is set."""
        if self._is_set:
            return
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            # A waiter that was woken is no longer in the list; a cancelled one must be removed.
            if self._waiters is not None and waiter in self._waiters:
                self._waiters.remove(waiter)
