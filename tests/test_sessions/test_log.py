from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from archer_ws.sessions.streams import memory_log as log_module
from archer_ws.sessions.streams.events import CallName, Delta, Event, StreamStep, StreamToolCall, TextKind
from archer_ws.sessions.streams.log import DELTA_BYTES_MAX, LogFull, StreamLog
from archer_ws.sessions.streams.memory_log import MemoryLog
from tests.fakes.stream_events import STREAM_ID, ended, queued, started

#: Bounds so small that generated texts meet them everywhere.
SMALL_DELTA, SMALL_LOG = 12, 60
KINDS: tuple[TextKind, ...] = ("content", "reasoning", "arguments")
WEATHER, TIME = CallName("call1", "get_weather"), CallName("call2", "get_time")

#: A kind of text, a call (its arguments), or no text.
Kind = TextKind | CallName | None
Append = tuple[Kind, str]


class ModelLog:
    """The log as the protocol describes it, without any cleverness: a list of events; None is a control event."""

    def __init__(self, delta_max: int, log_max: int) -> None:
        self.events: list[tuple[Kind, bytes]] = []
        self.delta_max = delta_max
        self.room = log_max
        self.full = False

    def append(self, kind: Kind, text: str) -> None:
        if kind is None:
            self.events.append((None, b""))
            return
        piece = b""
        for character in (letter.encode() for letter in text):
            if self.full or len(character) > self.room:
                self.full = True
                break
            self.room -= len(character)
            if len(piece) + len(character) > self.delta_max:
                self.events.append((kind, piece))
                piece = b""
            piece += character
        if piece:
            self.events.append((kind, piece))

    def read(self, after: int, max_bytes: int) -> tuple[int, Kind, bytes] | None:
        """The last seq, kind and text of what a reader at `after` gets."""
        if after >= len(self.events):
            return None
        kind, text = self.events[after]
        last = after + 1
        while kind and last < len(self.events) and self.events[last][0] == kind:
            if len(text) + len(self.events[last][1]) > max_bytes:
                break
            text += self.events[last][1]
            last += 1
        return last, kind, text

    def text(self, *kinds: Kind) -> str:
        return b"".join(text for kind, text in self.events if kind in kinds).decode()


def progress(log: StreamLog) -> None:
    log.append(queued)


def end(log: StreamLog) -> None:
    log.append(lambda seq: ended(seq, text_bytes=log.content_bytes))


def call_made(log: StreamLog, call: CallName) -> None:
    log.append(lambda seq: StreamToolCall(stream_id=STREAM_ID, seq=seq, **call._asdict(), arguments="", by="client"))


def append_to(log: StreamLog, kind: Kind, text: str) -> bool:
    """Append to a log; whether it was full."""
    try:
        match kind:
            case None:
                progress(log)
            case CallName():
                log.append_text("arguments", text.encode(), kind)
            case _:
                log.append_text(kind, text.encode())
    except LogFull:
        return True
    return False


def drain(log: StreamLog, after: int = 0, max_bytes: int = DELTA_BYTES_MAX) -> Iterator[Event]:
    while (event := log.read(after, max_bytes)) is not None:
        yield event
        after = event.seq


def deltas(log: StreamLog) -> list[Delta]:
    return [event for event in drain(log) if isinstance(event, Delta)]


def a_delta(first: int, last: int, kind: TextKind | CallName, text: bytes) -> Delta:
    return Delta(first, last, "arguments", text, kind) if isinstance(kind, CallName) else Delta(first, last, kind, text)


texts = st.one_of(
    st.text(st.sampled_from("aé€😀\x00\u0301"), max_size=16),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    st.sampled_from(["", "x" * SMALL_DELTA, "😀" * 3, "a" + "😀" * 3, "é" * SMALL_LOG]),
)
kinds = st.sampled_from(["content", "content", "reasoning", WEATHER, WEATHER, TIME, None])
appends = st.lists(st.tuples(kinds, texts), max_size=25)


@settings(deadline=None)
@given(appends, st.integers(0, 30), st.integers(1, 40))
@example([("content", "a" * (SMALL_LOG - 1)), ("content", "é"), ("content", "a")], 0, SMALL_DELTA)
def test_a_log_reads_like_a_plain_list_of_events_from_any_cursor(
    written: list[Append], start: int, max_bytes: int
) -> None:
    log, model = MemoryLog(), ModelLog(SMALL_DELTA, SMALL_LOG)
    with (
        patch.object(log_module, "DELTA_BYTES_MAX", SMALL_DELTA),
        patch.object(log_module, "LOG_BYTES_MAX", SMALL_LOG),
    ):
        for kind, text in written:
            model.append(kind, text)
            full = append_to(log, kind, text)
            assert full == (model.full and bool(kind and text))

    assert log.head_seq == len(model.events)
    assert log.content_bytes == len(model.text("content").encode())
    assert log.text("content") == model.text("content")
    assert log.text("reasoning") == model.text("reasoning")
    assert log.text("arguments") == model.text(WEATHER, TIME)
    for call in (WEATHER, TIME):
        assert log.arguments(call.call_id) == model.text(call)

    after = start
    while (expected := model.read(after, max_bytes)) is not None:
        last, kind_read, text_read = expected
        event = log.read(after, max_bytes)
        if kind_read is None:
            assert event == queued(after + 1)
        else:
            assert event == a_delta(after + 1, last, kind_read, text_read)
            text_read.decode()
            assert len(text_read) <= max(max_bytes, SMALL_DELTA)
        after = last
    assert log.read(after, max_bytes) is None


@settings(deadline=None)
@given(st.lists(st.tuples(kinds, texts, st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40)), max_size=3))))
def test_readers_at_any_pace_lose_and_double_nothing_while_the_log_grows(
    steps: list[tuple[Kind, str, list[tuple[int, int]]]],
) -> None:
    log = MemoryLog()
    seen: list[list[Event]] = [[], [], []]
    for kind, text, reads in steps:
        append_to(log, kind, text)
        for reader, max_bytes in reads:
            event = log.read(seen[reader][-1].seq if seen[reader] else 0, max_bytes)
            seen[reader] += [event] if event else []
    end(log)

    for begun in seen:
        events = [*begun, *drain(log, begun[-1].seq if begun else 0)]
        covered = 0
        for event in events:
            assert (event.from_seq if isinstance(event, Delta) else event.seq) == covered + 1
            covered = event.seq
        assert covered == log.head_seq
        assert events[-1] is log.ended
        for text_kind in KINDS:
            pieces = [event.text for event in events if isinstance(event, Delta) and event.kind == text_kind]
            assert b"".join(pieces).decode() == log.text(text_kind)
        for call in (WEATHER, TIME):
            pieces = [event.text for event in events if isinstance(event, Delta) and event.call == call]
            assert b"".join(pieces).decode() == log.arguments(call.call_id)


@pytest.mark.parametrize("letter", ["a", "é", "€", "😀"])
@pytest.mark.parametrize("shift", ["", "a", "aa", "aaa"])
def test_a_long_text_becomes_events_of_at_most_16_kib_between_whole_characters(letter: str, shift: str) -> None:
    log = MemoryLog()
    text = shift + letter * 40_000

    log.append_text("content", text.encode())

    replay = deltas(log)
    assert all(DELTA_BYTES_MAX - 4 < len(delta.text) <= DELTA_BYTES_MAX for delta in replay[:-1])
    assert len(replay[-1].text) <= DELTA_BYTES_MAX
    assert "".join(delta.text.decode() for delta in replay) == text


def test_tokens_are_merged_up_to_16_kib() -> None:
    log = MemoryLog()
    for _ in range(5000):
        log.append_text("content", b"token ")

    first, second = deltas(log)

    assert (first.from_seq, first.seq) == (1, DELTA_BYTES_MAX // 6)
    assert (second.from_seq, second.seq) == (DELTA_BYTES_MAX // 6 + 1, 5000)


def test_merged_events_may_be_just_as_large_as_asked_for() -> None:
    log = MemoryLog()
    for text in (b"four", b"five", b"six"):
        log.append_text("content", text)

    assert log.read(0, 7) == Delta(1, 1, "content", b"four")
    assert log.read(0, 8) == Delta(1, 2, "content", b"fourfive")
    assert log.read(1, 7) == Delta(2, 3, "content", b"fivesix")


def test_one_event_larger_than_the_bytes_asked_for_comes_whole() -> None:
    log = MemoryLog()
    log.append_text("content", b"four")
    log.append_text("content", b"five")

    assert log.read(0, 1) == Delta(1, 1, "content", b"four")
    assert log.read(0, 0) == Delta(1, 1, "content", b"four")


def test_an_empty_log_has_nothing() -> None:
    log = MemoryLog()

    assert log.head_seq == log.content_bytes == log.size_bytes == 0
    assert log.read(0) is None
    assert log.ended is None
    assert log.text("content") == log.text("reasoning") == ""


def test_empty_text_is_no_event_and_tells_nobody() -> None:
    log = MemoryLog()
    told: list[int] = []
    log.watch(lambda: told.append(log.head_seq))

    log.append_text("content", b"")

    assert log.head_seq == 0
    assert told == []


def test_control_events_come_alone_in_their_place() -> None:
    log = MemoryLog()
    progress(log)
    log.append(started)
    log.append_text("reasoning", b"hm")
    log.append_text("content", b"a")
    log.append_text("content", b"b")
    end(log)

    assert list(drain(log)) == [
        queued(1),
        started(2),
        Delta(3, 3, "reasoning", b"hm"),
        Delta(4, 5, "content", b"ab"),
        log.ended,
    ]


def test_nothing_comes_after_the_end() -> None:
    log = MemoryLog()
    log.append_text("content", b"answer")
    end(log)
    ended = log.ended
    told: list[int] = []
    log.watch(lambda: told.append(log.head_seq))

    log.append_text("content", b" and more")
    progress(log)
    end(log)

    assert list(drain(log)) == [Delta(1, 1, "content", b"answer"), ended]
    assert log.ended is ended
    assert log.text("content") == "answer"
    assert told == []


def test_the_text_of_a_kind_is_that_of_the_last_step_with_or_without_other_kinds() -> None:
    log = MemoryLog()
    log.append_text("content", b"first")
    log.append(lambda seq: StreamStep(stream_id=STREAM_ID, seq=seq, step=2))
    assert log.text("content") == ""
    log.append_text("content", b"second")
    assert log.text("content") == "second"
    log.append_text("reasoning", b"hm")
    log.append_text("content", b" and more")
    assert (log.text("content"), log.text("reasoning")) == ("second and more", "hm")


def test_arguments_are_merged_within_their_call_and_interleaved_calls_begin_new_runs() -> None:
    log = MemoryLog()
    log.append_text("content", b"Let me look.")
    for call, piece in [
        (WEATHER, b'{"city": '),
        (WEATHER, b'"Oslo"'),
        (TIME, b"{"),
        (WEATHER, b"}"),
        (TIME, b'"zone": "CET"'),
        (TIME, b"}"),
    ]:
        log.append_text("arguments", piece, call)

    assert list(drain(log)) == [
        Delta(1, 1, "content", b"Let me look."),
        Delta(2, 3, "arguments", b'{"city": "Oslo"', WEATHER),
        Delta(4, 4, "arguments", b"{", TIME),
        Delta(5, 5, "arguments", b"}", WEATHER),
        Delta(6, 7, "arguments", b'"zone": "CET"}', TIME),
    ]
    assert log.arguments("call1") == '{"city": "Oslo"}'
    assert log.arguments("call2") == '{"zone": "CET"}'
    assert log.arguments("call3") == ""
    assert log.content_bytes == len("Let me look.")


def test_a_call_s_event_has_the_arguments_that_its_deltas_have_from_wherever_it_is_read() -> None:
    log = MemoryLog()
    for call, piece in [(WEATHER, b'{"city":'), (TIME, b"{}"), (WEATHER, b' "Oslo"}')]:
        log.append_text("arguments", piece, call)
    call_made(log, WEATHER)
    call_made(log, TIME)
    end(log)
    weather = StreamToolCall(
        stream_id=STREAM_ID, seq=4, call_id="call1", name="get_weather", arguments='{"city": "Oslo"}', by="client"
    )
    time = StreamToolCall(stream_id=STREAM_ID, seq=5, call_id="call2", name="get_time", arguments="{}", by="client")

    for after in range(log.head_seq + 1):
        told = [event for event in drain(log, after) if not isinstance(event, Delta)]
        assert told == [weather, time, log.ended][max(0, after - 3) :]
    assert log.tool_calls() == [weather, time]


def test_a_call_s_event_holds_no_copy_of_its_arguments() -> None:
    log = MemoryLog()
    log.append_text("arguments", b"x" * 100_000, WEATHER)
    before = log.size_bytes

    call_made(log, WEATHER)

    assert log.size_bytes - before < 2000
    assert all(len(getattr(event, "arguments", "")) == 0 for event in log._control.values())
