"""The texts of a stream's current step, and its events that are not read yet. Pure.

Adjacent pieces of text are merged, so that a slow reader costs no more memory than the text.
"""

import io
from collections import defaultdict, deque
from dataclasses import dataclass

from archer_ws.client.events import (
    ArgumentsDelta,
    CallName,
    Delta,
    Step,
    StreamEvent,
    TextOf,
    ToolCall,
    ToolResult,
    ToolUpdate,
    UnknownEvent,
)


class _Text:
    """All text of one kind, or all arguments of one call, and how many characters of it are read."""

    def __init__(self) -> None:
        self._buffer = io.StringIO()
        self._read = 0

    def append(self, text: str) -> None:
        self._buffer.seek(0, io.SEEK_END)
        self._buffer.write(text)

    def next(self, length: int) -> str:
        self._buffer.seek(self._read)
        self._read += length
        return self._buffer.read(length)

    def whole(self) -> str:
        return self._buffer.getvalue()


@dataclass
class _Piece:
    """Text that is not read yet: the next `length` characters of its kind or call."""

    kind: TextOf
    text: _Text
    length: int
    reset: bool = False


class Unread:
    """A stream's events from their arrival until they are read."""

    def __init__(self) -> None:
        self._texts: defaultdict[TextOf, _Text] = defaultdict(_Text)
        self._waiting: deque[_Piece | StreamEvent] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def text(self, kind: TextOf) -> str:
        """All text of that kind in this step, read or not."""
        return self._texts[kind].whole()

    def add(self, event: StreamEvent) -> None:
        """Add an event that is not a known kind of text."""
        self._waiting.append(event)

    def add_text(self, kind: TextOf, text: str) -> None:
        """Add a piece of text."""
        whole = self._texts[kind]
        whole.append(text)
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, _Piece) and (last.text is whole or _can_become(last, kind)):
            last.kind, last.text = kind, whole
            last.length += len(text)
        else:
            self._waiting.append(_Piece(kind, whole, len(text)))

    def begin_step(self) -> None:
        """A new step begins, with new texts."""
        self._texts = defaultdict(_Text)

    def reset(self) -> None:
        """Discard all texts, calls, results and steps: they come again."""
        self.begin_step()
        self._waiting = deque(event for event in self._waiting if not _comes_again(event))
        self._waiting.append(_Piece("content", self._texts["content"], 0, reset=True))

    def next(self) -> StreamEvent:
        """Remove and return the next event."""
        first = self._waiting.popleft()
        if not isinstance(first, _Piece):
            return first
        text = first.text.next(first.length)
        if isinstance(first.kind, CallName):
            return ArgumentsDelta(text, *first.kind)
        return Delta(**{first.kind: text}, reset=first.reset)


def _can_become(piece: _Piece, kind: TextOf) -> bool:
    """Whether a piece that is only a `reset` can carry this text, too; an ArgumentsDelta has no `reset`."""
    return piece.length == 0 and not isinstance(kind, CallName)


def _comes_again(event: _Piece | StreamEvent) -> bool:
    """Whether a reset discards this event."""
    if isinstance(event, UnknownEvent):
        return event.method == "stream/delta"
    return isinstance(event, _Piece | ToolCall | ToolUpdate | ToolResult | Step)
