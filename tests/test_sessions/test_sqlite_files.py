"""The file itself: whose it is, who touches it, how it grows from version to version, and what is left of deletions."""

import asyncio
import contextlib
import queue
import random
import sqlite3
import stat
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from archer_ws.core.clock import utc_now
from archer_ws.core.exceptions import InvalidParams, SessionNotFound, StorageFull, StorageUnavailable, Unsupported
from archer_ws.llm_gateway.native_turns import NativeBlocks, NativeCall, NativeTurn
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ChatMessage, MessageRole, Refusal
from archer_ws.sessions.history import without_refused
from archer_ws.sessions.models import ExportedSession, StoredMessage
from archer_ws.sessions.storage.journal import KeptStream, LogEnd, LogPart, LogPiece, StreamRecord
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.storage.sqlite import forgetting, history, search_index, search_scan, sessions
from archer_ws.sessions.storage.sqlite.database import CHECKPOINT_AFTER_S, FileSettings, OpenDatabase
from archer_ws.sessions.storage.sqlite.forgetting import EVERY_S, SOON_S, Forgetting
from archer_ws.sessions.storage.sqlite.leftovers import Leftovers
from archer_ws.sessions.storage.sqlite.rows import HistoryRow, SessionRow
from archer_ws.sessions.storage.sqlite.schema import STEPS
from archer_ws.sessions.storage.sqlite.search_index import SearchIndex
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.storage.sqlite.transaction import Transaction
from archer_ws.sessions.storage.values import StoredCompletion
from archer_ws.sessions.storage.words import indexed_before
from archer_ws.sessions.streams.lost import end_lost
from archer_ws.sessions.streams.pieces import ended_in
from tests.fakes.locks import without_locks
from tests.fakes.manual_clock import ManualClock
from tests.fakes.sqlite_files import BYTES_MAX, opened, sqlite_store

LIMIT_S = 60


async def say(store: SqliteStore, session_id: str, content: str, principal: str = "ann", **fields: Any) -> str:
    turn = [ChatMessage(role=MessageRole.USER, content=content)]
    stored = await store.begin_turn(principal, session_id, turn, stream_id="str_1", **fields)
    return stored.messages[-1].message_id


@pytest.mark.parametrize("without_fts", [False, True], ids=["with the index", "without it"])
async def test_a_page_or_a_search_takes_no_more_memory_than_one_long_message(
    tmp_path: Path, *, without_fts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_scan, "SCAN_S", 60.0)  # A scan of one request, however slow the machine is.
    async with opened(tmp_path, without_fts=without_fts) as store:
        await store.create("ann", "s1", None, None)
        for number in range(20):
            await say(store, "s1", f"{number} {'sky ' * 250_000}")
        tracemalloc.start()
        try:
            _, messages = await store.detail("ann", "s1", None, 20, bytes_max=1_500_000)
            found = await store.search("ann", "sky", 20, None)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert [message.content.split()[0] for message in messages] == ["18", "19"]
    assert len(found.items) == 20
    assert most < 8_000_000


async def test_copying_replacing_and_indexing_many_long_messages_takes_the_memory_of_a_few(tmp_path: Path) -> None:
    async with opened(tmp_path, without_fts=True) as store:
        await store.create("ann", "s1", None, None)
        first = await say(store, "s1", "first")
        for number in range(40):
            await say(store, "s1", f"{number} {'sky ' * 250_000}")
    tracemalloc.start()
    try:
        async with opened(tmp_path) as store:  # Which builds the index.
            assert len((await store.search("ann", "sky", 50, None)).items) == 40
            await store.fork("ann", "s1", new_session_id="s2")
            assert len((await store.search("ann", "sky", 100, None)).items) == 80
            await say(store, "s1", "instead", replace_from=first)
            assert len((await store.search("ann", "sky", 100, None)).items) == 40
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 12_000_000


async def contents(store: SqliteStore, session_id: str) -> list[str]:
    return [message.content for message in await store.messages("ann", session_id)]


async def test_what_was_stored_is_there_again_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create("ann", "s1", "Sky", {"n": 1})
        question = await say(store, "s1", "why?")
        await store.append_completion(
            "ann", "s1", StoredCompletion("so", "completed"), after=question, stream_id="str_1"
        )
        session, messages = await store.detail("ann", "s1", None, 10)
        listed = await store.page("ann", 10, None, order="updated")
    async with opened(tmp_path) as store:
        assert await store.detail("ann", "s1", None, 10) == (session, messages)
        assert await store.page("ann", 10, None, order="updated") == listed
        assert len((await store.search("ann", "so", 10, None)).items) == 1
        # Also not stored twice, for who could not know whether it was.
        await store.append_completion(
            "ann", "s1", StoredCompletion("so", "completed"), after=question, stream_id="str_1"
        )
        assert await contents(store, "s1") == ["why?", "so"]


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    with pytest.raises(StorageUnavailable, match="not open"):
        await store.get("ann", "s1")
    await store.open()
    await store.open()
    await store.aclose()
    await store.aclose()
    with pytest.raises(StorageUnavailable, match="not open"):
        await store.get("ann", "s1")


async def test_the_event_loop_s_thread_never_touches_the_file(tmp_path: Path) -> None:
    seen: set[int] = set()

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            seen.add(threading.get_ident())
            return super().execute(sql, parameters)

        def close(self) -> None:
            seen.add(threading.get_ident())
            super().close()

    async with opened(tmp_path / "kept", factory=Watched) as store:
        await store.create("ann", "s1", None, None)
        question = await say(store, "s1", "why?")
        await store.append_completion(
            "ann", "s1", StoredCompletion("so", "completed"), after=question, stream_id="str_1"
        )
        await store.history("ann", "s1", before=question, turn_tokens=0, budget_tokens=10)
        await store.update("ann", "s1", "title", None)
        await store.search("ann", "why", 10, None)
        await store.detail("ann", "s1", None, 5)
        await store.fork("ann", "s1")
        (first, *_) = [each async for each in store.export("ann")]
        await store.import_session("bob", first)
        await store.backup(tmp_path / "copy")
        await store.delete("ann", "s1")
        await store.delete_all("ann")
    assert len(seen) == 1
    assert threading.get_ident() not in seen


@pytest.fixture
def waits_told(monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[dict[str, Any]]:
    """What the log says of a start that waits; the first line comes at once."""
    told: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def tell(event: str, **facts: Any) -> None:
        told.put({"event": event, **facts})

    monkeypatch.setattr("archer_ws.core.slow_start.FIRST_S", 0.01)
    monkeypatch.setattr("archer_ws.core.slow_start.log.warning", tell)
    return told


@pytest.mark.parametrize("hangs", ["the folder", "the file"])
async def test_a_start_that_waits_for_its_disk_says_what_it_waits_for(
    tmp_path: Path, hangs: str, waits_told: queue.SimpleQueue[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()

    class Hanging(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if hangs == "the file" and "quick_check" in sql:
                may_go_on.wait(LIMIT_S)
            return super().execute(sql, parameters)

    make = Path.mkdir

    def make_slowly(path: Path, *arguments: Any, **options: Any) -> None:
        if hangs == "the folder" and path == tmp_path / "kept":
            may_go_on.wait(LIMIT_S)
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", make_slowly)
    store = sqlite_store(tmp_path / "kept", factory=Hanging)
    opening = asyncio.create_task(store.open())
    line = await asyncio.to_thread(waits_told.get, timeout=LIMIT_S)
    assert line["event"] == "start_waits"
    assert hangs in line["waits_for"]
    assert str(tmp_path / "kept") in line["place"]
    assert "ARCHER_DATA_DIR" in line["hint"]

    may_go_on.set()
    await opening
    await store.aclose()


async def test_nobody_else_may_read_the_folder_or_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "two"
    async with opened(folder) as store:
        await store.create("ann", "s1", None, None)
        await store.backup(folder / "copy.db")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {path.name for path in folder.iterdir()} == {"archer.db", "archer.db-wal", "archer.lock", "copy.db"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


async def test_requests_that_wait_are_stored_together_and_one_that_is_refused_undoes_no_other(tmp_path: Path) -> None:
    commits = 0

    class Counting(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            nonlocal commits
            commits += sql == "COMMIT"
            return super().execute(sql, parameters)

    async with opened(tmp_path, factory=Counting) as store:
        await store.create("ann", "s1", None, None)
        free = threading.Event()
        holding = asyncio.create_task(store._worker.run(lambda _: free.wait(LIMIT_S), writes=True))
        await asyncio.sleep(0)
        commits = 0
        asked = [say(store, "s1", f"m{number}") for number in range(20)]
        asked += [say(store, "s1", "refused", replace_from="msg_unknown"), say(store, "unknown", "refused")]
        waiting = asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0)
        free.set()
        found = await waiting
        await holding
        assert [type(each) for each in found[-2:]] == [InvalidParams, SessionNotFound]
        assert await contents(store, "s1") == [f"m{number}" for number in range(20)]
        assert commits < 10


@pytest.mark.parametrize("writes", [True, False])
async def test_a_request_whose_caller_left_while_an_earlier_one_of_its_group_ran_does_not_run(
    tmp_path: Path, writes: bool
) -> None:
    ran: list[str] = []
    async with opened(tmp_path) as store:
        free, is_running, may_end = threading.Event(), threading.Event(), threading.Event()
        holding = asyncio.create_task(store._worker.run(lambda _: free.wait(LIMIT_S), writes=True))
        await asyncio.sleep(0)

        def slow(_: sqlite3.Connection) -> None:
            is_running.set()
            may_end.wait(LIMIT_S)

        waiting = [
            asyncio.create_task(store._worker.run(job, writes=writes))
            for job in (slow, lambda _: ran.append("left"), lambda _: ran.append("waits"))
        ]
        await asyncio.sleep(0)
        free.set()
        assert await asyncio.to_thread(is_running.wait, LIMIT_S)
        waiting[1].cancel()
        await asyncio.wait((waiting[1],), timeout=LIMIT_S)
        may_end.set()
        await asyncio.gather(holding, waiting[0], waiting[2])
    assert ran == ["waits"]


async def test_a_defect_of_one_request_undoes_no_other_of_its_group(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create("ann", "s1", None, None)
        free = threading.Event()
        holding = asyncio.create_task(store._worker.run(lambda _: free.wait(LIMIT_S), writes=True))

        def defect(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE session SET title = 'by half'")
            raise ZeroDivisionError

        waiting = asyncio.gather(
            say(store, "s1", "before"),
            store._worker.run(defect, writes=True),
            say(store, "s1", "behind"),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        free.set()
        found = await waiting
        await holding
        assert isinstance(found[1], StorageUnavailable)
        assert await contents(store, "s1") == ["before", "behind"]
        assert (await store.get("ann", "s1")).title is None


async def test_a_request_that_is_refused_in_the_midst_of_its_work_leaves_nothing_and_undoes_no_other(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, bytes_max=1_000_000) as store:
        await store.create("ann", "s1", None, None)
        await say(store, "s1", "x" * 300_000)
        free = threading.Event()
        holding = asyncio.create_task(store._worker.run(lambda _: free.wait(LIMIT_S), writes=True))
        await asyncio.sleep(0)
        # It has made and filled the new session by the time that it sees that there is no room.
        waiting = asyncio.gather(
            say(store, "s1", "before"),
            store.fork("ann", "s1", new_session_id="s2"),
            say(store, "s1", "behind"),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        free.set()
        found = await waiting
        await holding
        assert isinstance(found[1], StorageFull)
        assert (await contents(store, "s1"))[1:] == ["before", "behind"]
        assert [each.session_id for each in (await store.page("ann", 10, None)).items] == ["s1"]
        assert [each.session_id for each in (await store.search("ann", "before", 10, None)).items] == ["s1"]


async def until_it_is_due_no_more(store: SqliteStore, clock: ManualClock) -> None:
    """What is due is done bit by bit, whenever the thread has nothing else to do."""
    async with asyncio.timeout(LIMIT_S):
        while store._database._forgetting.due_at is not None:
            clock.advance(EVERY_S)
            await store.principals()


def found_in(folder: Path, *words: bytes) -> dict[str, int]:
    files = {path.name: path.read_bytes().lower() for path in folder.iterdir()}
    return {name: count for name, held in files.items() if (count := sum(map(held.count, words)))}


@pytest.mark.parametrize("anew_bytes", [2**30, -1], ids=["index made anew", "index merged"])
async def test_nothing_is_left_of_a_deleted_conversation_in_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew_bytes: int
) -> None:
    monkeypatch.setattr(forgetting, "_ANEW_BYTES", anew_bytes)
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as store:
        for number in range(60):
            await store.create("ann", f"s{number}", "Unicorn" if number % 2 else "Horse", None)
        for part in range(6):
            word = ["horse", "unicorn"]
            await asyncio.gather(
                *(
                    say(store, f"s{each}", f"the {word[each % 2]}{part} " * (300 if part == 5 else 5))
                    for each in range(60)
                )
            )
        first = (await store.messages("ann", "s1"))[0].message_id
        await say(store, "s1", "replaced", replace_from=first)
        assert found_in(tmp_path, b"unicorn")

        for number in range(1, 60, 2):
            await store.delete("ann", f"s{number}")
        clock.advance(SOON_S)
        await until_it_is_due_no_more(store, clock)

        assert found_in(tmp_path, b"unicorn", b"replaced") == {}
        assert found_in(tmp_path, b"horse")
        assert len((await store.search("ann", "horse5", 200, None)).items) == 30
        size = (tmp_path / "archer.db").stat().st_size
        await store.delete_all("ann")
        await until_it_is_due_no_more(store, clock)
        assert found_in(tmp_path, b"horse") == {}
        # The disk has its room back.
        assert (tmp_path / "archer.db").stat().st_size < size / 2


def forgetting_file(*, stored_bytes: int) -> sqlite3.Connection:
    """A file with what Forgetting reads itself."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE meta (name PRIMARY KEY, value)")
    connection.execute("CREATE TABLE principal (bytes)")
    connection.execute("INSERT INTO principal VALUES (?)", (stored_bytes,))
    return connection


def test_the_index_is_merged_in_smaller_steps_where_one_keeps_others_waiting() -> None:
    clock = ManualClock()
    asked: list[int] = []

    class Index(SearchIndex):
        def merge(self, connection: sqlite3.Connection, pages: int) -> bool:
            asked.append(pages)
            clock.advance(0.0 if len(asked) <= 6 else 0.1)
            return False

    with contextlib.closing(forgetting_file(stored_bytes=1_000_000_000)) as connection:
        forgetting = Forgetting(Index(), clock)
        forgetting.begin(connection)
        for _ in range(12):
            forgetting.step(connection)
    assert asked == [-4, 4, 8, 16, 32, 64, 64, 32, 16, 8, 4, 4]


@pytest.mark.parametrize(
    ("stored_bytes", "expected"), [(0, "made anew"), (256 * 1024, "made anew"), (300_000, "merged")]
)
def test_the_index_is_made_anew_only_where_that_takes_no_longer_than_a_step(stored_bytes: int, expected: str) -> None:
    done: list[str] = []

    class Index(SearchIndex):
        def merge(self, connection: sqlite3.Connection, pages: int) -> bool:
            done.append("merged")
            return True

        def make_anew(self, connection: sqlite3.Connection) -> None:
            done.append("made anew")

    with contextlib.closing(forgetting_file(stored_bytes=stored_bytes)) as connection:
        forgetting = Forgetting(Index(), ManualClock())
        forgetting.begin(connection)
        assert forgetting.finish(connection, 60.0)
    assert done == [expected]


@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_stop_merges_the_index_in_large_steps_also_where_each_takes_long(steps_before: int) -> None:
    clock = ManualClock()
    asked: list[int] = []

    class Index(SearchIndex):
        def merge(self, connection: sqlite3.Connection, pages: int) -> bool:
            asked.append(pages)
            clock.advance(0.1)
            return len(asked) == steps_before + 5

    with contextlib.closing(forgetting_file(stored_bytes=1_000_000_000)) as connection:
        forgetting = Forgetting(Index(), clock)
        forgetting.begin(connection)
        for _ in range(steps_before):
            forgetting.step(connection)
        assert forgetting.finish(connection, 60.0)
    assert [abs(pages) for pages in asked[steps_before:]] == [64] * 5


async def test_the_room_of_a_large_deletion_is_given_back_in_few_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each step is a transaction, and the program's end waits for all of them.
    steps: list[int] = []
    stepped = Forgetting.step

    def step(self: Forgetting, connection: sqlite3.Connection) -> None:
        steps.append(connection.execute("PRAGMA freelist_count").fetchone()[0])
        stepped(self, connection)

    monkeypatch.setattr(Forgetting, "step", step)
    async with opened(tmp_path, clock=ManualClock()) as store:
        await store.create("ann", "s1", None, None)
        await say(store, "s1", "unicorn " * 1_000_000)
        await store.delete("ann", "s1")
    assert max(steps) > 1900, "pages of 4 KiB"
    assert len(steps) < 30


@asynccontextmanager
async def indexed_by_an_earlier_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    """A store whose file an earlier version goes on with; it is left to the present one."""
    with monkeypatch.context() as former:
        former.setattr(search_index, "indexed", indexed_before)
        async with opened(folder) as store:
            yield store
    with contextlib.closing(sqlite3.connect(folder / "archer.db")) as connection:
        connection.execute("DELETE FROM meta WHERE name = ?", (search_index._FORMER,))
        connection.commit()


async def test_a_message_that_an_earlier_version_has_indexed_leaves_the_index_as_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All have small stores: otherwise the index would be made anew.
    monkeypatch.setattr(forgetting, "_ANEW_BYTES", -1)
    async with indexed_by_an_earlier_version(tmp_path, monkeypatch) as store:
        for session_id in ("kept", "s1", "s2"):
            await store.create("ann", session_id, None, None)
        await say(store, "kept", "a word")
        await say(store, "s1", "unicorn🙂 first")
        await say(store, "s2", "unicorn🙂 second")

    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as store:
        await store.create("ann", "s3", None, None)
        await store.delete("ann", "s2")
        await say(store, "s3", "unicorn🙂 in its place")
        await say(store, "s3", "unicorn🙂 third")
        for word, count in (("third", 1), ("first", 0)):
            assert len((await store.search("ann", f"unicorn {word}", 9, None)).items) == count, word
    # The next process knows it, too.
    async with opened(tmp_path, clock=clock) as store:
        for session_id in ("s1", "s3"):
            await store.delete("ann", session_id)
        await until_it_is_due_no_more(store, clock)
        assert len((await store.search("ann", "word", 9, None)).items) == 1
    assert found_in(tmp_path, b"unicorn") == {}


async def test_an_index_that_is_made_anew_has_nothing_of_an_earlier_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with indexed_by_an_earlier_version(tmp_path, monkeypatch) as store:
        await store.create("ann", "s1", None, None)
        await say(store, "s1", "🤔hello there")
        await store.create("ann", "s2", None, None)

    async def hits(store: SqliteStore) -> int:
        return len((await store.search("ann", "hello there", 9, None)).items)

    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as store:
        assert await hits(store) == 0
        await store.delete("ann", "s2")
        await until_it_is_due_no_more(store, clock)
        assert await hits(store) == 1


async def test_a_stop_leaves_the_rest_of_a_large_deletion_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    stepped = Forgetting.step

    def slow_step(self: Forgetting, connection: sqlite3.Connection) -> None:
        clock.advance(1.0)
        stepped(self, connection)

    monkeypatch.setattr(Forgetting, "step", slow_step)
    monkeypatch.setattr(forgetting, "_VACUUM_PAGES", 16)
    with capture_logs() as lines:
        async with opened(tmp_path, clock=clock, finish_s=3.0) as store:
            await store.create("ann", "s1", None, None)
            await say(store, "s1", "unicorn " * 100_000)
            await store.delete("ann", "s1")
            stopped_at = clock.now
    assert clock.now - stopped_at == 3.0
    assert [line["event"] for line in lines if "deleted" in line["event"]] == ["deleted_text_left"]

    size = (tmp_path / "archer.db").stat().st_size
    async with opened(tmp_path, clock=clock) as store:
        await until_it_is_due_no_more(store, clock)
    assert (tmp_path / "archer.db").stat().st_size < size / 2
    assert found_in(tmp_path, b"unicorn") == {}


async def test_a_deletion_that_a_stop_came_upon_is_finished_by_it_or_by_the_next_start(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=ManualClock()) as store:
        await store.create("ann", "s1", None, None)
        await say(store, "s1", "unicorn " * 50)
        await store.delete("ann", "s1")
    assert found_in(tmp_path, b"unicorn") == {}

    clock = ManualClock()
    connection = sqlite3.connect(tmp_path / "archer.db")
    connection.execute("INSERT INTO meta VALUES ('forgetting', 1)")
    connection.commit()
    connection.close()
    async with opened(tmp_path, clock=clock) as store:
        await until_it_is_due_no_more(store, clock)
    connection = sqlite3.connect(tmp_path / "archer.db")
    assert connection.execute("SELECT * FROM meta WHERE name = 'forgetting'").fetchall() == []
    connection.close()


async def test_a_file_of_an_older_version_is_copied_and_brought_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create("ann", "s1", None, None)
        await say(store, "s1", "kept")
    newer = (*STEPS, "CREATE TABLE further (pk INTEGER PRIMARY KEY);\nINSERT INTO further VALUES (7);")

    async with opened(tmp_path, steps=newer) as store:
        assert await contents(store, "s1") == ["kept"]

    (copy,) = tmp_path.glob("archer.db.version-1-*.bak")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    before = sqlite3.connect(copy)
    assert before.execute("PRAGMA user_version").fetchone() == (1,)
    assert before.execute("SELECT content FROM message").fetchall() == [("kept",)]
    before.close()
    # The older program says what is wrong, and changes nothing.
    with pytest.raises(StorageUnavailable, match="newer version"):
        await sqlite_store(tmp_path).open()
    async with opened(tmp_path, steps=newer) as store:
        assert await contents(store, "s1") == ["kept"]


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create("ann", "s1", None, None)
    broken = (*STEPS, "CREATE TABLE further (pk);\nINSERT INTO nothing_of_the_kind VALUES (1);")
    store = sqlite_store(tmp_path, steps=broken)
    await store.open()
    with pytest.raises(StorageUnavailable):
        await store.get("ann", "s1")
    await store.aclose()
    async with opened(tmp_path) as store:
        assert (await store.get("ann", "s1")).message_count == 0


async def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "archer.db")
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    other.close()
    before = (tmp_path / "archer.db").read_bytes()
    with pytest.raises(StorageUnavailable, match="another program"):
        await sqlite_store(tmp_path).open()
    assert (tmp_path / "archer.db").read_bytes() == before


async def test_a_folder_that_can_t_be_made_is_tried_again_and_meanwhile_told(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    place.write_text("in the way")
    async with opened(place) as store:
        with pytest.raises(StorageUnavailable) as refused:
            await store.create("ann", "s1", None, None)
        assert refused.value.retryable
        place.unlink()
        async with asyncio.timeout(LIMIT_S):
            while store.trouble is not None:  # noqa: ASYNC110 - it is a thread that finds it out
                await asyncio.sleep(0.05)
        await store.create("ann", "s1", None, None)


async def test_a_backup_is_a_whole_store_while_everything_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path / "kept") as store:
        await store.create("ann", "s1", None, None)
        await say(store, "s1", "kept")
        writing = asyncio.gather(*(say(store, "s1", f"m{number}") for number in range(50)))
        await store.backup(tmp_path / "archer.db")
        await writing
        with pytest.raises(InvalidParams, match="exists"):
            await store.backup(tmp_path / "archer.db")
        with pytest.raises(StorageUnavailable, match="can't be written"):
            await store.backup(tmp_path / "no" / "such" / "folder.db")
        assert store.trouble is None
        await say(store, "s1", "goes on")
    async with opened(tmp_path) as copy:
        assert (await contents(copy, "s1"))[0] == "kept"
    with pytest.raises(Unsupported):
        await MemoryStore().backup(tmp_path / "x")


async def test_one_principal_can_t_take_the_file_from_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path, bytes_max=200_000, sessions_max=10, principals=("ann", "bob")) as store:
        await store.create("ann", "s1", None, None)
        await store.create("bob", "s1", None, None)
        with pytest.raises(StorageFull):  # noqa: PT012 - at some of them
            for _ in range(1000):
                await say(store, "s1", "x" * 1000)
        taken = (await store.get("ann", "s1")).message_count
        assert 50 < taken < 90
        for _ in range(15):
            await say(store, "s1", "x" * 1000, "bob")
        await store.delete("ann", "s1")
        await store.create("ann", "s1", None, None)
        await say(store, "s1", "room again")


async def test_what_is_counted_is_what_there_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for name in ("s1", "s2"):
            await store.create("ann", name, "title", {"a": 1})
            first = await say(store, name, "one")
            await say(store, name, "two", replace_from=first)
            await store.append_completion("ann", name, StoredCompletion("a", "completed"), after=first, stream_id="s")
        await store.update("ann", "s1", "another title", None)
        await store.fork("ann", "s1", new_session_id="s3")
        await store.delete("ann", "s2")

        def check(connection: sqlite3.Connection) -> list[Any]:
            return [
                connection.execute("SELECT sessions, bytes FROM principal").fetchall(),
                connection.execute("SELECT count(*), total(bytes) FROM session").fetchall(),
                connection.execute(
                    "SELECT message_count = (SELECT count(*) FROM message WHERE session_pk = s.pk AND NOT hidden) "
                    "FROM session s"
                ).fetchall(),
            ]

        principal, sessions, counts = await store._worker.run(check, writes=False)
        assert principal == sessions
        assert counts == [(1,), (1,)]
        await store.delete_all("ann")
        principal, _, _ = await store._worker.run(check, writes=False)
        assert principal == [(0, 0)]


async def test_two_stores_of_one_process_do_not_share_a_folder(tmp_path: Path) -> None:
    database = OpenDatabase(tmp_path, FileSettings(bytes_max=BYTES_MAX))
    database.open()
    try:
        with capture_logs(), pytest.raises(StorageUnavailable, match="in use"):
            await sqlite_store(tmp_path).open()
    finally:
        database.close()


async def test_a_folder_whose_file_system_has_no_locks_is_refused_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    with pytest.raises(StorageUnavailable, match="can't be locked: No locks available") as refused:
        await sqlite_store(tmp_path, wait_s=60).open()
    assert "ARCHER_DATA_DIR" in (refused.value.hint or "")


async def test_a_refusal_in_a_long_conversation_is_not_looked_for_again_with_each_part_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []

    def counting(before: Sequence[Any]) -> Sequence[Any]:
        looked_at.append(len(before))
        return without_refused(before)

    monkeypatch.setattr(history, "without_refused", counting)
    count = 4000
    async with opened(tmp_path) as store:
        await store.create("ann", "s1", None, None)
        turn = [ChatMessage(role=MessageRole.USER, content="x") for _ in range(count)]
        asked = (await store.begin_turn("ann", "s1", turn, stream_id="str_1")).messages[-1].message_id
        refused = StoredCompletion("", "completed", refusal=Refusal(text="no"))
        await store.append_completion("ann", "s1", refused, after=asked, stream_id="str_0")
        begun = await store.begin_turn("ann", "s1", turn[:1], stream_id="str_2")
        assert len(begun.history.messages) == 0
        assert sum(looked_at) < 5 * count


async def test_a_turn_in_a_long_conversation_with_a_refusal_reads_no_more_than_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    of = HistoryRow.of

    def counting(row: Any) -> HistoryRow:
        nonlocal read
        read += 1
        return of(row)

    monkeypatch.setattr(HistoryRow, "of", counting)
    async with opened(tmp_path) as store:
        await store.create("ann", "s1", None, None)
        turn = [ChatMessage(role=MessageRole.USER, content="x") for _ in range(2000)]
        await store.begin_turn("ann", "s1", turn, stream_id="str_0")
        asked = await say(store, "s1", "x")
        refused = StoredCompletion("", "completed", refusal=Refusal(text="no"))
        await store.append_completion("ann", "s1", refused, after=asked, stream_id="str_1")
        await store.begin_turn("ann", "s1", turn, stream_id="str_2")
        read = 0
        begun = await store.begin_turn("ann", "s1", turn[:1], stream_id="str_3", budget_tokens=100)
        assert begun.history.dropped + len(begun.history.messages) == 4000
        assert read < 400


@pytest.mark.parametrize("seed", range(40))
async def test_messages_that_do_not_fit_are_counted_without_refused_turns(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    now = utc_now()
    stream_ids = [None, "a", "b"][: rng.randint(1, 3)]
    messages = []
    for number in range(60):
        role = rng.choice([MessageRole.USER, MessageRole.ASSISTANT, MessageRole.TOOL, MessageRole.SYSTEM])
        messages.append(
            StoredMessage(
                message_id=f"m{number}",
                role=role,
                content=str(number),
                call_id="c" if role is MessageRole.TOOL else None,
                stream_id=rng.choice(stream_ids),
                status="completed",
                created_at=now + timedelta(seconds=rng.randint(0, 1)),
                refusal=Refusal(text="no") if role is MessageRole.ASSISTANT and rng.random() < 0.3 else None,
            )
        )
    told = {"created_at": now, "updated_at": now}
    conversation = ExportedSession(session_id="s1", message_count=60, messages=messages, **told)
    async with opened(tmp_path) as store:
        await store.import_session("ann", conversation)
        whole = await store.begin_turn(
            "ann", "s1", [ChatMessage(role=MessageRole.USER, content="next")], stream_id="x", budget_tokens=1
        )
        in_memory = MemoryStore()
        await in_memory.import_session("ann", conversation)
        expected = await in_memory.begin_turn(
            "ann", "s1", [ChatMessage(role=MessageRole.USER, content="next")], stream_id="x", budget_tokens=1
        )
    assert whole.history == expected.history


@pytest.mark.parametrize("query", ["§", "%", "!"])
async def test_a_search_without_the_index_lets_others_in_between_and_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setattr(search_scan, "SCAN_S", 0.0)  # One message a request.
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        for number, principal in enumerate(("ann", "bob", "ann", "bob")):
            session_id = f"s{number}"
            await store.create(principal, session_id, None, None)
            said = [f"{number} {sign} {place}" for place in range(12) for sign in ("§", "%", "!")]
            turn = [ChatMessage(role=MessageRole.USER, content=content) for content in said]
            begun = await store.begin_turn(principal, session_id, turn, stream_id="x")
            again = ChatMessage(role=MessageRole.USER, content="§ % ! in place of the last ones")
            last = begun.messages[-6].message_id
            await store.begin_turn(principal, session_id, [again], stream_id="y", replace_from=last)

        searching = asyncio.ensure_future(store.search("ann", query, 5, None))
        assert (await store.get("bob", "s1")).session_id == "s1"
        assert not searching.done()
        found: list[str] = []
        page = await searching
        while True:
            found += [message.snippet for message in page.items]
            if page.next_cursor is None:
                break
            assert len(page.items) == 5
            page = await store.search("ann", query, 5, page.next_cursor)
        expected = [
            message.content
            for session_id in ("s0", "s2")
            for message in await store.messages("ann", session_id)
            if query in message.content
        ]
        assert found == expected[::-1]
    finally:
        await store.aclose()


async def test_deleting_all_deletes_large_sessions_one_by_one_since_others_wait_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []
    delete, clear = sessions.delete, Leftovers.clear

    def noted(at: Transaction, rows: Sequence[SessionRow]) -> None:
        at_once.append(len(rows))
        delete(at, rows)

    def noted_part(leftovers: Leftovers, connection: sqlite3.Connection, pk: int) -> bool:
        at_once.append(1)
        return clear(leftovers, connection, pk)

    monkeypatch.setattr(sessions, "DELETED_BYTES_AT_ONCE", 64 * 1024)
    monkeypatch.setattr(sessions, "delete", noted)
    monkeypatch.setattr(Leftovers, "clear", noted_part)
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        for session_id in ("large 1", "large 2", "small 1", "small 2", "small 3"):
            await store.create("ann", session_id, None, None)
            content = "x" * 40_000 if session_id.startswith("large") else "x"
            turn = [ChatMessage(role=MessageRole.USER, content=content)]
            await store.begin_turn("ann", session_id, turn, stream_id="x")
        assert await store.delete_all("ann") == 5
        assert at_once == [1, 1, 3]
    finally:
        await store.aclose()


def accepted(stream_id: str, request_id: str = "req_1", session_id: str = "s") -> StreamRecord:
    return StreamRecord("ann", stream_id, session_id, "p", "m", request_id, b"", utc_now())


async def asked(store: SqliteStore, content: Any, record: StreamRecord) -> str:
    """The id of a question, as a stream begins with it."""
    turn = [ChatMessage.model_validate({"role": "user", "content": content})]
    begun = await store.begin_turn("ann", record.session_id, turn, stream_id=record.stream_id, record=record)
    return begun.messages[-1].message_id


async def test_a_lost_stream_names_its_own_messages_and_not_those_of_an_earlier_stream_with_its_id(
    tmp_path: Path,
) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    await store.create("ann", "s", None, None)
    first = await asked(store, "?", accepted("again"))
    await store.append_completion("ann", "s", StoredCompletion("!", "completed"), after=first, stream_id="again")
    second = await asked(store, "??", accepted("again"))
    await store.aclose()
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        text = LogPiece(1, 1, "content", b"So", (2).to_bytes(4, sys.byteorder))
        await store.journal.put([LogPart(("ann", "again"), [text])])
        (kept,) = await store.journal.recover(lambda record, pieces, loop: end_lost(record, pieces, loop, utc_now()))
        assert isinstance(kept, KeptStream)
        *_, completion = await store.messages("ann", "s")
        assert completion.content == "So"
        assert ended_in(kept.ended).message_ids == [second, completion.message_id]
    finally:
        await store.aclose()


async def test_a_stream_that_ended_more_than_a_day_ago_is_not_there_after_a_restart(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    await store.create("ann", "s", None, None)
    for name, hours in (("old", 25), ("new", 23)):
        await asked(store, "?", accepted(name))
        end = LogEnd(1, "completed", utc_now() - timedelta(hours=hours), lambda _: "{}", [])
        await store.journal.put([LogPart(("ann", name), [], end)])
    await store.aclose()
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        kept = await store.journal.recover(lambda record, pieces, loop: end_lost(record, pieces, loop, utc_now()))
        assert [each.record.stream_id for each in kept] == ["new"]
    finally:
        await store.aclose()


async def test_a_refused_request_is_withdrawn_and_no_earlier_question_of_a_stream_with_its_id(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        await store.create("ann", "s", None, None)
        await asked(store, "?", accepted("again", "req_1"))
        await asked(store, "??", accepted("again", "req_2"))
        await store.journal.withdraw(("ann", "again"), "req_2")
        assert [message.content for message in await store.messages("ann", "s")] == ["?"]
        assert await store.journal.load(("ann", "again")) is None
    finally:
        await store.aclose()


async def test_a_withdrawn_question_is_not_found_and_leaves_the_system_messages_in_the_history(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        await store.create("ann", "s", None, None)
        told = {"system": "Be brief.", "user": "x" * 400}
        turn = [ChatMessage.model_validate({"role": role, "content": content}) for role, content in told.items()]
        await store.begin_turn("ann", "s", turn, stream_id="first", record=accepted("first"))
        await asked(store, "a secret", accepted("refused", "req_2"))
        await store.journal.withdraw(("ann", "refused"), "req_2")
        following = await asked(store, "Why?", accepted("next", "req_3"))  # Its row has the number of the withdrawn.
        assert (await store.search("ann", "secret", 10, None)).items == []
        history = await store.history("ann", "s", before=following, turn_tokens=0, budget_tokens=50)
        assert [message.content for message in history.messages] == ["Be brief."]
    finally:
        await store.aclose()


async def test_what_providers_must_see_again_takes_room_as_long_as_it_is_kept(tmp_path: Path) -> None:
    kept = NativeBlocks.of(b"x" * 60_000, [NativeCall("one", "toolu_1", "now", "{}")])
    assert kept is not None
    native = NativeTurn("anthropic", "claude", b"", kept)
    said = StoredCompletion("", "completed", calls=[ToolCall(call_id="one", name="now")], native=native)
    async with opened(tmp_path, bytes_max=100_000) as store:
        await store.create("ann", "s", None, None)
        question = await say(store, "s", "What time is it?")
        await store.append_completion("ann", "s", said, after=question, stream_id="str_1")
        with pytest.raises(StorageFull):
            await say(store, "s", "x" * 30_000)  # Its text counts twice, for the search
        result = ChatMessage(role=MessageRole.TOOL, content="noon", call_id="one")
        (after,) = (await store.begin_turn("ann", "s", [result], stream_id="str_2")).messages
        noon = StoredCompletion("Noon.", "completed")
        await store.append_completion("ann", "s", noon, after=after.message_id, stream_id="str_2")
        await say(store, "s", "short")

        await say(store, "s", "x" * 30_000)
    connection = sqlite3.connect(tmp_path / "archer.db")
    with contextlib.closing(connection):
        assert connection.execute("SELECT count(*) FROM message WHERE native IS NOT NULL").fetchone() == (0,)
        (counted,) = connection.execute("SELECT bytes FROM principal").fetchone()
    assert 60_000 < counted < 70_000


async def test_a_question_behind_which_another_is_stored_is_not_withdrawn(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        await store.create("ann", "s", None, None)
        await asked(store, "?", accepted("first", "req_1"))
        await asked(store, "behind it", accepted("second", "req_2"))
        assert not await store.journal.withdraw(("ann", "first"), "req_1")
        assert [message.content for message in await store.messages("ann", "s")] == ["?", "behind it"]
    finally:
        await store.aclose()


async def test_a_file_that_only_a_withdrawn_request_named_is_named_no_more(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        await store.create("ann", "s", None, None)
        pictures = [{"type": "image", "file_id": f"file_{name}"} for name in "xy"]
        await asked(store, pictures[:1], accepted("kept"))
        await asked(store, pictures, accepted("refused", "req_2"))
        await store.journal.withdraw(("ann", "refused"), "req_2")
        assert await store.named_files("ann", "s") == {"file_x"}
    finally:
        await store.aclose()


async def test_a_late_recovery_ends_no_stream_of_this_process_whatever_was_deleted_before(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    for session_id in ("s", "t", "u"):
        await store.create("ann", session_id, None, None)
    await asked(store, "?", accepted("lost"))
    await asked(store, "?", accepted("lost and deleted", session_id="t"))
    await store.aclose()
    store = sqlite_store(tmp_path)
    await store.open()
    try:
        await asked(store, "?", accepted("deleted", session_id="u"))
        for session_id in ("u", "t"):
            await store.delete("ann", session_id)
        await store.create("ann", "t", None, None)
        await asked(store, "?", accepted("running", session_id="t"))
        found = await store.journal.recover(lambda record, pieces, loop: end_lost(record, pieces, loop, utc_now()))
        assert [kept.record.stream_id for kept in found] == ["lost"]
    finally:
        await store.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove or rename open files")
async def test_a_file_that_is_removed_while_it_is_used_is_told_until_it_is_back(tmp_path: Path) -> None:
    clock = ManualClock()
    folder, aside = tmp_path / "kept", tmp_path / "aside"
    store = sqlite_store(folder, clock=clock)

    async def look() -> None:
        """A write, and what follows it after a while."""
        await store.create("ann", None, None, None)
        clock.advance(CHECKPOINT_AFTER_S)
        await store.get("ann", "s")

    def told() -> str:
        return store.trouble.message if store.trouble is not None else ""

    with capture_logs() as lines:
        await store.open()
        try:
            await store.create("ann", "s", None, None)
            await look()
            assert not told()
            folder.rename(aside)
            for _ in range(3):
                await look()
                await look()
            assert "removed or replaced" in told()
            folder.mkdir()
            (folder / "archer.db").touch()
            await look()
            await look()
            assert "removed or replaced" in told()
            (folder / "archer.db").unlink()
            folder.rmdir()
            aside.rename(folder)
            await look()
            await look()
            assert not told()
        finally:
            await store.aclose()
    events = [line["event"] for line in lines if line["event"].startswith("conversations_file")]
    assert events == ["conversations_file_gone", "conversations_file_back"]


async def conversations_of_two(store: SqliteStore) -> None:
    """Bob's conversation with few messages, and after it Ann's with many, the first of them long."""
    for principal, texts in (
        ("bob", [f"all of {number} zebras" for number in range(8)]),
        ("ann", ["word " * 8000 + " and alloy", *(f"all{number} of them, number {number}" for number in range(60))]),
    ):
        await store.create(principal, "s1", None, None)
        turn = [ChatMessage(role=MessageRole.USER, content=text) for text in texts]
        await store.begin_turn(principal, "s1", turn, stream_id="x")
        again = ChatMessage(role=MessageRole.USER, content=f"{texts[-1]} again")
        last = (await store.messages(principal, "s1"))[-1].message_id
        await store.begin_turn(principal, "s1", [again], stream_id="y", replace_from=last)


async def all_found(store: SqliteStore, principal: str, query: str) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.search(principal, query, 7, cursor)
        found += [message.message_id for message in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("look_s", [-1.0, 60.0], ids=["a message a request", "all of them"])
async def test_in_a_large_file_a_search_that_looks_at_the_newest_messages_first_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look_s: float
) -> None:
    monkeypatch.setattr(search_scan, "LOOK_S", look_s)
    async with opened(tmp_path / "kept") as store:
        await conversations_of_two(store)
        queries = [
            (each, query) for each in ("ann", "bob") for query in ("all", "OF", "zebra", "all of", "word a", "x")
        ]
        by_index = [await all_found(store, *asked) for asked in queries]
        for own_bytes in (0, 2**40):
            monkeypatch.setattr(search_scan, "LOOK_FROM", 0)
            monkeypatch.setattr(search_scan, "_OWN_BYTES", own_bytes)
            assert [await all_found(store, *asked) for asked in queries] == by_index
        assert [len(found) for found in by_index] == [61, 60, 0, 0, 1, 0, 8, 8, 8, 8, 0, 0]


async def test_in_a_large_file_the_beginning_of_a_frequent_word_is_not_searched_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            asked.append(sql)
            return super().execute(sql, parameters)

    monkeypatch.setattr(search_scan, "LOOK_FROM", 20)
    monkeypatch.setattr(search_scan, "LOOK_S", 60.0)
    async with opened(tmp_path / "kept", factory=Watched) as store:
        await conversations_of_two(store)
        for principal in ("ann", "bob"):
            asked.clear()
            assert len((await store.search(principal, "al", 7, None)).items) == 7
            assert not [sql for sql in asked if "message_words MATCH" in sql]
        assert len((await store.search("ann", "alloy", 7, None)).items) == 1
        assert [sql for sql in asked if "message_words MATCH" in sql]


async def test_what_is_found_before_the_index_turns_out_to_be_damaged_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Damaged(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if "message_words MATCH ? AND" in sql:
                raise sqlite3.DatabaseError("database disk image is malformed")
            return super().execute(sql, parameters)

    monkeypatch.setattr(search_scan, "LOOK_FROM", 20)
    monkeypatch.setattr(search_scan, "LOOK_S", 60.0)
    async with opened(tmp_path / "kept", factory=Damaged) as store:
        await conversations_of_two(store)
        found = await store.search("ann", "al", 100, None)
        assert [message.message_id for message in found.items] == await all_found(store, "ann", "al")
        assert len(found.items) == 61


async def test_a_newest_message_is_looked_at_whole_and_by_whole_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_scan, "LOOK_FROM", 0)
    monkeypatch.setattr(search_scan, "LOOK_S", 60.0)
    async with opened(tmp_path / "kept") as store:
        await store.create("ann", "s1", None, None)
        await say(store, "s1", "word " * 409 + "alloys and more")
        assert len("word " * 409 + "all") == search_scan._HEAD_CHARS
        assert len((await store.search("ann", "alloys and", 7, None)).items) == 1
        assert (await store.search("ann", "all word", 7, None)).items == []


async def test_an_index_that_can_t_be_made_anew_is_left_and_nothing_stays_half_done(tmp_path: Path) -> None:
    class Damaged(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if "'delete-all'" in sql:
                raise sqlite3.DatabaseError("database disk image is malformed")
            return super().execute(sql, parameters)

    clock = ManualClock()
    async with opened(tmp_path, factory=Damaged, clock=clock) as store:
        await store.create("ann", "s1", None, None)
        await store.create("ann", "s2", None, None)
        await say(store, "s1", "zebra")
        await store.delete("ann", "s2")
        clock.advance(SOON_S)
        await until_it_is_due_no_more(store, clock)
        await say(store, "s1", "zebra again")
        assert len((await store.search("ann", "zebra", 7, None)).items) == 2
    async with opened(tmp_path) as store:
        assert len((await store.search("ann", "zebra", 7, None)).items) == 2
