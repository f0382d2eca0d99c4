"""The log of an ended stream from the journal; its text is loaded while somebody reads it.

If the stream's process was lost, the log has only the beginning, up to the last write of the journal. Its end has a
number far beyond that, which no reader can have seen (lost.LOST_GAP). The last text covers the numbers up to the end. A
reader whose cursor is in between has seen text that was not stored: it gets everything again with `reset` (protocol
section 26).
"""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from archer_ws.core.limits import CONTROL_EVENT_BYTES
from archer_ws.sessions.storage.journal import LogPiece
from archer_ws.sessions.streams.events import CallName, Delta, Event, MakeEvent, StreamEnded, StreamToolCall, TextKind
from archer_ws.sessions.streams.log import DELTA_BYTES_MAX, Watcher
from archer_ws.sessions.streams.memory_log import MemoryLog


class KeptLog:
    """A log that is only read (see StreamLog).

    Args:
        ended: its last event.
    """

    def __init__(self, ended: StreamEnded) -> None:
        self._ended = ended
        self._text: MemoryLog | None = None

    @property
    def ended(self) -> StreamEnded | None:
        """The last event."""
        return self._ended

    @property
    def is_loaded(self) -> bool:
        """Whether its text is loaded."""
        return self._text is not None

    def load(self, text: MemoryLog) -> None:
        """Set its text, so that it can be read."""
        self._text = text

    def unload(self) -> None:
        """Free its text: nobody reads it."""
        self._text = None

    @property
    def head_seq(self) -> int:
        """The end's number."""
        return self._ended.seq

    @property
    def content_bytes(self) -> int:
        """The bytes of text, without reasoning and arguments."""
        return self._ended.text_bytes

    @property
    def text_bytes(self) -> int:
        """The bytes of all text; 0 while it is not loaded."""
        return self._text.text_bytes if self._text is not None else 0

    @property
    def size_bytes(self) -> int:
        """The approximate memory that the log takes, in bytes."""
        return CONTROL_EVENT_BYTES + (self._text.size_bytes if self._text is not None else 0)

    def append_text(self, kind: TextKind, text: bytes, call: CallName | None = None) -> None:
        """Does nothing: the stream has ended."""

    def append(self, make: MakeEvent) -> None:
        """Does nothing: the stream has ended."""

    def read(self, after: int, max_bytes: int = DELTA_BYTES_MAX) -> Event | None:
        """The next event after `after`; None at the end."""
        text, end = self._loaded, self._ended.seq
        kept, last = text.head_seq, end - 1
        if after >= last:
            return self._ended if after == last else None
        if after > kept:
            return self._reset(max_bytes)
        if after == kept:
            return Delta(kept + 1, last, "content", b"")
        event = text.read(after, max_bytes)
        return replace(event, seq=last) if isinstance(event, Delta) and event.seq == kept else event

    def _reset(self, max_bytes: int) -> Delta:
        """The beginning of the text, with `reset`, for a reader that has seen more than was stored."""
        text, after = self._loaded, 0
        while (event := text.read(after, max_bytes)) is not None:
            if isinstance(event, Delta):
                seq = self._ended.seq - 1 if event.seq == text.head_seq else event.seq
                return replace(event, from_seq=1, seq=seq, reset=True)
            after = event.seq
        return Delta(1, self._ended.seq - 1, "content", b"", reset=True)

    def events(self) -> Iterator[Event]:
        """All events, with adjacent text of one kind and call merged, and nothing truncated."""
        yield from self._loaded.events()
        yield self._ended

    def text(self, kind: TextKind) -> str:
        """All text of a kind in the last step."""
        return self._loaded.text(kind)

    def arguments(self, call_id: str) -> str:
        """The stored arguments of a call."""
        return self._loaded.arguments(call_id)

    def tool_calls(self) -> list[StreamToolCall]:
        """The complete calls of the last step with their arguments, in order."""
        return self._loaded.tool_calls()

    def pieces(self, after: int, most: int) -> list[LogPiece]:
        """None: the whole log is stored."""
        return []

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Does nothing: nothing is appended any more."""
        return lambda: None

    @property
    def _loaded(self) -> MemoryLog:
        assert self._text is not None, "readers await wait_admitted, which loads it"
        return self._text
