"""Streams over a store in a file: what is written of them and when, and what the next process finds."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.core import clock
from archer_ws.core.exceptions import SessionNotFound, StorageUnavailable, StreamIdConflict, StreamNotFound
from archer_ws.core.limits import Limits
from archer_ws.llm_gateway.types import StreamChunk
from archer_ws.sessions import journaling
from archer_ws.sessions.changes import Watch
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.models import SessionChanged
from archer_ws.sessions.storage.journal import LogPart
from archer_ws.sessions.storage.sqlite.journal import SqliteJournal
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.streams.gates import ManagerLimits, ProviderGate, StreamQuota
from archer_ws.sessions.streams.memory_log import MemoryLog
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.tool_models import Steer
from archer_ws.sessions.views import chat_response, stream_info
from tests.fakes.scripted_gateway import ScriptedGateway
from tests.fakes.sqlite_files import sqlite_store
from tests.test_sessions.test_manager import ask, ended, events, start, until

LIMIT_S = 30
SOON = Limits(journal_every_s=0.01, settle_pauses_s=(0.0, 0.05, 0.05, 0.1, 0.2))


class Connection(sqlite3.Connection):
    """It counts commits, and fails where the test says so."""

    commits = 0
    fails = False
    #: A commit waits for it.
    may_go_on = threading.Event()
    may_go_on.set()

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql == "COMMIT":
            type(self).may_go_on.wait(LIMIT_S)
            type(self).commits += 1
            if type(self).fails:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
        return super().execute(sql, parameters)


@pytest.fixture
def connection() -> type[Connection]:
    class Counted(Connection):
        may_go_on = threading.Event()

    Counted.may_go_on.set()

    return Counted


@asynccontextmanager
async def process(
    folder: Path, gateway: ScriptedGateway, limits: ManagerLimits | None = None, **settings: Any
) -> AsyncIterator[tuple[SessionManager, SqliteStore]]:
    """A server of these objects, from its start on. At the end it is left as a kill leaves it: nothing more is
    written."""
    store = sqlite_store(folder, **settings)
    await store.open()
    manager = SessionManager(
        new_log=MemoryLog,
        judge=FormatJudge(),
        gateway=gateway,
        orchestrator=Orchestrator(gateway),
        store=store,
        quota=StreamQuota(max_streams=100, max_per_principal=100),
        gates={"ollama": ProviderGate("ollama", concurrency=100, queue=100)},
        limits=limits,
        bounds=SOON,
    )
    await manager.recover()
    if await store.principals() == []:
        await store.create("me", "s", None, None)
    try:
        yield manager, store
    finally:
        await store.aclose()
        await manager.aclose()


def rows(folder: Path, sql: str) -> list[Any]:
    """What the closed file has."""
    connection = sqlite3.connect(folder / "archer.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def until_forgotten(store: SqliteStore, stream_id: str) -> None:
    """Until the file has nothing of the stream."""
    async with asyncio.timeout(LIMIT_S):
        while await store.journal.load(("me", stream_id)) is not None:  # noqa: ASYNC110 - another thread brings it about
            await asyncio.sleep(0.005)


async def until_true(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)


async def until_written(store: SqliteStore, stream: Stream, seq: int) -> None:
    """Until the file has the stream up to that event."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            pieces = await store.journal.load(("me", stream.stream_id))
            if pieces and pieces[-1].last_seq >= seq:
                return
            await asyncio.sleep(0.005)


async def said(manager: SessionManager, gateway: ScriptedGateway, *pieces: str, **fields: Any) -> Stream:
    """A running stream that has these."""
    number = len(gateway.calls)
    stream = (await start(manager, ask("Why?", session_id="s", **fields))).stream
    call = await gateway.call(number)
    call.say(*pieces)
    await until(stream, 1 + len(pieces))
    return stream


async def test_a_lost_stream_is_ended_with_the_text_that_was_kept_and_its_session_has_it(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        stream = await said(manager, gateway, "Blue ", "light", stream_id="x")
        await until_written(store, stream, 3)
        before = stream_info(stream)

    async with process(tmp_path, gateway) as (manager, store):
        found = manager.find("me", "x")
        info = stream_info(found)
        assert (info.status, info.text_bytes, info.created_at) == ("incomplete", 10, before.created_at)
        assert (info.provider, info.model, info.session_id) == (before.provider, before.model, "s")
        assert info.error is not None
        assert (info.error.kind, info.error.request_id, info.error.stream_id) == ("worker_lost", "req_1", "x")

        held = await start(manager, ask("Why?", session_id="s", stream_id="x"))
        assert (held.duplicate, held.stream) == (True, found)
        assert chat_response(found).content == "Blue light"
        assert events(found)[-1] == found.log.ended
        with pytest.raises(StreamIdConflict):
            await start(manager, ask("Why not?", session_id="s", stream_id="x"))
        with pytest.raises(StreamNotFound):
            manager.find("another", "x")

        question, answer = await store.messages("me", "s")
        assert (answer.content, answer.status, answer.parent_id) == ("Blue light", "incomplete", question.message_id)
        assert (answer.stream_id, answer.error) == ("x", info.error)
        # The conversation goes on.
        again = ask("Why?", session_id="s", replace_from=question.message_id)
        retried = (await start(manager, again)).stream
        call = await gateway.call(1)
        call.say("Because")
        call.finish()
        assert (await ended(retried)).status == "completed"
    assert len(gateway.calls) == 2


async def test_an_ended_stream_is_there_after_a_restart_as_it_was(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as (manager, _):
        stream = (await start(manager, ask("Why?", session_id="s", stream_id="x"))).stream
        call = await gateway.call()
        call.say(
            StreamChunk(content="", reasoning="Hm"),
            "Let me see.",
            StreamChunk(content="", call_id="k", name="look", arguments='{"at": 1}'),
        )
        call.finish("tool_calls")
        await ended(stream)
        told, whole = events(stream), chat_response(stream)

    for _ in range(2):
        async with process(tmp_path, gateway) as (manager, _):
            found = (await start(manager, ask("Why?", session_id="s", stream_id="x"))).stream
            assert chat_response(found) == whole
            assert [(event.seq, type(event)) for event in events(found)] == [(event.seq, type(event)) for event in told]
            assert events(found) == told


async def test_nothing_is_written_of_a_stream_without_a_session_or_of_a_server_that_has_nothing_to_do(
    tmp_path: Path, gateway: ScriptedGateway, connection: type[Connection]
) -> None:
    async with process(tmp_path, gateway, factory=connection) as (manager, store):
        kept = await said(manager, gateway, "a", stream_id="x")
        await until_written(store, kept, 2)
        before = connection.commits
        plain = (await start(manager, ask())).stream
        call = await gateway.call(1)
        call.say(*"bcd")
        await until(plain, 4)
        for _ in range(20):  # As many times as it would be written.
            await asyncio.sleep(SOON.journal_every_s)
        call.finish()
        await ended(plain)
        assert connection.commits == before
    assert rows(tmp_path, "SELECT stream_id FROM stream") == [("x",)]


async def test_the_end_is_on_the_disk_before_it_is_told(
    tmp_path: Path, gateway: ScriptedGateway, connection: type[Connection]
) -> None:
    async with process(tmp_path, gateway, factory=connection) as (manager, store):
        stream = await said(manager, gateway, "a")
        connection.fails = True
        (await gateway.call()).finish()

        end = await ended(stream)

        assert (end.status, end.stored) == ("completed", False)
        connection.fails = False
        # In one commit with the answer, once there is room.
        async with asyncio.timeout(LIMIT_S):
            while len(await store.messages("me", "s")) < 2:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
    assert rows(tmp_path, "SELECT status, ended IS NOT NULL FROM stream") == [("completed", 1)]
    assert rows(tmp_path, "SELECT first_seq, last_seq, text FROM chunk WHERE kind = 'content'") == [(2, 2, "a")]


async def test_what_comes_while_the_disk_is_full_is_written_when_it_has_room(
    tmp_path: Path, gateway: ScriptedGateway, connection: type[Connection]
) -> None:
    async with process(tmp_path, gateway, factory=connection) as (manager, store):
        stream = await said(manager, gateway, "a", stream_id="x")
        await until_written(store, stream, 2)
        connection.fails = True
        call = await gateway.call()
        call.say("b", "c")
        await until(stream, 4)
        await until_true(lambda: store.trouble is not None)
        call.say("d")
        await until(stream, 5)
        connection.fails = False
        await until_written(store, stream, 5)
    async with process(tmp_path, gateway) as (manager, _):
        found = (await start(manager, ask("Why?", session_id="s", stream_id="x"))).stream
        assert chat_response(found).content == "abcd"


async def test_what_is_too_much_for_one_commit_is_written_in_several(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archer_ws.sessions.journaling._BYTES_AT_ONCE", 1)
    async with process(tmp_path, gateway) as (manager, store):
        streams = []
        for number in range(5):
            await store.create("me", f"s{number}", None, None)
            asked = ask(session_id=f"s{number}", stream_id=f"x{number}")
            streams.append((await start(manager, asked)).stream)
            (await gateway.call(number)).say("a", "b")
        for stream in streams:
            await until_written(store, stream, 3)


async def test_messages_steered_in_while_other_streams_are_written_leave_no_piece_within_another(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journaling, "_BYTES_AT_ONCE", 0)  # Each stream has a commit of its own.
    put, is_writing, may_go_on = SqliteJournal.put, asyncio.Event(), asyncio.Event()

    async def put_other_late(journal: SqliteJournal, parts: Sequence[LogPart], forgotten: Any = ()) -> None:
        if is_slow and parts and parts[0].key[1] == "other":
            is_writing.set()
            await may_go_on.wait()
        await put(journal, parts, forgotten)

    monkeypatch.setattr(SqliteJournal, "put", put_other_late)
    is_slow = False
    async with process(tmp_path, gateway) as (manager, store):
        other = await said(manager, gateway, "a", stream_id="other")
        await store.create("me", "s2", None, None)
        stream = (await start(manager, ask("Why?", session_id="s2", stream_id="steered"))).stream
        call = await gateway.call(1)
        call.say("one ")
        for each, seq in ((other, 2), (stream, 2)):
            await until_written(store, each, seq)
        is_slow = True
        gateway.calls[0].say("b")
        async with asyncio.timeout(LIMIT_S):
            await is_writing.wait()
        for number, text in enumerate(("two ", "three "), 3):
            call.say(text)
            await until(stream, number)
            message = Steer(message_id=f"m{number}", content="Briefly")
            assert (await manager.calls.steer("me", "steered", message)).outcome == "accepted"
        call.say("four ")
        await until(stream, 5)
        written = manager._journaling._written if manager._journaling is not None else {}
        may_go_on.set()
        await until_true(lambda: written[stream] == 5)
        call.say("five")
        await until_true(lambda: written[stream] == 6)
    async with process(tmp_path, gateway) as (manager, store):
        lost = manager.find("me", "steered")
        await lost.wait_admitted()
        assert lost.log.text("content") == "one two three four five"


def recover_on_a_full_disk(connection: type[Connection], monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a manager finds the disk full when it begins."""
    recover = SessionManager.recover

    async def on_a_full_disk(manager: SessionManager) -> None:
        connection.fails = True
        await recover(manager)

    monkeypatch.setattr(SessionManager, "recover", on_a_full_disk)


async def test_watchers_are_told_when_what_was_lost_is_stored_at_last(
    tmp_path: Path, gateway: ScriptedGateway, connection: type[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        await until_written(store, await said(manager, gateway, "a", stream_id="x"), 2)
        before = (await store.get("me", "s")).version
    recover_on_a_full_disk(connection, monkeypatch)
    async with process(tmp_path, gateway, factory=connection) as (manager, store):
        told: asyncio.Queue[SessionChanged] = asyncio.Queue()
        watch = Watch("me", told.put_nowait)
        watch.wants_all = True
        manager.changes.add(watch)
        connection.fails = False
        async with asyncio.timeout(LIMIT_S):
            change = await told.get()
        assert (change.session_id, change.active) == ("s", [])
        assert change.version == (await store.get("me", "s")).version != before


async def test_what_was_lost_is_there_on_a_full_disk_and_is_ended_on_it_when_there_is_room(
    tmp_path: Path, gateway: ScriptedGateway, connection: type[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        stream = await said(manager, gateway, "a", stream_id="x")
        await until_written(store, stream, 2)
    recover_on_a_full_disk(connection, monkeypatch)
    async with process(tmp_path, gateway, factory=connection) as (manager, store):
        found = (await start(manager, ask("Why?", session_id="s", stream_id="x"))).stream
        told, end = events(found), found.log.ended
        assert end is not None
        assert (chat_response(found).content, end.status, end.stored) == ("a", "incomplete", False)
        assert [each.content for each in await store.messages("me", "s")] == ["Why?"]
        connection.fails = False
        async with asyncio.timeout(LIMIT_S):
            while len(await store.messages("me", "s")) < 2:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        assert [each.content for each in await store.messages("me", "s")] == ["Why?", "a"]
        # What was told stays so.
        assert manager.find("me", "x") is found
        assert events(found) == told
    assert rows(tmp_path, "SELECT status, ended IS NOT NULL FROM stream") == [("incomplete", 1)]


async def test_no_stream_is_said_to_be_unknown_while_those_of_before_can_not_be_read(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        stream = await said(manager, gateway, "a", stream_id="x")
        await until_written(store, stream, 2)
    recover, is_broken = SqliteJournal.recover, True

    async def fail_at_first(journal: SqliteJournal, *given: Any, **how: Any) -> Any:
        if is_broken:
            raise StorageUnavailable("the disk fails")
        return await recover(journal, *given, **how)

    monkeypatch.setattr(SqliteJournal, "recover", fail_at_first)
    async with process(tmp_path, gateway) as (manager, store):
        with pytest.raises(StorageUnavailable, match="before the restart"):
            await manager.locate("me", "x")
        with pytest.raises(StorageUnavailable, match="before the restart"):
            await start(manager, ask("Why?", session_id="s", stream_id="x"))
        alone = (await start(manager, ask("Why?", stream_id="x"), principal="you")).stream  # No store is needed.
        alone.cancel("client")
        is_broken = False
        await until_true(lambda: bool(manager.list_streams("me").items))
        assert stream_info(await manager.locate("me", "x")).status == "incomplete"
        with pytest.raises(StreamNotFound):
            await manager.locate("me", "y")


async def test_a_stream_of_this_process_is_not_taken_for_a_lost_one(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        stream = await said(manager, gateway, "a", stream_id="x")
        await until_written(store, stream, 2)
        await manager.recover()  # As when the first time failed.
        assert stream.status == "running"
        assert (await gateway.call()).closed.is_set() is False
        assert [each.content for each in await store.messages("me", "s")] == ["Why?"]


async def test_a_stream_is_forgotten_on_the_disk_when_it_is_in_memory(tmp_path: Path, gateway: ScriptedGateway) -> None:
    briefly = ManagerLimits(retention_s=0.05)
    async with process(tmp_path, gateway, briefly) as (manager, store):
        stream = await said(manager, gateway, "a", stream_id="x")
        (await gateway.call()).finish()
        await ended(stream)
        await until_forgotten(store, "x")
        lost = await said(manager, gateway, "b", stream_id="y")
        await until_written(store, lost, 2)
    async with process(tmp_path, gateway, briefly) as (_, store):
        # And what was lost, so long after the restart.
        await until_forgotten(store, "y")
    assert rows(tmp_path, "SELECT count(*) FROM chunk") == [(0,)]


async def test_nothing_is_written_once_a_stream_is_forgotten(
    tmp_path: Path, gateway: ScriptedGateway, connection: type[Connection]
) -> None:
    briefly = ManagerLimits(retention_s=0.05)
    async with process(tmp_path, gateway, briefly, factory=connection) as (manager, store):
        stream = await said(manager, gateway, "a", stream_id="x")
        (await gateway.call()).finish()
        await ended(stream)
        await until_forgotten(store, "x")
        await until_true(lambda: manager._journaling is not None and not manager._journaling._is_writing)
        before = connection.commits
        for _ in range(20):  # As many times as it would be written.
            await asyncio.sleep(SOON.journal_every_s)
        assert connection.commits == before


async def test_an_id_that_was_forgotten_a_moment_ago_is_a_new_stream(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway, ManagerLimits(retention_s=0.0)) as (manager, store):
        for number in range(5):
            stream = (await start(manager, ask(f"q{number}", session_id="s", stream_id="x"))).stream
            call = await gateway.call(number)
            call.say("a")
            if number < 4:
                call.finish()
                await ended(stream)
        await until_written(store, stream, 2)
        for _ in range(10):  # What is to be forgotten is forgotten by now.
            await asyncio.sleep(SOON.journal_every_s)
        assert await store.journal.load(("me", "x"))


async def test_a_stream_that_was_refused_leaves_nothing(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as (manager, _):
        with pytest.raises(Exception, match="no session"):
            await start(manager, ask(session_id="other", stream_id="x"))
    assert rows(tmp_path, "SELECT count(*) FROM stream") == [(0,)]


async def test_a_question_that_was_refused_is_not_there_when_the_disk_has_taken_it_after_all(
    tmp_path: Path, gateway: ScriptedGateway, connection: type[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.test_sessions.test_journaling.SOON", replace(SOON, store_limit_s=0.2, admit_limit_s=0.3))
    async with process(tmp_path, gateway, factory=connection) as (manager, store):
        call = asyncio.create_task(gateway.call())
        first = (await start(manager, ask("Why?", session_id="s"))).stream
        (await call).finish()
        await ended(first)
        connection.may_go_on.clear()
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await start(manager, ask("Why not?", session_id="s", stream_id="x"))
        connection.may_go_on.set()

        again = (await start(manager, ask("Why not?", session_id="s", stream_id="x"))).stream

        assert again.status == "running"
        assert [each.content for each in await store.messages("me", "s")] == ["Why?", "Why not?"]
        assert (await store.get("me", "s")).message_count == 2
    found = "SELECT stream_id FROM stream JOIN session ON session.pk = session_pk WHERE session_id = 's'"
    assert [name for (name,) in rows(tmp_path, found)] == [first.stream_id, "x"]


async def test_streams_go_from_the_disk_with_their_session(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        stream = await said(manager, gateway, "a secret", stream_id="x")
        await until_written(store, stream, 2)
    async with process(tmp_path, gateway) as (manager, store):
        await store.delete("me", "s")
        for _ in range(2):  # As a stream that went, and as one that never was.
            with pytest.raises(SessionNotFound):
                await start(manager, ask("Why?", session_id="s", stream_id="x"))
        with pytest.raises(StreamNotFound):
            manager.find("me", "x")
    assert rows(tmp_path, "SELECT (SELECT count(*) FROM stream), (SELECT count(*) FROM chunk)") == [(0, 0)]
    assert not any(b"a secret" in file.read_bytes() for file in tmp_path.glob("archer.db*"))


async def test_a_text_that_cannot_be_read_is_said_to_be_so_and_is_there_the_next_time(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        stream = await said(manager, gateway, "a", stream_id="x")
        await until_written(store, stream, 2)
    async with process(tmp_path, gateway) as (manager, store):

        async def fail(key: object) -> None:
            raise StorageUnavailable("the disk fails")

        with monkeypatch.context() as patched:
            patched.setattr(store.journal, "load", fail)
            with pytest.raises(StorageUnavailable):
                await start(manager, ask("Why?", session_id="s", stream_id="x"))
        found = (await start(manager, ask("Why?", session_id="s", stream_id="x"))).stream
        assert chat_response(found).content == "a"


async def test_a_text_is_in_memory_while_somebody_reads_it(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        stream = await said(manager, gateway, "a" * 10_000, stream_id="x")
        await until_written(store, stream, 2)
    async with process(tmp_path, gateway) as (manager, _):
        found = manager.find("me", "x")
        small = found.size_bytes
        for _ in range(2):
            first = await start(manager, ask("Why?", session_id="s", stream_id="x"))
            second = await start(manager, ask("Why?", session_id="s", stream_id="x"))
            assert found.size_bytes > small + 10_000
            assert manager._table.ended_bytes == found.size_bytes
            first.hold.release()
            await asyncio.sleep(0)
            assert len(chat_response(found).content) == 10_000
            second.hold.release()
            # Still within this turn of the loop.
            assert len(chat_response(found).content) == 10_000
            await asyncio.sleep(0)
            assert found.size_bytes == small == manager._table.ended_bytes


async def test_a_row_that_is_damaged_keeps_the_server_from_nothing(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        for name in "xyz":
            stream = await said(manager, gateway, "a", stream_id=name, on_busy="interrupt")
            await until_written(store, stream, 2)
    connection = sqlite3.connect(tmp_path / "archer.db")
    with connection:
        connection.execute("UPDATE stream SET ended = '{}', status = 'completed' WHERE stream_id = 'x'")
        connection.execute("UPDATE chunk SET text = '{' WHERE kind = 'started' AND stream_pk = 2")
    connection.close()
    async with process(tmp_path, gateway) as (manager, store):
        assert [each.stream_id for each in manager.list_streams("me").items] == ["z", "y"]
        asked = {name: ask("Why?", session_id="s", stream_id=name, on_busy="interrupt") for name in "yz"}
        with pytest.raises(StorageUnavailable) as refused:
            await start(manager, asked["y"])
        assert not refused.value.retryable
        assert chat_response((await start(manager, asked["z"])).stream).content == "a"


@pytest.mark.parametrize("text", ["ää", "ä", "bä"], ids=["longer", "shorter", "within a character"])
async def test_a_text_that_is_damaged_keeps_no_other_stream_from_being_ended(
    tmp_path: Path, gateway: ScriptedGateway, text: str
) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        await store.create("me", "other", None, None)
        for session_id in ("s", "other"):
            stream = (await start(manager, ask("Why?", session_id=session_id, stream_id=session_id))).stream
            call = await gateway.call(len(gateway.calls) - 1)
            call.say("ä", "b")
            await until_written(store, stream, 3)
    connection = sqlite3.connect(tmp_path / "archer.db")
    with connection:
        # The offsets where its pieces end no longer fit it.
        connection.execute("UPDATE chunk SET text = ? WHERE kind = 'content' AND stream_pk = 1", (text,))
    connection.close()
    async with process(tmp_path, gateway) as (manager, store):
        damaged, whole = manager.find("me", "s"), manager.find("me", "other")
        assert (damaged.status, whole.status) == ("incomplete", "incomplete")
        assert [each.content for each in await store.messages("me", "other")] == ["Why?", "äb"]
        with pytest.raises(StorageUnavailable):
            await damaged.wait_admitted()


@pytest.mark.parametrize("year", [1971, 2100])
async def test_a_clock_that_jumps_loses_no_stream(
    tmp_path: Path, gateway: ScriptedGateway, year: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(tmp_path, gateway) as (manager, store):
        lost = await said(manager, gateway, "a", stream_id="x")
        await until_written(store, lost, 2)
    jumped = datetime(year, 1, 1, tzinfo=UTC)
    for module in ("journaling", "storage.sqlite.journal", "storage.sqlite.messages", "streams.stream"):
        monkeypatch.setattr(f"archer_ws.sessions.{module}.utc_now", lambda: jumped)
    assert clock.utc_now() != jumped
    async with process(tmp_path, gateway) as (manager, store):
        found = (await start(manager, ask("Why?", session_id="s", stream_id="x"))).stream
        assert chat_response(found).content == "a"
        assert [each.content for each in await store.messages("me", "s")] == ["Why?", "a"]
        other = await said(manager, gateway, "b", stream_id="y")
        (await gateway.call(1)).finish()
        assert (await ended(other)).status == "completed"
