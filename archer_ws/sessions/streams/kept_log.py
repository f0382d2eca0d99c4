"""The log of a stream that a journal kept: it has ended, and its text is there for as long as somebody reads it.

Of a stream whose process was lost it has a beginning alone. Its end stands far behind that, at a number that nobody can
have seen: the last text takes the numbers up to it, and who has seen more text than was kept, whose number lies between
the two, gets all anew with `reset` (protocol section 26).
"""

from collections.abc import Callable, Iterator

from archer_ws.core.limits import CONTROL_EVENT_BYTES
from archer_ws.sessions.storage.journal import LogPiece
from archer_ws.sessions.streams.events import CallName, Delta, Event, MakeEvent, StreamEnded, StreamToolCall, TextKind
from archer_ws.sessions.streams.log import DELTA_BYTES_MAX, Watcher
from archer_ws.sessions.streams.memory_log import MemoryLog


class KeptLog:
    """A log to read from (see StreamLog).

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
        """Whether it can be read."""
        return self._text is not None

    def load(self, text: MemoryLog) -> None:
        """From now on it can be read."""
        self._text = text

    def unload(self) -> None:
        """Nobody reads it."""
        self._text = None

    @property
    def head_seq(self) -> int:
        """The end's number."""
        return self._ended.seq

    @property
    def content_bytes(self) -> int:
        """The size of the answer, reasoning and arguments apart."""
        return self._ended.text_bytes

    @property
    def text_bytes(self) -> int:
        """The size of all text, as far as it is loaded."""
        return self._text.text_bytes if self._text is not None else 0

    @property
    def size_bytes(self) -> int:
        """What the log costs in memory, about."""
        return CONTROL_EVENT_BYTES + (self._text.size_bytes if self._text is not None else 0)

    def append_text(self, kind: TextKind, text: bytes, call: CallName | None = None) -> None:
        """It has ended: nothing comes any more."""

    def append(self, make: MakeEvent) -> None:
        """It has ended: nothing comes any more."""

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
        return event._replace(seq=last) if isinstance(event, Delta) and event.seq == kept else event

    def _reset(self, max_bytes: int) -> Delta:
        """The beginning of the text, for who has seen more of it than was kept; whatever came before it was seen."""
        text, after = self._loaded, 0
        while (event := text.read(after, max_bytes)) is not None:
            if isinstance(event, Delta):
                seq = self._ended.seq - 1 if event.seq == text.head_seq else event.seq
                return event._replace(from_seq=1, seq=seq, reset=True)
            after = event.seq
        return Delta(1, self._ended.seq - 1, "content", b"", reset=True)

    def events(self) -> Iterator[Event]:
        """All of it, the text of one kind and call as one, nothing cut."""
        yield from self._loaded.events()
        yield self._ended

    def text(self, kind: TextKind) -> str:
        """All text of that kind in the last step."""
        return self._loaded.text(kind)

    def arguments(self, call_id: str) -> str:
        """The arguments of a call as far as they were kept."""
        return self._loaded.arguments(call_id)

    def tool_calls(self) -> list[StreamToolCall]:
        """The last step's calls that are complete, with their arguments, in order."""
        return self._loaded.tool_calls()

    def pieces(self, after: int, most: int) -> list[LogPiece]:
        """All of it is kept."""
        return []

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Nothing comes any more."""
        return lambda: None

    @property
    def _loaded(self) -> MemoryLog:
        assert self._text is not None, "it is read by who has waited for its stream to be accepted"
        return self._text
