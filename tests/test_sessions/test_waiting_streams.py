"""What the journal in a file keeps of streams that wait for results, and what the next process finds of them."""

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from archer_ws.core.clock import utc_now
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.sessions.storage.journal import (
    KeptStream,
    LogEnd,
    LogPart,
    LogPiece,
    StreamKey,
    StreamRecord,
    WaitingStream,
)
from archer_ws.sessions.storage.message import chat_of
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.storage.values import EarlierMessage, StoredCompletion
from tests.fakes.sqlite_files import sqlite_store

KEY: StreamKey = ("ann", "str_1")
PIECES = [LogPiece(1, 1, "started", b"{}", None), LogPiece(2, 2, "content", b"Hm.", b"\x03\0\0\0")]
CALLED = StoredCompletion("", "completed", calls=[ToolCall(call_id="c1", name="now", arguments="{}")])
LOST = EarlierMessage(
    ChatMessage.model_validate({"role": "tool", "call_id": "c1", "content": "gone", "status": "lost"})
)
LEFT = StoredCompletion("", "incomplete", earlier=[EarlierMessage(chat_of(CALLED), CALLED), LOST])


@asynccontextmanager
async def process(folder: Path) -> AsyncIterator[SqliteStore]:
    """A process with the store of this folder."""
    store = sqlite_store(folder)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


def record(stream_id: str = "str_1") -> StreamRecord:
    return StreamRecord("ann", stream_id, "s1", "ollama", "m", "req_1", b"f", utc_now())


async def begin(store: SqliteStore, stream_id: str = "str_1") -> str:
    """A stream is accepted; the id of its question."""
    await store.create("ann", "s1", None, None)
    turn = [ChatMessage.model_validate({"role": "user", "content": "What time is it?"})]
    stored = await store.begin_turn("ann", "s1", turn, stream_id=stream_id, record=record(stream_id))
    return stored.messages[-1].message_id


def its_end(status: Any = "completed", pieces: Sequence[LogPiece] = ()) -> LogEnd:
    return LogEnd(99, status, utc_now(), lambda ids: json.dumps(list(ids)), pieces)


class Ends:
    """What is asked to end streams: those whose loop waits go on; it remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, list[LogPiece], str | None]] = []

    def __call__(
        self, lost: StreamRecord, pieces: Sequence[LogPiece], loop: str | None
    ) -> tuple[StoredCompletion, LogEnd] | None:
        self.given.append((lost.stream_id, list(pieces), loop))
        return None if loop is not None and "waits" in loop else (LEFT, its_end("incomplete"))


def waiting_column(folder: Path) -> list[str | None]:
    connection = sqlite3.connect(folder / "archer.db")
    try:
        return [waiting for (waiting,) in connection.execute("SELECT waiting FROM stream ORDER BY pk")]
    finally:
        connection.close()


async def test_a_stream_that_waits_goes_on_in_the_next_process_with_its_log_and_its_loop(tmp_path: Path) -> None:
    async with process(tmp_path) as store:
        await begin(store)
        await store.journal.put([LogPart(KEY, PIECES[:1], loop='{"waits": 1}')])
        await store.journal.put([LogPart(KEY, PIECES[1:])])
    for _ in range(2):
        async with process(tmp_path) as store:
            ends = Ends()
            (found,) = await store.journal.recover(ends)
            assert found == WaitingStream(found.record, PIECES, '{"waits": 1}')
            assert (found.record.stream_id, found.record.session_id, found.record.model) == ("str_1", "s1", "m")
            assert ends.given == [("str_1", PIECES, '{"waits": 1}')]
            assert len(await store.messages("ann", "s1")) == 1, "nothing is stored of it yet"


async def test_a_stream_that_went_on_waiting_takes_more_and_ends_like_any_other(tmp_path: Path) -> None:
    async with process(tmp_path) as store:
        question = await begin(store)
        await store.journal.put([LogPart(KEY, PIECES, loop='{"waits": 1}')])
    more = LogPiece(3, 3, "tool_result", b"{}", None)
    async with process(tmp_path) as store:
        await store.journal.recover(Ends())
        await store.journal.put([LogPart(KEY, [more], loop='{"waits": 2}')])
    assert waiting_column(tmp_path) == ['{"waits": 2}']
    async with process(tmp_path) as store:
        (found,) = await store.journal.recover(Ends())
        assert isinstance(found, WaitingStream)
        assert (found.pieces, found.loop) == ([*PIECES, more], '{"waits": 2}')
        last = LogPiece(4, 4, "tool_result", b"{}", None)
        left = await store.append_completion(
            "ann", "s1", LEFT, after=question, stream_id="str_1", end=its_end("completed", [last])
        )
        assert await store.journal.load(KEY) == [*PIECES, more, last]
        await store.journal.put([LogPart(KEY, [], loop="late")])
    assert waiting_column(tmp_path) == [None]
    async with process(tmp_path) as store:
        ends = Ends()
        (kept,) = await store.journal.recover(ends)
        assert isinstance(kept, KeptStream)
        assert (kept.status, json.loads(kept.ended), ends.given) == ("completed", left, [])


async def test_what_does_not_wait_is_ended_with_all_its_messages_and_tells_their_ids(tmp_path: Path) -> None:
    async with process(tmp_path) as store:
        await begin(store)
        await store.journal.put([LogPart(KEY, PIECES, loop='{"runs": 2}')])
    async with process(tmp_path) as store:
        ends = Ends()
        (kept,) = await store.journal.recover(ends)
        assert isinstance(kept, KeptStream)
        assert ends.given == [("str_1", PIECES, '{"runs": 2}')]
        messages = await store.messages("ann", "s1")
        assert [(message.role, message.result_status) for message in messages] == [
            ("user", None),
            ("assistant", None),
            ("tool", "lost"),
        ]
        assert json.loads(kept.ended) == [message.message_id for message in messages]
    assert waiting_column(tmp_path) == [None]


async def test_a_loop_stays_until_another_is_told_and_goes_at_the_end(tmp_path: Path) -> None:
    for loops, kept in (
        ([None], None),
        (["a", None], "a"),
        (["a", "b"], "b"),
    ):
        folder = tmp_path / "".join(loop or "-" for loop in loops)
        async with process(folder) as store:
            await begin(store)
            for loop in loops:
                await store.journal.put([LogPart(KEY, [], loop=loop)])
        assert waiting_column(folder) == [kept]
        async with process(folder) as store:
            await store.journal.put([LogPart(KEY, [], its_end(), loop="c")])
        assert waiting_column(folder) == [None]


async def test_of_many_streams_those_that_wait_go_on_and_the_others_end(tmp_path: Path) -> None:
    async with process(tmp_path) as store:
        for number in range(6):
            await begin(store, f"str_{number}")
        waits = [LogPart(("ann", f"str_{number}"), [], loop="waits") for number in (1, 4)]
        await store.journal.put([*waits, LogPart(("ann", "str_2"), [], its_end())])
    async with process(tmp_path) as store:
        # What this process began is not lost.
        await begin(store, "str_new")
        found = await store.journal.recover(Ends())
        assert [(each.record.stream_id, type(each)) for each in found] == [
            (f"str_{number}", WaitingStream if number in {1, 4} else KeptStream) for number in range(6)
        ]


async def test_a_stream_that_waits_goes_with_its_session_and_when_it_is_forgotten(tmp_path: Path) -> None:
    async with process(tmp_path) as store:
        await begin(store)
        await store.journal.put([LogPart(KEY, PIECES, loop="waits")])
        await store.delete("ann", "s1")
        await begin(store, "str_2")
        await store.journal.put([LogPart(("ann", "str_2"), [], loop="waits")])
        await store.journal.put([], [("ann", "str_2")])
        await store.journal.put([LogPart(KEY, PIECES, loop="waits")])
    async with process(tmp_path) as store:
        assert await store.journal.recover(Ends()) == []
