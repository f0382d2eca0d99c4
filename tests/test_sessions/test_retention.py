import asyncio
import weakref
from collections.abc import Callable

import pytest

from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.retention import RECOUNT_S, StreamTable
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.streams.work import StreamIdentity
from tests.fakes.manual_clock import ManualClock
from tests.fakes.stream_events import ended

RETENTION_S = 600.0


def make_stream(
    stream_id: str,
    *,
    principal: str = "ann",
    session_id: str | None = None,
    size: int = 10,
    on_unheld: Callable[[Stream], None] = lambda _: None,
) -> Stream:
    stream = Stream(
        StreamIdentity(
            stream_id=stream_id,
            principal=principal,
            session_id=session_id,
            provider="ollama",
            model="m",
            request_id="req_1",
            fingerprint=b"",
            on_disconnect="continue",
        ),
        StreamRules(new_log=MemoryLog, on_unheld=on_unheld),
    )
    stream.log.append_text("content", b"x" * size)
    return stream


def end(table: StreamTable, stream: Stream) -> None:
    stream.log.append(lambda seq: ended(seq, text_bytes=stream.log.content_bytes))
    table.end(stream)


def run_and_end(
    table: StreamTable, stream_id: str, *, principal: str = "ann", session_id: str | None = None, size: int = 10
) -> int:
    """Add a stream and end it; what it costs, in bytes."""
    stream = make_stream(stream_id, principal=principal, session_id=session_id, size=size)
    table.add(stream)
    end(table, stream)
    return stream.size_bytes


def known(table: StreamTable, principal: str = "ann") -> list[str]:
    """The principal's streams, in the order in which they were accepted."""
    return [stream.stream_id for _, stream in table.newest_first(principal)][::-1]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def table(clock: ManualClock) -> StreamTable:
    return StreamTable(retention_s=RETENTION_S, bytes_max=1_000_000, clock=clock)


async def test_a_stream_is_known_while_it_runs_and_after_its_end(table: StreamTable) -> None:
    stream = make_stream("s1")
    table.add(stream)
    assert table.get("ann", "s1") is stream
    assert table.live == [stream]
    assert table.live_count == 1

    end(table, stream)

    assert table.get("ann", "s1") is stream
    assert table.live == []
    assert table.live_count == 0


async def test_a_refused_stream_was_never_there(table: StreamTable) -> None:
    stream = make_stream("s1")
    table.add(stream)

    table.refuse(stream)
    table.refuse(stream)

    assert table.get("ann", "s1") is None
    assert known(table) == []
    assert table.live_count == 0


async def test_other_principals_streams_do_not_exist(table: StreamTable) -> None:
    mine, theirs = make_stream("same"), make_stream("same", principal="bob")
    table.add(mine)
    table.add(theirs)
    end(table, theirs)
    run_and_end(table, "s1", principal="bob")

    assert table.get("ann", "same") is mine
    assert table.get("bob", "same") is theirs
    assert table.get("ann", "s1") is None
    assert known(table) == ["same"]
    assert known(table, "bob") == ["same", "s1"]


async def test_the_streams_accepted_last_come_first_whichever_ended_first(table: StreamTable) -> None:
    streams = [make_stream(name) for name in ("running", "later", "sooner")]
    for stream in streams:
        table.add(stream)
    for stream in reversed(streams[1:]):
        end(table, stream)

    listed = list(table.newest_first("ann"))
    assert [stream.stream_id for _, stream in listed] == ["sooner", "later", "running"]
    assert [stream.stream_id for _, stream in table.newest_first("ann", active=True)] == ["running"]
    assert list(table.newest_first("ann", before=listed[0][0])) == listed[1:]
    assert list(table.newest_first("bob")) == []


async def test_an_ended_stream_is_forgotten_when_its_retention_is_over(table: StreamTable, clock: ManualClock) -> None:
    run_and_end(table, "old")
    clock.advance(1)
    run_and_end(table, "new")

    clock.advance(RETENTION_S - 1.5)
    assert known(table) == ["old", "new"]
    clock.advance(0.5)

    assert table.get("ann", "old") is None
    assert known(table) == ["new"]


async def test_with_a_session_its_ended_streams_are_forgotten_and_no_others(table: StreamTable) -> None:
    for stream_id, session_id in (("old", "talk"), ("other", "chat"), ("alone", None), ("new", "talk")):
        run_and_end(table, stream_id, session_id=session_id)
    left = run_and_end(table, "hers", principal="bob", session_id="talk")

    table.drop_session("ann", "talk")
    assert known(table) == ["other", "alone"]

    table.drop_session("ann", None)
    assert (known(table), known(table, "bob")) == (["alone"], ["hers"])

    table.drop(next(stream for _, stream in table.newest_first("ann")))
    table.drop_session("ann", None)
    assert (known(table), table.ended_bytes) == ([], left)
    table.close()


async def test_a_running_stream_is_never_forgotten(clock: ManualClock) -> None:
    table = StreamTable(retention_s=RETENTION_S, bytes_max=100, clock=clock)
    table.add(make_stream("running", size=5000))
    run_and_end(table, "ended", size=5000)

    clock.advance(10 * RETENTION_S)
    table.expire()

    assert known(table) == ["running"]


async def test_without_retention_an_ended_stream_is_gone_at_once(clock: ManualClock) -> None:
    table = StreamTable(retention_s=0, bytes_max=1_000_000, clock=clock)
    run_and_end(table, "s1")

    assert known(table) == []


async def test_the_oldest_ended_go_first_when_the_logs_are_too_large_together(clock: ManualClock) -> None:
    one = run_and_end(StreamTable(retention_s=RETENTION_S, bytes_max=1_000_000), "probe", size=100)
    table = StreamTable(retention_s=RETENTION_S, bytes_max=3 * one, clock=clock)
    for number in range(3):
        run_and_end(table, f"s{number}", size=100)
    assert known(table) == ["s0", "s1", "s2"]

    run_and_end(table, "s3", size=100)
    assert known(table) == ["s1", "s2", "s3"]

    run_and_end(table, "s4", size=one + 200)
    assert known(table) == ["s4"]


async def test_running_logs_count_however_little_the_ended_ones_take(clock: ManualClock) -> None:
    table = StreamTable(retention_s=RETENTION_S, bytes_max=100_000, clock=clock)
    run_and_end(table, "first", size=10_000)
    table.add(make_stream("running", size=85_000))
    clock.advance(RECOUNT_S)

    run_and_end(table, "second", size=1000)

    assert known(table) == ["running", "second"]


async def test_bytes_given_back_by_age_count_no_more(table: StreamTable, clock: ManualClock) -> None:
    run_and_end(table, "large", size=900_000)
    clock.advance(RETENTION_S)
    for number in range(9):
        run_and_end(table, f"s{number}", size=100_000)

    assert len(known(table)) == 9


class TestTimer:
    """The loop's own time is moved, so that its timers are due at once."""

    @pytest.fixture
    async def loop_clock(self, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
        loop = asyncio.get_running_loop()
        clock = ManualClock(loop.time())
        begun, real_time = clock.now, loop.time
        monkeypatch.setattr(loop, "time", lambda: real_time() - begun + clock.now)
        return clock

    async def test_old_logs_are_given_back_without_anybody_asking(self, loop_clock: ManualClock) -> None:
        table = StreamTable(retention_s=RETENTION_S, bytes_max=1_000_000, clock=asyncio.get_running_loop().time)
        freed = {name: asyncio.Event() for name in ("old", "new")}
        for name, is_freed in freed.items():
            stream = make_stream(name)
            weakref.finalize(stream, is_freed.set)
            table.add(stream)
            end(table, stream)
            del stream
            loop_clock.advance(10)

        loop_clock.advance(RETENTION_S - 15)
        async with asyncio.timeout(5):
            await freed["old"].wait()
        assert not freed["new"].is_set()

        # The timer is set again for what is left.
        loop_clock.advance(10)
        async with asyncio.timeout(5):
            await freed["new"].wait()
        table.close()

    async def test_a_closed_table_sets_no_timer_off(self, loop_clock: ManualClock) -> None:
        table = StreamTable(retention_s=RETENTION_S, bytes_max=1_000_000, clock=asyncio.get_running_loop().time)
        freed = asyncio.Event()
        stream = make_stream("s1")
        weakref.finalize(stream, freed.set)
        table.add(stream)
        end(table, stream)
        del stream

        table.close()
        table.close()
        loop_clock.advance(2 * RETENTION_S)
        for _ in range(3):
            await asyncio.sleep(0)

        assert not freed.is_set()


def test_a_table_that_outlives_its_event_loop_sets_a_timer_on_the_next() -> None:
    """A bare TestClient runs each request on a loop of its own."""
    table = StreamTable(retention_s=0.01, bytes_max=1_000_000)
    freed: list[str] = []

    async def first() -> None:
        stream = make_stream("first")
        weakref.finalize(stream, freed.append, "first")
        table.add(stream)
        end(table, stream)

    async def second() -> None:
        gone = asyncio.Event()
        stream = make_stream("second")
        weakref.finalize(stream, gone.set)
        table.add(stream)
        end(table, stream)
        del stream
        async with asyncio.timeout(10):
            await gone.wait()

    asyncio.run(first())
    asyncio.run(second())

    assert freed == ["first"]
