"""What can happen to a file and its process: a kill, a full disk, damage, a second process. Nothing acknowledged is
lost, and what is wrong is said."""

import asyncio
import os
import random
import resource
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from archer_ws.core.exceptions import StorageFull, StorageUnavailable
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.storage.bounded import bounded
from archer_ws.sessions.storage.sqlite.database import CHECKPOINT_AFTER_S, TRY_AGAIN_S
from archer_ws.sessions.storage.sqlite.forgetting import EVERY_S, Forgetting
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from archer_ws.sessions.storage.values import StoredCompletion
from tests.fakes.manual_clock import ManualClock
from tests.fakes.sqlite_files import opened, sqlite_store
from tests.processes import ROOT

LIMIT_S = 60


async def say(store: SqliteStore, session_id: str, content: str) -> str:
    turn = [ChatMessage(role=MessageRole.USER, content=content)]
    return (await store.begin_turn("ann", session_id, turn, stream_id="str_1")).messages[-1].message_id


async def contents(store: SqliteStore, session_id: str) -> list[str]:
    return [message.content for message in await store.messages("ann", session_id)]


async def filled(folder: Path, sessions: int = 20, messages: int = 50) -> None:
    async with opened(folder) as store:
        for number in range(sessions):
            await store.create("ann", f"s{number}", None, None)
        for part in range(messages):
            await asyncio.gather(*(say(store, f"s{each}", f"s{each} m{part} " + "x" * 300) for each in range(sessions)))


async def test_removing_deleted_text_that_fails_is_not_tried_again_before_the_next_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    def fail(*_: Any) -> None:
        nonlocal tried
        tried += 1
        raise sqlite3.OperationalError("no such thing")

    monkeypatch.setattr(Forgetting, "step", fail)
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as store:
        for times in (1, 2):
            await store.create("ann", "s", None, None)
            await store.delete("ann", "s")
            clock.advance(EVERY_S)
            for _ in range(5):  # What is due is done behind a request.
                await store.principals()
            assert tried == times


async def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    kills = 30 if pytestconfig.getoption("long") else 3
    acknowledged: list[str] = []
    for kill in range(kills):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.sqlite_writer", str(tmp_path), "8"),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        # At another place each time, within a thousand acknowledged turns.
        async with asyncio.timeout(LIMIT_S):
            for _ in range(7 + kill * 67 % 2000):
                acknowledged += (await process.stdout.readline()).decode().splitlines()
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
        acknowledged += rest.decode().splitlines()

        async with opened(tmp_path) as store:
            kept = {text for number in range(8) for text in await contents(store, f"s{number}")}
        assert set(acknowledged) <= kept
    assert len(set(acknowledged)) == len(acknowledged)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def until_it_works(store: SqliteStore) -> None:
    """As somebody who asks for readiness now and then."""
    while store.trouble is not None:  # noqa: ASYNC110 - it is a thread that finds it out
        await asyncio.sleep(0.05)


async def fill(store: SqliteStore) -> tuple[int, Exception]:
    """Store until that is refused: how many turns were taken."""
    for number in range(10_000):
        try:
            await say(store, "s1", f"m{number} " + "x" * 10_000)
        except (StorageFull, StorageUnavailable) as refused:
            return number, refused
    raise AssertionError


async def test_a_full_file_refuses_what_is_to_be_stored_and_works_again_with_room(tmp_path: Path) -> None:
    async with opened(tmp_path, bytes_max=2_000_000, reserve_bytes=0) as store:
        await store.create("ann", "s1", None, None)
        await store.create("ann", "s2", None, None)
        question = await say(store, "s2", "question")
        taken, refused = await fill(store)
        assert isinstance(refused, StorageFull)
        assert "SESSION_BYTES_MAX" in (refused.hint or "")

        assert len(await contents(store, "s1")) == taken
        assert (await store.get("ann", "s1")).message_count == taken
        await store.append_completion(
            "ann", "s2", StoredCompletion("short", "completed"), after=question, stream_id="a"
        )
        await store.delete("ann", "s1")
        await say(store, "s2", "room again")
        assert await contents(store, "s2") == ["question", "short", "room again"]


def many_words(seed: str) -> str:
    """A text for which the index needs more room than the text, as it does for signs without spaces."""
    signs = random.Random(seed)
    return "".join(chr(signs.randrange(0x4E00, 0x9FFF)) for _ in range(7000))


async def test_what_fills_a_file_up_to_its_last_page_can_be_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path, bytes_max=1_000_000, reserve_bytes=500_000) as store:
        await store.create("ann", "s1", None, None)
        question = await say(store, "s1", "question")

        async def fill_sessions() -> None:
            for number in range(1000):
                session_id = f"old{number}"
                await store.create("ann", session_id, None, None)
                await fill_one(session_id, await say(store, session_id, "question"), 1)

        async def fill_one(session_id: str, asked: str, completions: int = 1000) -> None:
            for number in range(completions):
                completion = StoredCompletion(many_words(f"{session_id} {number}"), "completed")
                await store.append_completion("ann", session_id, completion, after=asked, stream_id=f"str_{number}")

        with pytest.raises(StorageFull):
            await fill_sessions()
        with pytest.raises(StorageFull):
            await fill_one("s1", question)

        for each in (await store.page("ann", 100, None)).items:
            if each.session_id != "s1":
                await store.delete("ann", each.session_id)
        await until_it_works(store)
        await say(store, "s1", "room again")

        def pages(connection: sqlite3.Connection) -> tuple[int, int]:
            (most,) = connection.execute("PRAGMA max_page_count").fetchone()
            (now,) = connection.execute("PRAGMA page_count").fetchone()
            return most, now

        # The room for deletions is for nothing else.
        most, now = await store._read(pages)
        assert most <= max(now, 1_500_000 // 4096)


async def test_a_disk_that_takes_no_more_refuses_writes_alone_until_it_does(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create("ann", "s1", None, None)
        with no_file_larger_than(1_500_000), capture_logs() as lines:
            taken = 0
            for _ in range(3):
                # What has come from the log into the file leaves room in the log.
                more, _ = await fill(store)
                taken += more
                assert store.trouble is not None
                assert len(await contents(store, "s1")) == taken
            with pytest.raises((StorageFull, StorageUnavailable)):
                await say(store, "s1", "x" * 2_000_000)
            assert (await store.get("ann", "s1")).message_count == taken
        assert "store_in_trouble" in [line["event"] for line in lines]

        async with asyncio.timeout(LIMIT_S):
            # By itself, as somebody makes room.
            await until_it_works(store)
        await say(store, "s1", "room again")
        assert len(await contents(store, "s1")) == taken + 1
    async with opened(tmp_path) as store:
        assert (await contents(store, "s1"))[-1] == "room again"


async def test_a_start_on_a_full_disk_shows_what_is_stored_and_refuses_what_is_new(tmp_path: Path) -> None:
    await filled(tmp_path, sessions=1, messages=5)
    with no_file_larger_than(0), capture_logs():
        async with opened(tmp_path) as store:
            assert len(await contents(store, "s0")) == 5
            with pytest.raises((StorageFull, StorageUnavailable)):
                await say(store, "s0", "new")
            assert store.trouble is not None
            assert len(await contents(store, "s0")) == 5
    async with opened(tmp_path) as store:
        await say(store, "s0", "room again")
        assert len(await contents(store, "s0")) == 6


async def test_a_folder_that_can_t_be_used_is_one_line_in_the_log_and_not_one_a_request(tmp_path: Path) -> None:
    (tmp_path / "archer.db").mkdir()
    clock = ManualClock()
    with capture_logs() as lines:
        async with opened(tmp_path, clock=clock) as store:
            assert [line["event"] for line in lines] == ["store_in_trouble"]  # Before anybody asks for anything.
            for _ in range(3):
                with pytest.raises(StorageUnavailable):
                    await store.create("ann", "s1", None, None)
            (tmp_path / "archer.db").rmdir()
            clock.advance(TRY_AGAIN_S)
            await store.create("ann", "s1", None, None)
    assert [line["event"] for line in lines] == ["store_in_trouble", "store_works_again"]


@pytest.mark.parametrize("harm", ["cut in half", "head zeroed", "no database", "a page of noise"])
async def test_a_damaged_file_is_kept_aside_and_said_so_and_the_server_begins_anew(tmp_path: Path, harm: str) -> None:
    await filled(tmp_path)
    file = tmp_path / "archer.db"
    whole = file.read_bytes()
    match harm:
        case "cut in half":
            file.write_bytes(whole[: len(whole) // 2])
        case "head zeroed":
            file.write_bytes(bytes(4096) + whole[4096:])
        case "no database":
            file.write_text("hello " * 1000)
        case "a page of noise":
            file.write_bytes(whole[:8192] + os.urandom(4096 * 10) + whole[8192 + 4096 * 10 :])
    harmed = file.read_bytes()

    with capture_logs() as lines:
        async with opened(tmp_path) as store:
            assert (await store.page("ann", 10, None)).items == []
            await store.create("ann", "new", None, None)
            await say(store, "new", "goes on")

    (line,) = [line for line in lines if line["event"] == "conversations_damaged"]
    assert line["log_level"] == "critical"
    aside = Path(line["kept_as"])
    assert aside.parent == tmp_path
    assert aside.read_bytes() == harmed
    async with opened(tmp_path) as store:
        assert await contents(store, "new") == ["goes on"]


async def test_damage_that_is_met_later_fails_loudly_for_its_conversation_alone(tmp_path: Path) -> None:
    await filled(tmp_path)
    file = tmp_path / "archer.db"
    connection = sqlite3.connect(file)
    (session,) = connection.execute("SELECT pk FROM session WHERE session_id = 's7'").fetchone()
    (page,) = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = 'message' AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET 20"
    ).fetchone()
    assert session
    connection.close()

    async with opened(tmp_path) as store:
        whole = bytearray(file.read_bytes())
        # The head of a page, as a disk may lose it while we run.
        whole[(page - 1) * 4096 : (page - 1) * 4096 + 64] = bytes(range(100, 164))
        with file.open("r+b") as opened_file:
            opened_file.write(whole)
        # It is not in our own cache any more.
        await store._worker.run(lambda connection: connection.execute("PRAGMA shrink_memory"), writes=False)
        read = 0
        failures: list[StorageUnavailable] = []
        with capture_logs() as lines:
            for number in range(20):
                try:
                    read += len(await contents(store, f"s{number}")) == 50
                except StorageUnavailable as refused:
                    failures.append(refused)
        assert failures
        assert read + len(failures) == 20
        assert all(not refused.retryable and "damaged" in refused.message for refused in failures)
        assert "store_failed" in [line["event"] for line in lines]
        assert store.trouble is None
        await store.create("ann", "another", None, None)
        await say(store, "another", "goes on")


@pytest.mark.parametrize("writes", [False, True], ids=["read", "written behind"])
async def test_a_message_that_can_t_be_read_keeps_the_file_from_nothing(tmp_path: Path, *, writes: bool) -> None:
    async with opened(tmp_path) as store:
        await store.create("ann", "s", None, None)
        for number in range(40):
            await say(store, "s", f"{number}")
    connection = sqlite3.connect(tmp_path / "archer.db")
    connection.execute("UPDATE message SET said = '{' WHERE content = '35'")
    connection.commit()
    connection.close()
    clock = ManualClock()
    with capture_logs() as lines:
        async with opened(tmp_path, clock=clock) as store:
            # Its traceback stays, as where it is logged later, or where the garbage collector has not run yet.
            with pytest.raises(StorageUnavailable) as refused:
                await (say(store, "s", "more") if writes else store.messages("ann", "s"))
            assert refused.value.__cause__ is not None
            await store.create("ann", "other", None, None)
            clock.advance(CHECKPOINT_AFTER_S)
            await store.get("ann", "other")
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["store_failed"]


async def test_a_damaged_index_costs_no_conversation_and_is_built_anew(tmp_path: Path) -> None:
    await filled(tmp_path)
    connection = sqlite3.connect(tmp_path / "archer.db")
    connection.execute("UPDATE message_words_data SET block = randomblob(length(block))")
    connection.commit()
    connection.close()

    with capture_logs() as lines:
        async with opened(tmp_path) as store:
            await say(store, "s1", "unicorn")
            found = await store.search("ann", "unicorn", 10, None)
            assert [each.session_id for each in found.items] == ["s1"]
            await store.delete("ann", "s2")
    assert "search_index_damaged" in [line["event"] for line in lines]
    async with opened(tmp_path) as store:
        assert len((await store.search("ann", "s3 m4", 20, None)).items) == 11
        assert store._index._is_there


class WithoutMemory(sqlite3.Connection):
    """A connection that has no memory for one text of the index."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql.startswith("INSERT INTO message_words(rowid") and "needle 1" in parameters[1]:
            raise MemoryError
        return super().execute(sql, parameters)


async def test_an_index_that_could_not_be_built_whole_is_built_at_the_next_start(tmp_path: Path) -> None:
    async with opened(tmp_path, without_fts=True) as store:
        await store.create("ann", "s", None, None)
        for number in range(3):
            await say(store, "s", f"needle {number}")
    for factory in (WithoutMemory, sqlite3.Connection):
        async with opened(tmp_path, factory=factory) as store:
            found = (await store.search("ann", "needle", 10, None)).items
            assert [each.snippet for each in found] == ["needle 2", "needle 1", "needle 0"]


async def test_a_second_process_waits_and_is_told_who_has_the_folder(tmp_path: Path) -> None:
    async with opened(tmp_path) as first:
        with pytest.raises(StorageUnavailable) as refused:
            await sqlite_store(tmp_path, wait_s=0.2).open()
        assert str(os.getpid()) in refused.value.message
        assert "ARCHER_DATA_DIR" in (refused.value.hint or "")
        assert "ARCHER_STORE=memory" in (refused.value.hint or "")
        await first.create("ann", "s1", None, None)

        second = sqlite_store(tmp_path, wait_s=LIMIT_S)
        opening = asyncio.create_task(second.open())
        await asyncio.sleep(0.3)
        assert not opening.done()
    async with asyncio.timeout(LIMIT_S):
        await opening
    assert (await second.get("ann", "s1")).session_id == "s1"
    await second.aclose()


async def test_a_holder_with_this_processs_own_id_is_told_to_be_in_another_container(tmp_path: Path) -> None:
    # As between two containers, whose servers are both process 1: here the id is this process's.
    async with opened(tmp_path):
        with pytest.raises(StorageUnavailable, match=f"are in use by process {os.getpid()} of another container"):
            await sqlite_store(tmp_path).open()


async def test_a_folder_whose_holder_was_killed_is_free_at_once(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.sqlite_writer", str(tmp_path), "2"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    with pytest.raises(StorageUnavailable, match=str(process.pid)):
        await sqlite_store(tmp_path).open()
    process.kill()
    await process.communicate()
    async with opened(tmp_path) as store:
        assert (await store.page("ann", 10, None)).items


async def test_a_disk_that_hangs_holds_up_nobody_longer_than_the_limit(tmp_path: Path) -> None:
    async with opened(tmp_path) as inner:
        store = bounded(inner, 0.1)
        await store.create("ann", "s1", None, None)
        goes_on, hangs = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def hang(connection: sqlite3.Connection) -> None:
            loop.call_soon_threadsafe(hangs.set)
            asyncio.run_coroutine_threadsafe(goes_on.wait(), loop).result(LIMIT_S)

        hanging = asyncio.create_task(inner._worker.run(hang, writes=True))
        await hangs.wait()
        with pytest.raises(StorageUnavailable, match="did not respond"):
            await store.create("ann", "s2", None, None)
        with pytest.raises(StorageUnavailable, match="did not respond"):
            await store.get("ann", "s1")
        goes_on.set()
        await hanging
        # What nobody waits for any more is left out.
        assert [each.session_id for each in (await inner.page("ann", 10, None)).items] == ["s1"]
