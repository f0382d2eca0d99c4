"""A stream's log in memory.

It costs the text plus four bytes an event: one UTF-8 buffer with the end offset of each event; twelve bytes for each
change of kind (sixteen for arguments of a call); and about CONTROL_EVENT_BYTES for each event that is not text, plus
the texts within it.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import lt
from sys import getsizeof
from typing import TypeVar

from archer_ws.core.limits import CONTROL_EVENT_BYTES, FIELD_ERROR_BYTES, MESSAGE_ID_BYTES, RESULT_TOLD_BYTES
from archer_ws.llm_gateway.content import shortened
from archer_ws.sessions.storage.journal import LogPiece
from archer_ws.sessions.streams.events import (
    CallName,
    ControlEvent,
    Delta,
    Event,
    MakeEvent,
    SteeredMessage,
    StreamEnded,
    StreamStep,
    StreamToolCall,
    StreamToolResult,
    TextKind,
)
from archer_ws.sessions.streams.log import DELTA_BYTES_MAX, LOG_BYTES_MAX, LOG_RUNS_MAX, LogFull, Watcher
from archer_ws.sessions.streams.memory_of import message_memory
from archer_ws.sessions.streams.pieces import event_in, event_piece, kind_name, kind_named, whole
from archer_ws.sessions.streams.scalars import boundary

SomeEvent = TypeVar("SomeEvent", bound=ControlEvent)

#: The bytes that no character begins with in UTF-8.
_INNER_BYTES = bytes(range(0x80, 0xC0))


class MemoryLog:
    """A log in memory (see StreamLog)."""

    def __init__(self) -> None:
        #: The newest event's number; 0 if there is none. Not a property: it is read for every token.
        self.head_seq = 0
        self._text = bytearray()
        #: _ends[seq - 1]: the offset in the buffer where event seq's text ends; LOG_BYTES_MAX fits 32 bits.
        self._ends = array("I")
        self._control: dict[int, ControlEvent] = {}
        # A run is a sequence of text events of one kind, or of arguments of one call. A control event is a run of its
        # own, of kind None.
        self._run_starts = array("I")
        self._run_kinds: list[TextKind | CallName | None] = []
        #: The kind of the last run; None before the first, and for a control event.
        self._kind: TextKind | CallName | None = None
        #: The newest event's text, for the readers that keep up; empty if that is a control event.
        self._newest = b""
        #: The runs with a call's arguments, by its id: a call may have thousands of runs if calls are interleaved.
        self._call_runs: dict[str, array[int]] = {}
        # By registration: the same callable may watch twice.
        self._watchers: dict[object, Watcher] = {}
        #: Set if there is exactly one watcher: most streams have one, which is notified of every token.
        self._sole_watcher: Watcher | None = None
        #: The bytes of the text that is not content.
        self._other_bytes = 0
        #: The bytes of the results, steered messages and further texts in it.
        self._said_bytes = 0
        #: The index of the last step's first run.
        self._step_run = 0
        self._full = False
        self.ended: StreamEnded | None = None

    @property
    def content_bytes(self) -> int:
        """The bytes of text so far, without reasoning and arguments."""
        return len(self._text) - self._other_bytes

    @property
    def text_bytes(self) -> int:
        """The bytes of all text so far, including reasoning and arguments."""
        return len(self._text)

    @property
    def size_bytes(self) -> int:
        """The approximate memory that the log takes, in bytes."""
        text_runs = len(self._run_starts) - len(self._control)
        call_runs = sum(map(len, self._call_runs.values()))
        events = 4 * (len(self._ends) + call_runs) + 12 * text_runs + CONTROL_EVENT_BYTES * len(self._control)
        return len(self._text) + events + self._said_bytes

    def append_text(self, kind: TextKind, text: bytes, call: CallName | None = None) -> None:
        """Append text (whole UTF-8 characters); for arguments, with their call. Empty text appends nothing.

        Raises:
            LogFull: it did not fit entirely, or an earlier piece did not. What is in the log is a beginning without
                gaps.
        """
        if not text or self.ended is not None:
            return
        if self._full:
            raise LogFull
        run = call or kind
        size = len(text)
        is_short = size <= DELTA_BYTES_MAX and len(self._text) + size <= LOG_BYTES_MAX
        for piece in (text,) if is_short else self._fitting(text):
            if run is not self._kind and run != self._kind:
                self._begin_run(run)
            self._newest = piece
            self._text += piece
            self._ends.append(len(self._text))
            self.head_seq += 1
            if kind != "content":
                self._other_bytes += len(piece)
        # (As `_notify`, with one call less per token.)
        if self._sole_watcher is not None:
            self._sole_watcher()
        else:
            self._notify()
        if self._full:
            raise LogFull

    def _fitting(self, text: bytes) -> list[bytes]:
        """The part of a text that fits, in pieces of up to DELTA_BYTES_MAX.

        Raises:
            LogFull: nothing of it fits.
        """
        fitting = text[: boundary(text, LOG_BYTES_MAX - len(self._text))]
        self._full = len(fitting) < len(text)
        if not fitting:
            raise LogFull
        pieces: list[bytes] = []
        start = 0
        while start < len(fitting):
            end = boundary(fitting, start + DELTA_BYTES_MAX)
            pieces.append(fitting[start:end])
            start = end
        return pieces

    def _begin_run(self, kind: TextKind | CallName) -> None:
        if len(self._run_kinds) >= LOG_RUNS_MAX:
            self._full = True
            raise LogFull
        if isinstance(kind, CallName):
            self._call_runs.setdefault(kind.call_id, array("I")).append(len(self._run_kinds))
        self._run_starts.append(self.head_seq + 1)
        self._run_kinds.append(kind)
        self._kind = kind

    @classmethod
    def of(cls, pieces: Sequence[LogPiece]) -> "MemoryLog":
        """Restore a log from stored pieces, up to the first gap.

        Raises:
            ValueError, KeyError: a piece is damaged.
        """
        log = cls()
        for piece in whole(pieces):
            if piece.ends is None:
                log._append_control(event_in(piece))
                continue
            kind = kind_named(piece.kind)
            if log._kind != kind:
                log._begin_run(kind)
            if kind != "content":
                log._other_bytes += len(piece.text)
            ends = array("I")
            ends.frombytes(piece.ends)
            log._text += piece.text
            log._ends += ends
            if not _fits(ends, piece, log._text):
                raise ValueError("the events do not fit their text")
            log.head_seq = len(log._ends)
            log._newest = bytes(log._text[log._begin_of(log.head_seq) :])
        return log

    def pieces(self, after: int, most: int) -> list[LogPiece]:
        """The events after `after` in the form in which a journal stores them, without the end; at most `most`
        pieces."""
        found: list[LogPiece] = []
        seq, head = after + 1, self.head_seq
        run = bisect_right(self._run_starts, seq) - 1
        while seq <= head and len(found) < most:
            last = self._last_of(run)
            kind = self._run_kinds[run]
            if kind is not None:
                text = bytes(self._text[self._begin_of(seq) : self._ends[last - 1]])
                found.append(LogPiece(seq, last, kind_name(kind), text, self._ends[seq - 1 : last].tobytes()))
            elif not isinstance(event := self._control[seq], StreamEnded):
                found.append(event_piece(event))
            seq, run = last + 1, run + 1
        return found

    def append(self, make: MakeEvent) -> None:
        """Append the event that `make` builds for its seq; a `StreamToolCall` without its arguments."""
        if self.ended is not None:
            return
        self._append_control(make(self.head_seq + 1))
        self._notify()

    def _append_control(self, event: ControlEvent) -> None:
        # First, since a text that can't be encoded raises here: the log then stays as it is.
        match event:
            case StreamEnded():
                self._said_bytes += _said_bytes(event)
                self.ended = event
            case StreamStep():
                self._said_bytes += _steered_bytes(event.messages)
                self._step_run = len(self._run_kinds) + 1
            case StreamToolResult():
                self._said_bytes += message_memory(event.content, event.parts)
        self._run_starts.append(event.seq)
        self._run_kinds.append(None)
        self._kind, self._newest = None, b""
        self._ends.append(len(self._text))
        self.head_seq += 1
        self._control[event.seq] = event

    def read(self, after: int, max_bytes: int = DELTA_BYTES_MAX) -> Event | None:
        """The next event after `after`; None if there is none. Adjacent text of one kind and call is merged into one
        delta of up to `max_bytes`."""
        seq, head = after + 1, self.head_seq
        if seq > head:
            return None
        if seq == head and (kind := self._kind) is not None:
            # The most frequent case: the reader keeps up, and the newest event is text. (As `_delta`, with one call
            # less per token.)
            text = self._newest
            return Delta(seq, seq, kind, text) if isinstance(kind, str) else Delta(seq, seq, "arguments", text, kind)
        run = bisect_right(self._run_starts, seq) - 1
        kind = self._run_kinds[run]
        if kind is None:
            return _told(self._whole(self._control[seq]))
        start = self._begin_of(seq)
        last = max(seq, bisect_right(self._ends, start + max_bytes, seq - 1, self._last_of(run)))
        return _delta(seq, last, kind, bytes(self._text[start : self._ends[last - 1]]))

    def events(self) -> Iterator[Event]:
        """All events, with adjacent text of one kind and call merged, and nothing truncated. The log must not grow
        meanwhile."""
        for run, kind in enumerate(self._run_kinds):
            first = self._run_starts[run]
            if kind is None:
                yield self._whole(self._control[first])
            else:
                last = self._last_of(run)
                yield _delta(first, last, kind, bytes(self._text[self._begin_of(first) : self._ends[last - 1]]))

    def text(self, kind: TextKind) -> str:
        """All text of a kind in the last step."""
        since = self._step_run
        if kind == "content" and not since and not self._other_bytes:
            return self._text.decode()  # Most streams have nothing else.
        if kind == "arguments":
            return self._text_of(sorted(run for runs in self._call_runs.values() for run in runs if run >= since))
        kinds = self._run_kinds
        return self._text_of([run for run in range(since, len(kinds)) if kinds[run] == kind])

    def arguments(self, call_id: str) -> str:
        """The arguments of a call that have been received so far."""
        return self._text_of(self._call_runs.get(call_id, ()))

    def tool_calls(self) -> list[StreamToolCall]:
        """The complete calls of the last step with their arguments, in order."""
        since = self._run_starts[self._step_run - 1] if self._step_run else 0
        return [
            self._whole(event)
            for event in self._control.values()
            if isinstance(event, StreamToolCall) and event.seq > since
        ]

    def _text_of(self, runs: Iterable[int]) -> str:
        return b"".join(
            [self._text[self._begin_of(self._run_starts[run]) : self._ends[self._last_of(run) - 1]] for run in runs]
        ).decode()

    def _begin_of(self, seq: int) -> int:
        """The offset where an event's text begins."""
        return self._ends[seq - 2] if seq > 1 else 0

    def _last_of(self, run: int) -> int:
        """The number of a run's last event."""
        return self._run_starts[run + 1] - 1 if run + 1 < len(self._run_starts) else self.head_seq

    def _whole(self, event: SomeEvent) -> SomeEvent:
        """The event; a call with its arguments, which the log has as text."""
        return replace(event, arguments=self.arguments(event.call_id)) if isinstance(event, StreamToolCall) else event

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` after every append, until the returned function is called."""
        registration = object()
        self._watchers[registration] = watcher
        self._find_sole_watcher()

        def unwatch() -> None:
            self._watchers.pop(registration, None)
            self._find_sole_watcher()

        return unwatch

    def _find_sole_watcher(self) -> None:
        self._sole_watcher = next(iter(self._watchers.values())) if len(self._watchers) == 1 else None

    def _notify(self) -> None:
        if self._sole_watcher is not None:
            self._sole_watcher()
        elif self._watchers:
            # A copy: a watcher may end its own registration, or another, while it is called.
            for registration, watcher in tuple(self._watchers.items()):
                if registration in self._watchers:
                    watcher()


def _fits(ends: "array[int]", piece: LogPiece, text: bytearray) -> bool:
    """Whether each event of the piece ends behind a whole character, and the last one with `text`, which ends with the
    piece's."""
    if len(ends) != piece.last_seq - piece.first_seq + 1 or not all(map(lt, ends, ends[1:])):
        return False
    if not ends or ends[0] <= len(text) - len(piece.text) or ends[-1] != len(text):
        return False
    following = bytes(map(text.__getitem__, ends[:-1]))
    return len(following.translate(None, _INNER_BYTES)) == len(following)


def _delta(first: int, last: int, kind: TextKind | CallName, text: bytes) -> Delta:
    return Delta(first, last, kind, text) if isinstance(kind, str) else Delta(first, last, "arguments", text, kind)


def _told(event: ControlEvent) -> ControlEvent:
    """The event as it is sent: the text of a long result is truncated, in its parts, too."""
    if not isinstance(event, StreamToolResult) or event.content is None or len(event.content) <= RESULT_TOLD_BYTES // 4:
        return event
    text = event.content.encode()
    if len(text) <= RESULT_TOLD_BYTES:
        return event
    told = text[: boundary(text, RESULT_TOLD_BYTES)].decode()
    return replace(event, content=told, parts=event.parts and shortened(event.parts, told), truncated=True)


def _steered_bytes(messages: Sequence[SteeredMessage] | None) -> int:
    return sum(CONTROL_EVENT_BYTES + message_memory(each.content, each.parts) for each in messages) if messages else 0


def _said_bytes(end: StreamEnded) -> int:
    """The bytes of the texts in an end: a refusal may have kilobytes, and so may format errors."""
    size = _steered_bytes(end.unsteered)
    if end.refusal is not None:
        size += getsizeof(end.refusal.text or "")
    if end.message_ids:
        size += sum(MESSAGE_ID_BYTES + len(each) for each in end.message_ids)
    if end.format_errors:
        size += sum(FIELD_ERROR_BYTES + getsizeof(found.path) + getsizeof(found.message) for found in end.format_errors)
    return size
