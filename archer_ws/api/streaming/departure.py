"""Notices that a client has closed its connection while its response is prepared or sent.

Our own server reports it by a call. Under others a task must wait in `receive` for it: that is four coroutines deep,
and to cancel it takes two loop iterations, for each request.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.types import Receive, Scope

from archer_ws.api.http.scope import note_departure

#: The ASGI extension: the connection's Loss. To be used once the request's body has been read.
DEPARTURE = "archer.departure"


class Loss(Protocol):
    """Reports that a connection is lost."""

    def watch(self, tell: Callable[[], None]) -> None:
        """Call `tell` when it is lost, or at once if it is."""

    def unwatch(self, tell: Callable[[], None]) -> None:
        """Take `watch` back."""


class Departure:
    """Watches from its creation until `end`; calls `tell` once the client has left."""

    __slots__ = ("_loss", "_scope", "_task", "_tell", "has_come")

    def __init__(self, scope: Scope, receive: Receive, tell: Callable[[], None]) -> None:
        self._scope = scope
        self._tell = tell
        #: Whether the client has left.
        self.has_come = False
        self._task: asyncio.Task[None] | None = None
        self._loss: Loss | None = (scope.get("extensions") or {}).get(DEPARTURE)
        if self._loss is not None:
            self._loss.watch(self._left)
        else:
            self._task = asyncio.create_task(client_departure(receive))
            self._task.add_done_callback(lambda _: self._left())

    async def end(self) -> None:
        """Stop watching. If the task raised, the next read or write raises the same.

        It is awaited directly, which costs a third less than `gather`; so a cancel of the calling task must be told
        from the cancel made here.
        """
        if self._loss is not None:
            self._loss.unwatch(self._left)
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
