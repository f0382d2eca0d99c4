"""What all streams of a manager have in common: made once, and handed to each."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from archer_ws.core.limits import ADMIT_LIMIT_S
from archer_ws.sessions.streams.log import NewLog

#: The stream that the rules are for, which itself knows them.
S = TypeVar("S")


def _ignore(_: object) -> None:
    """For who need not be told."""


@dataclass(frozen=True, slots=True)
class StreamRules(Generic[S]):
    """Where a stream's log comes from, how long its waits are, and who is told what; times in seconds."""

    #: Makes a stream's log.
    new_log: NewLog
    #: How long one runs without holders when it goes on after a disconnect; None is to its end.
    grace_s: float | None = None
    #: How long storing its turn may hold back its acceptance.
    admit_limit_s: float = ADMIT_LIMIT_S
    #: Called once, after the last event.
    on_end: Callable[[S], None] = _ignore
    #: Called when the last holder of an ended stream is gone.
    on_unheld: Callable[[S], None] = _ignore
    #: Called once where the process stops and it has no end, for a later process to go on with it.
    on_left: Callable[[S], None] = _ignore
    #: Called when it waits for results.
    on_waiting: Callable[[S], None] = _ignore
    #: Given a task that did not stop in time.
    on_orphan: Callable[[asyncio.Task[None]], None] = _ignore
