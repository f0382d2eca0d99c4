"""A stream's log: its numbered events, retained so that each reader can follow at its own pace or return later.

A reader has a cursor (the last seq it has seen) and reads from there on. Its watcher is called with every append: a
reader that keeps up reads and sends within that call, any other one wakes its task. events.py defines the events; the
stream decides when they are appended.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from archer_ws.sessions.storage.journal import LogPiece
from archer_ws.sessions.streams.events import CallName, Event, MakeEvent, StreamEnded, StreamToolCall, TextKind

#: The limit of one delta's text, in bytes (protocol section 7).
DELTA_BYTES_MAX = 16 * 1024
#: The limit of a log's text, in bytes (protocol section 7).
LOG_BYTES_MAX = 4 * 1024 * 1024
#: How often a log's text may change from one kind or call to another. Each change costs sixteen bytes, and a call's
#: arguments are joined from all their runs. Models that make one call after another stay far below this.
LOG_RUNS_MAX = 64 * 1024

Watcher = Callable[[], None]


class LogFull(Exception):
    """The text exceeds LOG_BYTES_MAX, or its changes of kind LOG_RUNS_MAX; what fitted is in the log."""


class StreamLog(Protocol):
    """A stream writes it, and readers pull from it. Appending and reading never block, so that a remote log would need
    a local copy.

    `StreamEnded` closes the log: events that an orphaned task appends afterwards are dropped.
    """

    @property
    def head_seq(self) -> int:
        """The newest event's number; 0 if there is none."""

    @property
    def ended(self) -> StreamEnded | None:
        """The last event, once it was appended."""

    @property
    def content_bytes(self) -> int:
        """The bytes of text so far, without reasoning and arguments."""

    @property
    def text_bytes(self) -> int:
        """The bytes of all text so far, including reasoning and arguments."""

    @property
    def size_bytes(self) -> int:
        """The approximate memory that the log takes, in bytes."""

    def append_text(self, kind: TextKind, text: bytes, call: CallName | None = None) -> None:
        """Append text (whole UTF-8 characters); for arguments, with their call. Empty text appends nothing.

        Raises:
            LogFull: it did not fit entirely, or an earlier piece did not. What is in the log is a beginning without
                gaps.
        """

    def append(self, make: MakeEvent) -> None:
        """Append the event that `make` builds for its seq: a `StreamToolCall` without its arguments, a
        `StreamToolResult` with its whole content."""

    def read(self, after: int, max_bytes: int = DELTA_BYTES_MAX) -> Event | None:
        """The next event after `after`; None if there is none. Adjacent text of one kind and call is merged into one
        delta of up to `max_bytes`."""

    def events(self) -> Iterator[Event]:
        """All events, with adjacent text of one kind and call merged, and nothing truncated. The log must not grow
        meanwhile."""

    def text(self, kind: TextKind) -> str:
        """All text of a kind in the last step."""

    def arguments(self, call_id: str) -> str:
        """The arguments of a call that have been received so far."""

    def tool_calls(self) -> list[StreamToolCall]:
        """The complete calls of the last step with their arguments, in order."""

    def pieces(self, after: int, most: int) -> list[LogPiece]:
        """The events after `after` in the form in which a journal stores them, without the end; at most `most`
        pieces."""

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` after every append, until the returned function is called. `watcher` must not block or raise.

        The returned function ends this registration at once; it may be called repeatedly, and from within a watcher.
        """


#: Creates the log of a stream.
NewLog = Callable[[], StreamLog]
