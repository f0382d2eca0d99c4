"""Ended streams that somebody reads, while there is room for them and while there is none."""

import pytest

from archer_ws.core.limits import SLOW_READER_S, STALLED_READER_S
from archer_ws.sessions.streams.hold import Hold
from archer_ws.sessions.streams.retention import StreamTable
from archer_ws.sessions.streams.stream import Stream
from tests.fakes.manual_clock import ManualClock
from tests.test_sessions.test_retention import RETENTION_S, end, known, make_stream, run_and_end


class Reading:
    """A reader that goes on when the test says so."""

    def __init__(self, stream: Stream) -> None:
        self.seq = 0.0
        self.is_cut_off = False
        self.hold: Hold = stream.hold()
        self.hold.reader = self

    def stream_ended(self) -> None:
        """It is not through yet."""

    def stream_parked(self) -> None:
        """Its streams are not parked."""

    def position(self) -> float:
        return self.seq

    def cut_off(self) -> None:
        self.is_cut_off = True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def table(clock: ManualClock) -> StreamTable:
    return StreamTable(retention_s=RETENTION_S, bytes_max=100_000, clock=clock)


def read_and_end(table: StreamTable, name: str, size: int, *, principal: str = "ann") -> Reading:
    """An ended stream with a reader that has not read all of it."""
    stream = make_stream(name, principal=principal, size=size, on_unheld=table.unheld)
    table.add(stream)
    reading = Reading(stream)
    end(table, stream)
    stream._finished.set()
    return reading


async def test_a_stream_that_is_read_stays_and_others_go_in_its_place(table: StreamTable) -> None:
    read_and_end(table, "read", 60_000)
    run_and_end(table, "unread", size=30_000)

    run_and_end(table, "new", size=30_000)

    assert known(table) == ["read", "new"]
    table.close()


async def test_what_was_read_makes_room_at_once(table: StreamTable) -> None:
    reading = read_and_end(table, "large", 150_000)
    assert known(table) == ["large"]

    reading.hold.release()

    assert known(table) == []
    assert table.ended_bytes == 0


async def test_a_reader_who_takes_nothing_is_cut_off_while_one_who_reads_is_not(
    table: StreamTable, clock: ManualClock
) -> None:
    stalled, steady = read_and_end(table, "stalled", 80_000), read_and_end(table, "steady", 80_000)

    for _ in range(round(STALLED_READER_S) + 1):
        assert not stalled.is_cut_off
        steady.seq += 1
        table.look_at_readers()
        clock.advance(1)
    table.look_at_readers()

    assert stalled.is_cut_off
    assert not steady.is_cut_off
    assert known(table) == ["steady"]


async def test_no_more_stalled_readers_are_cut_off_than_make_room(table: StreamTable, clock: ManualClock) -> None:
    first, second = read_and_end(table, "first", 80_000), read_and_end(table, "second", 80_000)

    for _ in range(2):
        table.look_at_readers()
        clock.advance(STALLED_READER_S)
    table.look_at_readers()

    assert (first.is_cut_off, second.is_cut_off, known(table)) == (True, False, ["second"])
    table.close()


async def test_nobody_is_cut_off_while_there_is_room(table: StreamTable, clock: ManualClock) -> None:
    reading = read_and_end(table, "unread", 80_000)

    for _ in range(100):
        table.look_at_readers()
        clock.advance(1)

    assert not reading.is_cut_off
    assert known(table) == ["unread"]


async def test_who_reads_a_little_now_and_then_keeps_a_stream_for_a_bounded_time(
    table: StreamTable, clock: ManualClock
) -> None:
    trickling = read_and_end(table, "trickling", 150_000)

    for _ in range(round(SLOW_READER_S)):
        assert not trickling.is_cut_off
        trickling.seq += 1
        table.look_at_readers()
        clock.advance(1)
    table.look_at_readers()

    assert trickling.is_cut_off
    assert table.ended_bytes == 0


async def test_of_two_readers_of_a_stream_the_one_who_reads_keeps_it(table: StreamTable, clock: ManualClock) -> None:
    stalled = read_and_end(table, "shared", 150_000)
    stream = table.get("ann", "shared")
    assert stream is not None
    steady = Reading(stream)

    for _ in range(round(STALLED_READER_S) + 2):
        steady.seq += 1
        table.look_at_readers()
        clock.advance(1)

    assert stalled.is_cut_off
    assert not steady.is_cut_off
    assert known(table) == ["shared"]


async def test_past_its_retention_a_stream_is_not_found_and_counts_until_it_was_read(
    table: StreamTable, clock: ManualClock
) -> None:
    reading = read_and_end(table, "old", 60_000)
    clock.advance(RETENTION_S)
    assert table.get("ann", "old") is None
    assert table.ended_bytes > 60_000

    run_and_end(table, "new", size=60_000)
    assert known(table) == []

    reading.hold.release()
    assert table.ended_bytes == 0
    run_and_end(table, "new", size=60_000)
    assert known(table) == ["new"]
    table.close()


async def test_streams_without_text_are_not_for_nothing(table: StreamTable) -> None:
    for number in range(1000):
        run_and_end(table, f"s{number}", size=0)

    assert len(known(table)) < 30
    assert known(table)[-1] == "s999"
    table.close()


async def test_who_makes_many_streams_pushes_out_his_own_and_nobody_elses(table: StreamTable) -> None:
    run_and_end(table, "old", size=10_000, principal="bob")

    for number in range(100):
        run_and_end(table, f"s{number}", size=10_000)

    assert known(table, "bob") == ["old"]
    assert known(table)[-1] == "s99"
    table.close()
