"""What has come of a stream: the texts of its step, and what was not read yet. Pure.

Adjacent pieces are merged, so a slow reader costs no more memory than the text.
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
    """All text of one kind, or all arguments of one call, and how much of it was read."""

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
    """Text that has come and was not read: so many characters of its kind or call."""

    kind: TextOf
    text: _Text
    length: int
    reset: bool = False


class Unread:
    """A stream's events between their coming and their reading."""

    def __init__(self) -> None:
        self._texts: defaultdict[TextOf, _Text] = defaultdict(_Text)
        self._waiting: deque[_Piece | StreamEvent] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def text(self, kind: TextOf) -> str:
        """All text of that kind in this step, read or not."""
        return self._texts[kind].whole()

    def add(self, event: StreamEvent) -> None:
        """An event that is no known text."""
        self._waiting.append(event)

    def add_text(self, kind: TextOf, text: str) -> None:
        """A piece of text."""
        whole = self._texts[kind]
        whole.append(text)
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, _Piece) and (last.text is whole or _can_become(last, kind)):
            last.kind, last.text = kind, whole
            last.length += len(text)
        else:
            self._waiting.append(_Piece(kind, whole, len(text)))

    def begin_step(self) -> None:
        """The texts of the step before are whole."""
        self._texts = defaultdict(_Text)

    def reset(self) -> None:
        """All texts, calls, results and steps come again: discard them."""
        self.begin_step()
        self._waiting = deque(event for event in self._waiting if not _comes_again(event))
        self._waiting.append(_Piece("content", self._texts["content"], 0, reset=True))

    def next(self) -> StreamEvent:
        """What is read next."""
        first = self._waiting.popleft()
        if not isinstance(first, _Piece):
            return first
        text = first.text.next(first.length)
        if isinstance(first.kind, CallName):
            return ArgumentsDelta(text, *first.kind)
        return Delta(**{first.kind: text}, reset=first.reset)


def _can_become(piece: _Piece, kind: TextOf) -> bool:
    """Whether a piece that only says `reset` can say it with this text: arguments have no place for that."""
    return piece.length == 0 and not isinstance(kind, CallName)


def _comes_again(event: _Piece | StreamEvent) -> bool:
    """Whether a reset discards it."""
    if isinstance(event, UnknownEvent):
        return event.method == "stream/delta"
    return isinstance(event, _Piece | ToolCall | ToolUpdate | ToolResult | Step)
