"""A stream's log in this process's memory.

It takes the text itself plus four bytes an event: one UTF-8 buffer, the end offset of each event in it, twelve bytes
for each change of kind (sixteen where a call's arguments begin or go on), and the few events that are not text
(CONTROL_EVENT_BYTES each, about; the end with what it says of a refusal and of the answer's form).
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from archer_ws.core.limits import CONTROL_EVENT_BYTES, FIELD_ERROR_BYTES, MESSAGE_ID_BYTES, RESULT_TOLD_BYTES
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
from archer_ws.sessions.streams.pieces import event_in, event_piece, kind_name, kind_named, whole
from archer_ws.sessions.streams.scalars import boundary

SomeEvent = TypeVar("SomeEvent", bound=ControlEvent)


class MemoryLog:
    """The log in this process's memory."""

    def __init__(self) -> None:
        self._text = bytearray()
        #: _ends[seq - 1]: where event seq's text ends in the buffer. 4 MiB fit 32 bits.
        self._ends = array("I")
        self._control: dict[int, ControlEvent] = {}
        # A run is a stretch of adjacent events of one kind, arguments of one call; a control event is a run of its own
        # (None).
        self._run_starts = array("I")
        self._run_kinds: list[TextKind | CallName | None] = []
        #: Which runs have a call's arguments, by its id: a call may have thousands, between those of others.
        self._call_runs: dict[str, array[int]] = {}
        # By registration: one callable may watch twice.
        self._watchers: dict[object, Watcher] = {}
        #: Most streams have one reader, which is told of every token.
        self._sole_watcher: Watcher | None = None
        self._content_bytes = 0
        #: Of the results and the steered messages in it.
        self._said_bytes = 0
        #: Which run is the first of the last step.
        self._step_run = 0
        self._full = False
        self.ended: StreamEnded | None = None

    @property
    def head_seq(self) -> int:
        """The newest event's number; 0 while there is none."""
        return len(self._ends)

    @property
    def content_bytes(self) -> int:
        """The size of the answer so far, reasoning and arguments apart."""
        return self._content_bytes

    @property
    def text_bytes(self) -> int:
        """The size of all text so far, reasoning and arguments included."""
        return len(self._text)

    @property
    def size_bytes(self) -> int:
        """What the log costs in memory, about."""
        text_runs = len(self._run_starts) - len(self._control)
        call_runs = sum(map(len, self._call_runs.values()))
        events = 4 * (len(self._ends) + call_runs) + 12 * text_runs + CONTROL_EVENT_BYTES * len(self._control)
        said = _said_bytes(self.ended) if self.ended is not None else 0
        return len(self._text) + events + self._said_bytes + said

    def append_text(self, kind: TextKind, text: bytes, call: CallName | None = None) -> None:
        """Add text (whole UTF-8 characters), with its call where it is arguments; empty text adds nothing.

        Raises:
            LogFull: not all of it fitted, or an earlier piece did not: what is kept is a beginning, without gaps.
        """
        if not text or self.ended is not None:
            return
        if self._full:
            raise LogFull
        size = len(text)
        run = kind if call is None else call
        if size <= DELTA_BYTES_MAX and len(self._text) + size <= LOG_BYTES_MAX:
            self._append_event(run, text)
            if self._sole_watcher is not None:
                self._sole_watcher()
            else:
                self._notify()
            return
        fitting = text[: boundary(text, LOG_BYTES_MAX - len(self._text))]
        start = 0
        while start < len(fitting):
            end = boundary(fitting, start + DELTA_BYTES_MAX)
            self._append_event(run, fitting[start:end])
            start = end
        if fitting:
            self._notify()
        if len(fitting) < size:
            self._full = True
            raise LogFull

    def _append_event(self, kind: TextKind | CallName, text: bytes) -> None:
        if not self._run_kinds or ((last := self._run_kinds[-1]) is not kind and last != kind):
            self._begin_run(kind)
        if kind == "content":
            self._content_bytes += len(text)
        self._text += text
        self._ends.append(len(self._text))

    def _begin_run(self, kind: TextKind | CallName) -> None:
        if len(self._run_kinds) >= LOG_RUNS_MAX:
            self._full = True
            raise LogFull
        if isinstance(kind, CallName):
            self._call_runs.setdefault(kind.call_id, array("I")).append(len(self._run_kinds))
        self._run_starts.append(len(self._ends) + 1)
        self._run_kinds.append(kind)

    @classmethod
    def of(cls, pieces: Sequence[LogPiece]) -> "MemoryLog":
        """The log that these are pieces of, up to the first gap."""
        log = cls()
        for piece in whole(pieces):
            if piece.ends is None:
                log._append_control(event_in(piece))
                continue
            kind = kind_named(piece.kind)
            if not log._run_kinds or log._run_kinds[-1] != kind:
                log._begin_run(kind)
            if kind == "content":
                log._content_bytes += len(piece.text)
            log._text += piece.text
            log._ends.frombytes(piece.ends)
        return log

    def pieces(self, after: int, most: int) -> list[LogPiece]:
        """What came after `after`, as a journal keeps it, without the end; the first `most` pieces."""
        found: list[LogPiece] = []
        seq, head = after + 1, len(self._ends)
        run = bisect_right(self._run_starts, seq) - 1
        while seq <= head and len(found) < most:
            last = self._run_starts[run + 1] - 1 if run + 1 < len(self._run_starts) else head
            kind = self._run_kinds[run]
            if kind is not None:
                text = bytes(self._text[self._ends[seq - 2] if seq > 1 else 0 : self._ends[last - 1]])
                found.append(LogPiece(seq, last, kind_name(kind), text, self._ends[seq - 1 : last].tobytes()))
            elif not isinstance(event := self._control[seq], StreamEnded):
                found.append(event_piece(event))
            seq, run = last + 1, run + 1
        return found

    def append(self, make: MakeEvent) -> None:
        """Add the event that `make` builds for its seq; a `StreamToolCall` without its arguments."""
        if self.ended is not None:
            return
        event = make(len(self._ends) + 1)
        self._append_control(event)
        if isinstance(event, StreamEnded):
            self.ended = event
        self._notify()

    def _append_control(self, event: ControlEvent) -> None:
        self._run_starts.append(event.seq)
        self._run_kinds.append(None)
        self._ends.append(len(self._text))
        self._control[event.seq] = event
        if isinstance(event, StreamStep):
            self._step_run = len(self._run_kinds)
            self._said_bytes += _steered_bytes(event.messages)
        elif isinstance(event, StreamToolResult):
            self._said_bytes += len((event.content or "").encode())

    def read(self, after: int, max_bytes: int = DELTA_BYTES_MAX) -> Event | None:
        """The next event after `after`, adjacent text of one kind and call merged up to `max_bytes`; None at the
        head."""
        seq, head = after + 1, len(self._ends)
        if seq > head:
            return None
        if seq == head and (kind := self._run_kinds[-1]) is not None:
            # What most reads are for, while the reader keeps up.
            text = bytes(self._text[self._ends[-2] if seq > 1 else 0 :])
            return Delta(seq, seq, kind, text) if isinstance(kind, str) else Delta(seq, seq, "arguments", text, kind)
        run = bisect_right(self._run_starts, seq) - 1
        kind = self._run_kinds[run]
        if kind is None:
            return _told(self._whole(self._control[seq]))
        run_end = self._run_starts[run + 1] - 1 if run + 1 < len(self._run_starts) else head
        start = self._ends[seq - 2] if seq > 1 else 0
        last = max(seq, bisect_right(self._ends, start + max_bytes, seq - 1, run_end))
        return _delta(seq, last, kind, bytes(self._text[start : self._ends[last - 1]]))

    def events(self) -> Iterator[Event]:
        """All of it, the text of one kind and call as one, nothing cut; it may not grow meanwhile."""
        for run, kind in enumerate(self._run_kinds):
            first = self._run_starts[run]
            if kind is None:
                yield self._whole(self._control[first])
            else:
                last = self._last_of(run)
                yield _delta(first, last, kind, bytes(self._text[self._begin_of(first) : self._ends[last - 1]]))

    def text(self, kind: TextKind) -> str:
        """All text of that kind in the last step."""
        since = self._step_run
        if kind == "arguments":
            runs = sorted(run for runs in self._call_runs.values() for run in runs if run >= since)
            return self._text_of(runs)
        return self._text_of(run for run, run_kind in enumerate(self._run_kinds) if run_kind == kind and run >= since)

    def arguments(self, call_id: str) -> str:
        """The arguments of a call as far as they have come."""
        return self._text_of(self._call_runs.get(call_id, ()))

    def tool_calls(self) -> list[StreamToolCall]:
        """The last step's calls that are complete, with their arguments, in order."""
        since = self._run_starts[self._step_run - 1] if self._step_run else 0
        return [
            self._whole(event)
            for event in self._control.values()
            if isinstance(event, StreamToolCall) and event.seq > since
        ]

    def _text_of(self, runs: Iterable[int]) -> str:
        return b"".join(
            self._text[self._begin_of(self._run_starts[run]) : self._ends[self._last_of(run) - 1]] for run in runs
        ).decode()

    def _begin_of(self, seq: int) -> int:
        """Where an event's text begins."""
        return self._ends[seq - 2] if seq > 1 else 0

    def _last_of(self, run: int) -> int:
        """The last event of a run."""
        return self._run_starts[run + 1] - 1 if run + 1 < len(self._run_starts) else len(self._ends)

    def _whole(self, event: SomeEvent) -> SomeEvent:
        """The event with what the log has as text."""
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
            # A copy: a watcher may end its own watch, or another's, while it is told.
            for registration, watcher in tuple(self._watchers.items()):
                if registration in self._watchers:
                    watcher()


def _delta(first: int, last: int, kind: TextKind | CallName, text: bytes) -> Delta:
    return Delta(first, last, kind, text) if isinstance(kind, str) else Delta(first, last, "arguments", text, kind)


def _told(event: ControlEvent) -> ControlEvent:
    """The event as it is told: of a long result the beginning."""
    if not isinstance(event, StreamToolResult) or event.content is None or len(event.content) <= RESULT_TOLD_BYTES // 4:
        return event
    text = event.content.encode()
    if len(text) <= RESULT_TOLD_BYTES:
        return event
    return replace(event, content=text[: boundary(text, RESULT_TOLD_BYTES)].decode(), truncated=True)


def _steered_bytes(messages: Sequence[SteeredMessage] | None) -> int:
    return sum(CONTROL_EVENT_BYTES + len(message.content.encode()) for message in messages or ())


def _said_bytes(end: StreamEnded) -> int:
    """What an end costs for what it says in words: a refusal may have kilobytes, and so may the findings of a judge."""
    refused = len((end.refusal.text or "").encode()) if end.refusal is not None else 0
    unsteered = _steered_bytes(end.unsteered)
    named = sum(MESSAGE_ID_BYTES + len(each) for each in end.message_ids or ())
    return (
        refused
        + unsteered
        + named
        + sum(
            FIELD_ERROR_BYTES + len(found.path.encode()) + len(found.message.encode())
            for found in end.format_errors or ()
        )
    )
