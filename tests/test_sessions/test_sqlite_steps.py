"""Long conversations in the file: they are stored, copied, replaced and deleted in steps, between which others have
their turn, and nobody sees a part of one."""

import asyncio
import contextlib
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from archer_ws.core.exceptions import Conflict, SessionNotFound, StorageFull
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.storage.sqlite.database import CHECKPOINT_AFTER_S
from archer_ws.sessions.storage.sqlite.forgetting import EVERY_S
from archer_ws.sessions.storage.sqlite.store import SqliteStore
from tests.fakes.manual_clock import ManualClock
from tests.fakes.sqlite_copier import long_conversation
from tests.fakes.sqlite_files import opened
from tests.processes import ROOT

LIMIT_S = 60
#: 3.2 MB as they count.
MESSAGES = 80


@asynccontextmanager
async def with_a_long_one(folder: Path, **settings: Any) -> AsyncIterator[SqliteStore]:
    """A store with the conversation `long`, and one of somebody else."""
    async with opened(folder, **settings) as store:
        await store.import_session("ann", long_conversation("long", MESSAGES))
        await store.create("bob", "other", None, {})
        yield store


async def replace_all(store: SqliteStore) -> None:
    turn = [ChatMessage(role=MessageRole.USER, content="anew")]
    await store.begin_turn("ann", "long", turn, stream_id="s", replace_from="m0")


async def found(store: SqliteStore, query: str = "sky") -> int:
    return len((await store.search("ann", query, 1000, None)).items)


async def sessions_of(store: SqliteStore) -> dict[str, int]:
    page = await store.page("ann", 100, None)
    return {session.session_id: session.message_count for session in page.items}


async def in_file(store: SqliteStore) -> dict[str, Any]:
    """What the file has, whoever may see it: sessions, messages, what is counted for whom, and the words of the
    index."""

    def read(connection: sqlite3.Connection) -> dict[str, Any]:
        connection.execute("CREATE VIRTUAL TABLE temp.word USING fts5vocab(main, message_words, row)")
        try:
            return {
                "sessions": connection.execute("SELECT count(*) FROM session").fetchone()[0],
                "messages": connection.execute("SELECT count(*) FROM message").fetchone()[0],
                "counted": connection.execute("SELECT total(sessions), total(bytes) FROM principal").fetchone(),
                "there": connection.execute("SELECT count(*), total(bytes) FROM session").fetchone(),
                "sky": connection.execute("SELECT total(doc) FROM temp.word WHERE term = 'sky'").fetchone()[0],
            }
        finally:
            connection.execute("DROP TABLE temp.word")

    return await store._worker.run(read, writes=False)


async def begun(store: SqliteStore, call: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """A call whose first step is done."""
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    await store.update("bob", "other", None, {})
    return task


async def until_nothing_is_pending(store: SqliteStore) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await store._worker.run(lambda _: store._database.leftovers.due_at, writes=False) is not None:
            pass


def _nothing(connection: sqlite3.Connection) -> None:
    """A step of the upkeep that does nothing yet."""


CALLS: dict[str, Callable[[SqliteStore], Coroutine[Any, Any, Any]]] = {
    "imported": lambda store: store.import_session("ann", long_conversation("new", MESSAGES)),
    "copied": lambda store: store.fork("ann", "long", new_session_id="new"),
    "deleted": lambda store: store.delete("ann", "long"),
    "all deleted": lambda store: store.delete_all("ann"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_others_have_their_turn_while_a_long_conversation_is(tmp_path: Path, name: str) -> None:
    async with with_a_long_one(tmp_path) as store:
        before = await sessions_of(store)
        busy = await begun(store, CALLS[name](store))
        turns = 0
        for turns in range(100):
            await store.update("bob", "other", f"title {turns}", None)
            seen = await sessions_of(store), await found(store)
            if busy.done():
                break
            # Nobody sees a part of it: it is not there yet, or not any more.
            assert seen == (({}, 0) if "deleted" in name else (before, MESSAGES))
        await busy
        assert turns > 1
        assert "new" in await sessions_of(store) or "deleted" in name


async def test_a_copy_and_an_import_in_steps_are_as_their_source(tmp_path: Path) -> None:
    async with with_a_long_one(tmp_path) as store:
        await store.fork("ann", "long", new_session_id="copy")
        await store.fork("ann", "long", before="m30", new_session_id="first 30")
        source = long_conversation("long", MESSAGES).messages
        for session_id, expected in (("long", source), ("copy", source), ("first 30", source[:30])):
            stored = await store.messages("ann", session_id)
            assert [(each.message_id, each.parent_id, each.content) for each in stored] == [
                (each.message_id, each.parent_id, each.content) for each in expected
            ]
        assert await sessions_of(store) == {"long": MESSAGES, "copy": MESSAGES, "first 30": 30}
        assert await found(store, "m29") == 3
        held = await in_file(store)
        assert held["counted"] == held["there"]


async def test_a_conversation_that_changes_while_it_is_copied_is_copied_as_it_is_then(tmp_path: Path) -> None:
    async with with_a_long_one(tmp_path) as store:
        copying = await begun(store, store.fork("ann", "long", new_session_id="copy"))
        await replace_all(store)
        assert (await copying).message_count == 1
        assert [message.content for message in await store.messages("ann", "copy")] == ["anew"]
        await until_nothing_is_pending(store)
        held = await in_file(store)
        assert (held["sessions"], held["messages"], held["sky"]) == (3, MESSAGES + 2, 0)


async def test_a_conversation_that_is_deleted_while_it_is_copied_leaves_no_copy(tmp_path: Path) -> None:
    async with with_a_long_one(tmp_path) as store:
        copying = await begun(store, store.fork("ann", "long", new_session_id="copy"))
        await store.delete("ann", "long")
        with pytest.raises(SessionNotFound):
            await copying
        await until_nothing_is_pending(store)
        assert (await in_file(store))["messages"] == 0


async def test_an_id_that_is_taken_while_a_long_conversation_is_stored_is_a_conflict(tmp_path: Path) -> None:
    async with with_a_long_one(tmp_path) as store:
        copying = await begun(store, store.fork("ann", "long", new_session_id="new"))
        await store.create("ann", "new", None, None)
        with pytest.raises(Conflict):
            await copying
        await until_nothing_is_pending(store)
        assert await sessions_of(store) == {"long": MESSAGES, "new": 0}
        assert (await in_file(store))["messages"] == MESSAGES


@pytest.mark.parametrize("name", ["imported", "copied"])
async def test_a_long_conversation_whose_storing_is_given_up_leaves_nothing(tmp_path: Path, name: str) -> None:
    async with with_a_long_one(tmp_path) as store:
        before = await in_file(store)
        storing = await begun(store, CALLS[name](store))
        storing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await storing
        await until_nothing_is_pending(store)
        assert await in_file(store) == before
        # Its id is free.
        await CALLS[name](store)
        assert await sessions_of(store) == {"long": MESSAGES, "new": MESSAGES}


async def test_a_deletion_whose_caller_leaves_goes_on(tmp_path: Path) -> None:
    async with with_a_long_one(tmp_path) as store:
        deleting = await begun(store, store.delete("ann", "long"))
        deleting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await deleting
        await until_nothing_is_pending(store)
        held = await in_file(store)
        assert (held["sessions"], held["messages"], held["sky"]) == (1, 0, 0)
        assert held["counted"] == held["there"]


async def test_a_long_conversation_that_the_file_has_no_room_for_leaves_nothing(tmp_path: Path) -> None:
    async with with_a_long_one(tmp_path, bytes_max=5_000_000) as store:
        before = await in_file(store)
        for name in ("imported", "copied"):
            with pytest.raises(StorageFull):
                await CALLS[name](store)
            await until_nothing_is_pending(store)
            assert await in_file(store) == before


async def test_messages_that_are_replaced_are_not_found_any_more_and_leave_the_index_step_by_step(
    tmp_path: Path,
) -> None:
    async with with_a_long_one(tmp_path) as store:
        await store.fork("ann", "long", new_session_id="copy")
        await replace_all(store)
        assert await found(store) == MESSAGES
        assert await sessions_of(store) == {"long": 1, "copy": MESSAGES}
        await until_nothing_is_pending(store)
        held = await in_file(store)
        assert held["sky"] == MESSAGES
        assert held["messages"] == 2 * MESSAGES + 1


@pytest.mark.parametrize("then", ["deleted", "indexed anew", "restarted"])
async def test_replaced_messages_that_are_still_in_the_index_leave_it_once(tmp_path: Path, then: str) -> None:
    async with with_a_long_one(tmp_path, finish_s=0.0) as store:
        await store.fork("ann", "long", new_session_id="copy")
        store._database.leftovers.step = _nothing  # type: ignore[method-assign]
        await replace_all(store)
        assert (await in_file(store))["sky"] == 2 * MESSAGES
        if then == "deleted":
            await store.delete("ann", "long")
        elif then == "indexed anew":
            await store._worker.run(store._index.make_anew, writes=False)
    async with opened(tmp_path) as store:
        await until_nothing_is_pending(store)
        assert (await in_file(store))["sky"] == MESSAGES
        assert await found(store) == MESSAGES
        await store.delete_all("ann")
        held = await in_file(store)
        assert (held["messages"], held["sky"]) == (0, 0)


async def test_nothing_is_left_of_a_long_conversation_that_was_deleted_in_any_file(tmp_path: Path) -> None:
    clock = ManualClock()
    async with with_a_long_one(tmp_path, clock=clock) as store:
        await store.delete("ann", "long")
        async with asyncio.timeout(LIMIT_S):
            while store._database._forgetting.due_at is not None:
                clock.advance(EVERY_S + CHECKPOINT_AFTER_S)
                await store.principals()
        assert all(b"sky" not in path.read_bytes() for path in tmp_path.iterdir())


async def test_a_kill_leaves_no_part_of_a_conversation(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    for kill in range(40 if pytestconfig.getoption("long") else 4):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.sqlite_copier", str(tmp_path), str(MESSAGES)),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        # At another step each time: an import and a copy have thirteen each, as has a deletion.
        async with asyncio.timeout(LIMIT_S):
            for _ in range(3 + kill * 11 % 43):
                await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        await process.communicate()

        async with opened(tmp_path) as store:
            there = await sessions_of(store)
            assert set(there.values()) <= {1, MESSAGES}
            assert await found(store) == sum(count for count in there.values() if count > 1)
            await until_nothing_is_pending(store)
            held = await in_file(store)
            assert (held["sessions"], held["counted"]) == (len(there), held["there"])
            assert held["sky"] == await found(store)
            await store.delete_all("ann")
            held = await in_file(store)
            assert (held["messages"], held["sky"]) == (0, 0)
