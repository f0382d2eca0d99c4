"""The parameters that all streams of a manager share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from archer_ws.core.limits import ADMIT_LIMIT_S
from archer_ws.sessions.streams.log import NewLog

#: The stream that the rules are for, which itself knows them.
S = TypeVar("S")


def _ignore(_: object) -> None:
    """The default of the callbacks."""


@dataclass(frozen=True, slots=True)
class StreamRules(Generic[S]):
    """How a stream's log is created, its time limits in seconds, and its callbacks."""

    #: Creates the log of a stream.
    new_log: NewLog
    #: How long a stream with `on_disconnect: continue` runs without holds; None: to its end.
    grace_s: float | None = None
    #: The time limit for storing its turn, before it is accepted.
    admit_limit_s: float = ADMIT_LIMIT_S
    #: Called once, after the last event.
    on_end: Callable[[S], None] = _ignore
    #: Called when the last hold on an ended stream is released.
    on_unheld: Callable[[S], None] = _ignore
    #: Called once if the process stops and leaves it, without an end, to a later process.
    on_left: Callable[[S], None] = _ignore
    #: Called when it begins to wait for tool results.
    on_waiting: Callable[[S], None] = _ignore
    #: Called with a task that did not stop in time.
    on_orphan: Callable[[asyncio.Task[None]], None] = _ignore
