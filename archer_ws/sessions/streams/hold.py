"""A reader's hold on a stream: it keeps a running stream from being cancelled, and an ended one in memory until it was
read."""

from collections.abc import Callable
from typing import Protocol

from archer_ws.core.limits import STALLED_READER_S


class StreamReader(Protocol):
    """The reader behind a hold, as the stream and the stream table see it."""

    def stream_ended(self) -> None:
        """The stream's last event was appended. A reader that has delivered everything releases its hold now."""

    def stream_parked(self) -> None:
        """The stream is parked: this process appends nothing more, although it has not ended. Stop waiting for
        events."""

    def position(self) -> float:
        """A number that changes whenever the reader's connection accepts data."""

    def cut_off(self) -> None:
        """Break the connection at once: memory is short, and this reader does not read."""


class _NobodyYet:
    """The reader of a hold that nobody reads through yet: a request that waits for its stream to be accepted, or to
    end."""

    def stream_ended(self) -> None:
        """Nothing to do: the request waits for the end by itself."""

    def stream_parked(self) -> None:
        """Nothing to do: the request ends with the server."""

    def position(self) -> float:
        """Constant: it reads nothing."""
        return 0.0

    def cut_off(self) -> None:
        """Nothing to do: the request keeps its own reference to the stream."""


NOBODY = _NobodyYet()


class Hold:
    """One reader's hold on a stream. Release it when the reader's connection is closed, or has delivered the end.

    Args:
        give_up: called at the first release, with this hold.
    """

    __slots__ = ("_give_up", "_moved_at", "_position", "reader")

    def __init__(self, give_up: Callable[["Hold"], None]) -> None:
        self.reader: StreamReader = NOBODY
        self._give_up: Callable[[Hold], None] | None = give_up
        self._position = -1.0
        self._moved_at = 0.0

    def release(self) -> None:
        """Release the hold. A second call does nothing."""
        give_up, self._give_up, self.reader = self._give_up, None, NOBODY
        if give_up is not None:
            give_up(self)

    def has_stalled(self, now: float) -> bool:
        """Whether the reader's position has not changed for STALLED_READER_S. Positions are compared at each call only,
        so this must be called repeatedly; `now` in monotonic seconds."""
        position = self.reader.position()
        if position != self._position:
            self._position, self._moved_at = position, now
            return False
        return now - self._moved_at >= STALLED_READER_S

    def cut_off(self) -> None:
        """Release the hold, and break the reader's connection."""
        reader = self.reader
        self.release()
        reader.cut_off()
