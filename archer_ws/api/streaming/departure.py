"""Notices that a client has closed its connection while its response is prepared or sent.

Our own server reports it by a call. Under others a task must wait in `receive` for it: that is four coroutines deep,
and to cancel it takes two loop iterations, for each request.
"""

import asyncio
from collections.abc import Callable

from starlette.types import Receive, Scope

from archer_ws.api.http.scope import note_departure

#: The ASGI extension: a function that is given what to call when the connection is lost, and returns what takes that
#: back. To be used once the request's body has been read.
DEPARTURE = "archer.departure"


class Departure:
    """Watches from its creation until `end`; calls `tell` once the client has left."""

    __slots__ = ("_scope", "_stop", "_task", "_tell", "has_come")

    def __init__(self, scope: Scope, receive: Receive, tell: Callable[[], None]) -> None:
        self._scope = scope
        self._tell = tell
        #: Whether the client has left.
        self.has_come = False
        self._task: asyncio.Task[None] | None = None
        self._stop: Callable[[], None] | None = None
        watch: Callable[[Callable[[], None]], Callable[[], None]] | None
        watch = (scope.get("extensions") or {}).get(DEPARTURE)
        if watch is not None:
            self._stop = watch(self._left)
        else:
            self._task = asyncio.create_task(client_departure(receive))
            self._task.add_done_callback(lambda _: self._left())

    async def end(self) -> None:
        """Stop watching. If the task raised, the next read or write raises the same.

        It is awaited directly, which costs a third less than `gather`; so a cancel of the calling task must be told
        from the cancel made here.
        """
        if self._stop is not None:
            self._stop()
        if self._task is None:
            return
        owner = asyncio.current_task()
        cancels = owner.cancelling() if owner else 0
        self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            if owner and owner.cancelling() > cancels:
                raise
        except Exception:  # noqa: BLE001 - a failure of the connection, which the next send raises as well
            pass

    def _left(self) -> None:
        if not self.has_come:
            self.has_come = True
            if self._task is None:
                note_departure(self._scope)
            self._tell()


async def client_departure(receive: Receive) -> None:
    """Return when the client has closed its connection; the request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
