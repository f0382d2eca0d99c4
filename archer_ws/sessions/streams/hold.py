"""A reader's claim on a stream: it keeps a running one alive, and an ended one in memory until it was read."""

from collections.abc import Callable
from typing import Protocol

from archer_ws.core.limits import STALLED_READER_S


class StreamReader(Protocol):
    """Who reads through a hold, as far as the stream and the table of streams have to know."""

    def stream_ended(self) -> None:
        """The stream's last event is written: whoever has nothing to deliver any more lets go now."""

    def stream_parked(self) -> None:
        """Nothing more comes of it in this process, and it has not ended: whoever waits for more stops waiting."""

    def position(self) -> float:
        """A number that changes whenever the reader's connection takes something."""

    def cut_off(self) -> None:
        """Let go at once, and break the connection: memory is short, and this reader does not read."""


class _NobodyYet:
    """Holds without following: a request that waits for its stream to be accepted, or to end."""

    def stream_ended(self) -> None:
        """It will look by itself."""

    def stream_parked(self) -> None:
        """It goes with the server."""

    def position(self) -> float:
        """It takes nothing."""
        return 0.0

    def cut_off(self) -> None:
        """It has the stream from the one who made the hold."""


NOBODY = _NobodyYet()


class Hold:
    """One reader's claim on a stream; release it when the reader's connection is gone, or has delivered the end.

    Args:
        give_up: called at the first release.
    """

    __slots__ = ("_give_up", "_moved_at", "_position", "reader")

    def __init__(self, give_up: Callable[["Hold"], None]) -> None:
        self.reader: StreamReader = NOBODY
        self._give_up: Callable[[Hold], None] | None = give_up
        self._position = -1.0
        self._moved_at = 0.0

    def release(self) -> None:
        """Give the claim up; a second time does nothing."""
        give_up, self._give_up, self.reader = self._give_up, None, NOBODY
        if give_up is not None:
            give_up(self)

    def has_stalled(self, now: float) -> bool:
        """Whether the reader took nothing for STALLED_READER_S, as far as the moments show at which this was asked."""
        position = self.reader.position()
        if position != self._position:
            self._position, self._moved_at = position, now
            return False
        return now - self._moved_at >= STALLED_READER_S

    def cut_off(self) -> None:
        """Take the stream from the reader."""
        reader = self.reader
        self.release()
        reader.cut_off()
