"""A stream's log: its numbered events, kept so that any reader can follow at its own pace or come back later.

Readers hold a cursor (the last seq they have seen) and pull; a watcher is only told that there is more. What events
there are stands in events.py; what they mean, and when they are appended, is the stream's business.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from archer_ws.sessions.storage.journal import LogPiece
from archer_ws.sessions.streams.events import CallName, Event, MakeEvent, StreamEnded, StreamToolCall, TextKind

#: The most text one delta carries, in bytes (protocol section 7).
DELTA_BYTES_MAX = 16 * 1024
#: The most text a log holds, in bytes (protocol section 7).
LOG_BYTES_MAX = 4 * 1024 * 1024
#: How often a log's text may turn from one kind or call to another: a turn takes as much memory as its sixteen bytes of
#: text, and a call is put together from all of its stretches. Models make one call after another.
LOG_RUNS_MAX = 64 * 1024

Watcher = Callable[[], None]


class LogFull(Exception):
    """The text passed LOG_BYTES_MAX, or its turns LOG_RUNS_MAX; what fitted was kept."""


class StreamLog(Protocol):
    """What a stream writes and its readers pull. Appending and reading never wait: a remote log mirrors itself.

    `StreamEnded` closes it: what a reader that would not stop still says afterwards is dropped.
    """

    @property
    def head_seq(self) -> int:
        """The newest event's number; 0 while there is none."""

    @property
    def ended(self) -> StreamEnded | None:
        """The last event, once it is written."""

    @property
    def content_bytes(self) -> int:
        """The size of the answer so far, reasoning and arguments apart."""

    @property
    def text_bytes(self) -> int:
        """The size of all text so far, reasoning and arguments included."""

    @property
    def size_bytes(self) -> int:
        """What the log costs in memory, about."""

    def append_text(self, kind: TextKind, text: bytes, call: CallName | None = None) -> None:
        """Add text (whole UTF-8 characters), with its call where it is arguments; empty text adds nothing.

        Raises:
            LogFull: not all of it fitted, or an earlier piece did not: what is kept is a beginning, without gaps.
        """

    def append(self, make: MakeEvent) -> None:
        """Add the event that `make` builds for its seq; a `StreamToolCall` without its arguments, a `StreamToolResult`
        with all of its content."""

    def read(self, after: int, max_bytes: int = DELTA_BYTES_MAX) -> Event | None:
        """The next event after `after`, adjacent text of one kind and call merged up to `max_bytes`; None at the
        head."""

    def events(self) -> Iterator[Event]:
        """All of it, the text of one kind and call as one, nothing cut; it may not grow meanwhile."""

    def text(self, kind: TextKind) -> str:
        """All text of that kind in the last step."""

    def arguments(self, call_id: str) -> str:
        """The arguments of a call as far as they have come."""

    def tool_calls(self) -> list[StreamToolCall]:
        """The last step's calls that are complete, with their arguments, in order."""

    def pieces(self, after: int, most: int) -> list[LogPiece]:
        """What came after `after`, as a journal keeps it, without the end; the first `most` pieces."""

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` after every append (it must not block or raise), until the returned function is called.

        That ends this one registration, at once and harmlessly if repeated, even from within a watcher.
        """


#: Gives each stream a log of its own.
NewLog = Callable[[], StreamLog]
