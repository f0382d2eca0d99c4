"""The log of a stream whose server was lost, as readers get it who saw less than was kept, as much, or more."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from archer_ws.core.clock import utc_now
from archer_ws.sessions.storage.journal import LogPiece, StreamRecord
from archer_ws.sessions.streams.events import (
    CallName,
    ControlEvent,
    Delta,
    Event,
    StreamEnded,
    StreamProgress,
    StreamStarted,
    StreamToolCall,
)
from archer_ws.sessions.streams.kept_log import KeptLog
from archer_ws.sessions.streams.log import DELTA_BYTES_MAX
from archer_ws.sessions.streams.lost import LOST_GAP, end_lost
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.pieces import ended_in, kind_name, kind_named, log_end

RECORD = StreamRecord("me", "x", "s", "ollama", "llama3.2", "req_1", b"f", utc_now())
ALL = 1_000_000


def started(seq: int) -> StreamStarted:
    return StreamStarted(stream_id="x", seq=seq, session_id="s", provider="ollama", model="llama3.2")


def running(*texts: str) -> MemoryLog:
    """A log as it stood when the server was lost: `started`, and a text each."""
    log = MemoryLog()
    log.append(started)
    for text in texts:
        log.append_text("content", text.encode())
    return log


def recovered(*pieces: LogPiece) -> KeptLog:
    found = end_lost(RECORD, pieces, None, utc_now())
    assert found is not None, "nothing in it waits"
    _, end = found
    log = KeptLog(ended_in(end.ended(())))
    log.load(MemoryLog.of(pieces))
    return log


def read_on(log: KeptLog, after: int) -> list[Event]:
    found: list[Event] = []
    while (event := log.read(after)) is not None:
        found.append(event)
        after = event.seq
        assert len(found) < 1000, "it goes round"
    return found


@dataclass
class Reader:
    """A client that holds to promise 3: what comes is next to what it has seen, unless it says `reset`."""

    seen: int = 0
    text: str = ""
    end: StreamEnded | None = None

    def take(self, event: Event) -> None:
        first = event.from_seq if isinstance(event, Delta) else event.seq
        is_reset = isinstance(event, Delta) and event.reset
        assert first == (1 if is_reset else self.seen + 1)
        if is_reset:
            self.text = ""
        if isinstance(event, Delta):
            self.text += event.text.decode()
        if isinstance(event, StreamEnded):
            self.end = event
        self.seen = event.seq

    def follow(self, log: KeptLog) -> list[Event]:
        events = read_on(log, self.seen)
        for event in events:
            self.take(event)
        return events


@pytest.mark.parametrize(
    ("kept", "seen", "had"),
    [
        pytest.param(["a", "b", "c"], 2, "a", id="a client behind what was kept"),
        pytest.param(["a", "b", "c"], 4, "abc", id="a client level with what was kept"),
        pytest.param(["a", "b", "c"], 6, "abcde", id="a client ahead of what was kept"),
        pytest.param(["a", "b", "c"], 0, "", id="a client that has seen nothing"),
        pytest.param([], 3, "ab", id="a log cut before its first token, and a client ahead"),
        pytest.param([], 1, "", id="a log cut before its first token, and a client level"),
        pytest.param([], 0, "", id="a log cut before its first token, and a client behind"),
    ],
)
def test_a_client_ahead_level_behind_and_a_log_cut_before_its_first_token(kept: list[str], seen: int, had: str) -> None:
    log = recovered(*running(*kept).pieces(0, ALL))
    reader = Reader(seen, had)

    events = reader.follow(log)

    assert reader.text == "".join(kept)
    assert reader.end is not None
    assert reader.end.seq == len(kept) + 1 + LOST_GAP
    assert (reader.end.status, reader.end.error and reader.end.error.kind) == ("incomplete", "worker_lost")
    # The text runs up to the end, so nothing is missing for who counts.
    assert isinstance(events[-2], Delta)
    assert events[-2].seq == reader.end.seq - 1
    assert sum(isinstance(event, Delta) and event.reset for event in events) == (seen > len(kept) + 1)
    assert reader.follow(log) == []


def test_a_log_of_which_nothing_was_kept_ends_as_others_do() -> None:
    log = recovered()
    for reader in (Reader(), Reader(5, "abc")):
        reader.follow(log)
        assert (reader.text, reader.seen) == ("", LOST_GAP)


@pytest.mark.parametrize("seen", range(9))
def test_a_reader_cut_off_behind_each_event_has_the_text_once_in_the_end(seen: int) -> None:
    long = "x" * DELTA_BYTES_MAX
    log = recovered(*running("a", long, long, "b").pieces(0, ALL))
    reader = Reader(seen, "whatever it had" if seen > 5 else ("", "", "a", "a" + long, "a" + 2 * long)[min(seen, 4)])
    if seen == 5:
        reader.text += "b"
    while reader.end is None:
        # A connection for each event.
        event = log.read(reader.seen)
        assert event is not None
        reader.take(event)
    assert reader.text == f"a{long}{long}b"


def test_who_has_seen_the_text_up_to_the_end_gets_the_end_alone() -> None:
    log = recovered(*running("a").pieces(0, ALL))
    assert [type(event) for event in read_on(log, log.head_seq - 1)] == [StreamEnded]
    assert read_on(log, log.head_seq) == read_on(log, log.head_seq + 7) == []


def full() -> MemoryLog:
    """A log with all that there may be, in stretches."""
    log = MemoryLog()
    log.append(lambda seq: StreamProgress(stream_id="x", seq=seq, phase="queued", detail="behind\nothers"))
    log.append(started)
    for text in ("Sie fragen ", "nach 語"):
        log.append_text("reasoning", text.encode())
    first, second = CallName("k 1", 'get "weather"'), CallName("k2", "get_time")
    for text in ("Blau", ",\u2028", "\0"):
        log.append_text("content", text.encode())
    for call, text in ((first, '{"a":'), (second, "{"), (first, "1}"), (second, "}")):
        log.append_text("arguments", text.encode(), call)

    def complete(call: CallName) -> Callable[[int], ControlEvent]:
        return lambda seq: StreamToolCall(
            stream_id="x", seq=seq, call_id=call.call_id, name=call.name, arguments="", by="client"
        )

    log.append(complete(first))
    log.append(complete(second))
    return log


@pytest.mark.parametrize("cut", range(14))
def test_a_log_put_together_from_pieces_is_read_as_it_was_wherever_it_was_written(cut: int) -> None:
    whole = full()
    early = [piece for piece in whole.pieces(0, ALL) if piece.last_seq <= cut]
    seq = early[-1].last_seq if early else 0
    put_together = MemoryLog.of([*early, *whole.pieces(seq, ALL)])

    for after in range(whole.head_seq + 1):
        for most in (1, 7, DELTA_BYTES_MAX):
            assert put_together.read(after, most) == whole.read(after, most)
    assert put_together.tool_calls() == whole.tool_calls()
    for kind in ("content", "reasoning", "arguments"):
        assert put_together.text(kind) == whole.text(kind)
    assert (put_together.content_bytes, put_together.text_bytes) == (whole.content_bytes, whole.text_bytes)
    assert put_together.size_bytes == whole.size_bytes


def test_pieces_can_be_asked_for_a_few_at_a_time() -> None:
    whole, found, after = full(), list[LogPiece](), 0
    while some := whole.pieces(after, 2):
        assert len(some) <= 2
        found += some
        after = some[-1].last_seq
    assert found == whole.pieces(0, ALL)


def test_a_log_with_a_gap_is_its_beginning() -> None:
    pieces = full().pieces(0, ALL)
    del pieces[3]
    assert MemoryLog.of(pieces).head_seq == pieces[2].last_seq
    assert recovered(*pieces).head_seq == pieces[2].last_seq + LOST_GAP


def test_a_log_that_came_to_its_end_is_read_to_it_without_a_gap() -> None:
    log = full()
    ended = StreamEnded(stream_id="x", seq=log.head_seq + 1, status="completed", text_bytes=log.content_bytes)
    kept = KeptLog(ended_in(log_end(ended, utc_now(), ()).ended(())))
    kept.load(MemoryLog.of(log.pieces(0, ALL)))
    log.append(lambda _: ended)
    after = 0
    while (event := log.read(after)) is not None:
        assert kept.read(after) == event
        after = event.seq
    assert kept.read(after) is None


@pytest.mark.parametrize("kind", ["content", "reasoning", CallName('k" 1', "語 \n")])
def test_a_kind_of_text_is_the_same_as_a_word_and_back(kind: str | CallName) -> None:
    assert kind_named(kind_name(kind)) == kind  # type: ignore[arg-type]
