"""The conversation store in an SQLite file (see storage/store.py).

It owns the thread, and defines what each call does there. database.py opens the file; sessions.py, messages.py and
history.py read and write the tables.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from archer_ws.core.exceptions import ArcherError, FieldError, InvalidParams, StorageUnavailable
from archer_ws.llm_gateway.types import ChatMessage, MessageRole
from archer_ws.sessions.history import NO_HISTORY, History, estimate_tokens
from archer_ws.sessions.models import ExportedSession, FoundMessage, SearchPage, Session, SessionPage, StoredMessage
from archer_ws.sessions.storage.cursors import moment_of, ordinal_of
from archer_ws.sessions.storage.journal import LogEnd, StreamRecord
from archer_ws.sessions.storage.refusals import check_exported, check_version
from archer_ws.sessions.storage.sqlite import messages as stored
from archer_ws.sessions.storage.sqlite import sessions, streams
from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.database import FileSettings, OpenDatabase
from archer_ws.sessions.storage.sqlite.growth import Copied, Imported, Part, Source, grow
from archer_ws.sessions.storage.sqlite.history import history_before
from archer_ws.sessions.storage.sqlite.journal import SqliteJournal
from archer_ws.sessions.storage.sqlite.leftovers import Hold
from archer_ws.sessions.storage.sqlite.migrations import copy_to
from archer_ws.sessions.storage.sqlite.rows import STEP_BYTES, SessionRow
from archer_ws.sessions.storage.sqlite.search_scan import FoundRow
from archer_ws.sessions.storage.sqlite.transaction import Transaction
from archer_ws.sessions.storage.sqlite.worker import Job, T, Worker
from archer_ws.sessions.storage.values import SessionOrder, StoredCompletion, StoredTurn
from archer_ws.sessions.storage.words import snippet

#: How much of a conversation is copied at once: a copy whose source changes meanwhile begins anew, at last as a whole.
_FORK_STEPS = (STEP_BYTES, STEP_BYTES, STEP_BYTES, sys.maxsize)


class SqliteStore:
    """Conversations in the file `archer.db` of a folder, which only one process may use at a time.

    Args:
        folder: created if there is none.
        settings: how the file is opened.
        accounts: the limits.
    """

    def __init__(self, folder: Path, settings: FileSettings, accounts: Accounts) -> None:
        self._database = OpenDatabase(folder, settings)
        self._accounts = accounts
        self._index = self._database.index
        self._leftovers = self._database.leftovers
        self._worker = Worker(self._database)
        #: The store of streams.
        self.journal = SqliteJournal(self._worker, accounts, self._index)

    @property
    def trouble(self) -> ArcherError | None:
        """Why it can't write at present: a full disk, missing permissions, a disk error. None if it can."""
        return self._database.trouble

    @property
    def place(self) -> Mapping[str, str]:
        """The file, and how to change that."""
        file = self._database.folder.database
        return {"place": str(file), "hint": "ARCHER_DATA_DIR names another folder; ARCHER_STORE=memory stores no file."}

    @property
    def is_whole(self) -> bool:
        """Whether there is no damaged file beside this one, which has further conversations."""
        return not self._database.folder.has_damaged()

    def use_while(self, is_busy: Callable[[str, str], bool]) -> None:
        """Does nothing: no session expires."""

    def open_now(self) -> None:
        """`open`, for callers without an event loop.

        Raises:
            StorageUnavailable: as `open`.
        """
        self._worker.start()

    async def open(self) -> None:
        """Lock the folder and open its file, unless that is done; waits for another process to unlock it.

        Raises:
            StorageUnavailable: another process has the lock, or the file is of a newer version or another program.
        """
        await asyncio.to_thread(self._worker.start)

    async def aclose(self) -> None:
        """Run all waiting requests, close the file and unlock the folder."""
        await asyncio.to_thread(self._worker.stop)

    async def create(
        self, principal: str, session_id: str | None, title: str | None, metadata: dict[str, Any] | None
    ) -> tuple[Session, bool]:
        """Create a session. Returns it, and whether it is new."""

        def job(connection: sqlite3.Connection) -> tuple[Session, bool]:
            found = None if session_id is None else sessions.find(connection, principal, session_id)
            if found is not None:
                return found.as_session(), False
            made = sessions.create(self._at(connection), principal, session_id, title, metadata)
            return made.as_session(), True

        return await self._write(job)

    async def get(self, principal: str, session_id: str) -> Session:
        """The session without its messages."""
        return await self._read(lambda connection: sessions.get(connection, principal, session_id).as_session())

    async def messages(
        self, principal: str, session_id: str, before: str | None = None, limit: int | None = None
    ) -> list[StoredMessage]:
        """The messages in order: those before the message `before`, or all; with a limit the newest of these."""
        return await self._read(
            lambda connection: stored.page(connection, sessions.get(connection, principal, session_id), before, limit)
        )

    async def detail(
        self, principal: str, session_id: str, before: str | None, limit: int, *, bytes_max: int | None = None
    ) -> tuple[Session, list[StoredMessage]]:
        """`get` and `messages` in one transaction."""

        def job(connection: sqlite3.Connection) -> tuple[Session, list[StoredMessage]]:
            session = sessions.get(connection, principal, session_id)
            return session.as_session(), stored.page(connection, session, before, limit, bytes_max)

        return await self._read(job)

    async def history(
        self, principal: str, session_id: str, *, before: str, turn_tokens: int, budget_tokens: int | None
    ) -> History:
        """The history before the turn that begins with message `before`, cut to the budget."""

        def job(connection: sqlite3.Connection) -> History:
            session = sessions.get(connection, principal, session_id)
            position = stored.position_of(connection, session, before)
            if position is None:
                return NO_HISTORY
            return history_before(connection, session, position, turn_tokens, budget_tokens)

        return await self._read(job)

    async def page(
        self,
        principal: str,
        limit: int,
        cursor: str | None,
        *,
        order: SessionOrder = "created",
        archived: bool | None = None,
    ) -> SessionPage:
        """A page of sessions, newest first."""
        return await self._read(
            lambda connection: sessions.page(connection, principal, limit, cursor, order=order, archived=archived)
        )

    async def search(self, principal: str, query: str, limit: int, cursor: str | None) -> SearchPage:
        """The messages that contain all words of the query, the last stored first."""
        before = sessions.NUMBER_MAX if cursor is None else min(ordinal_of(cursor), sessions.NUMBER_MAX)
        found: list[tuple[int, FoundMessage]] = []

        def job(connection: sqlite3.Connection) -> tuple[list[tuple[int, FoundMessage]], int]:
            principal_pk = self._accounts.find(connection, principal) or 0
            most = limit + 1 - len(found)
            return self._index.found(
                connection, principal_pk, query, before, most, told=lambda row: (row[0], _found(row, query))
            )

        while True:
            more, before = await self._read(job)
            found += more
            if not before or len(found) > limit:
                break
        return SearchPage.model_construct(
            items=[message for _, message in found[:limit]],
            next_cursor=str(found[limit - 1][0]) if len(found) > limit else None,
        )

    async def update(
        self,
        principal: str,
        session_id: str,
        title: str | None,
        metadata: dict[str, Any] | None,
        *,
        archived: bool | None = None,
        version: int | None = None,
    ) -> Session:
        """Change what is not None, and return the session."""
        return await self._write(
            lambda connection: sessions.update(
                self._at(connection),
                principal,
                session_id,
                title=title,
                metadata=metadata,
                archived=archived,
                version=version,
            )
        )

    async def delete(self, principal: str, session_id: str, *, version: int | None = None) -> None:
        """Delete the session and its messages."""

        def rows(connection: sqlite3.Connection) -> Sequence[SessionRow]:
            session = sessions.get(connection, principal, session_id)
            check_version(version, session.version)
            return [session]

        await self._delete(rows)

    async def delete_all(self, principal: str) -> int:
        """Delete all of a principal's sessions, and return their number."""
        deleted = 0
        while some := await self._delete(lambda connection: sessions.to_delete(connection, principal)):
            deleted += some
        return deleted

    async def named_files(self, principal: str | None = None, session_id: str | None = None) -> set[str]:
        """The ids of the files that stored messages name: of one session, or of all sessions of all principals."""

        def job(connection: sqlite3.Connection) -> set[str]:
            if principal is None or session_id is None:
                return stored.named_files(connection, None)
            return stored.named_files(connection, sessions.get(connection, principal, session_id))

        return await self._read(job)

    async def fork(
        self, principal: str, session_id: str, *, before: str | None = None, new_session_id: str | None = None
    ) -> Session:
        """Create a session with copies of this one's messages: of those before the message `before`, or of all."""

        for step_bytes in _FORK_STEPS:
            copied = Copied(principal, session_id, before, new_session_id, step_bytes)
            if (session := await self._grow(copied)) is not None:
                return session
        raise AssertionError("a copy of one step has no source that changes")

    async def begin_turn(
        self,
        principal: str,
        session_id: str,
        messages: Sequence[ChatMessage],
        *,
        stream_id: str,
        replace_from: str | None = None,
        version: int | None = None,
        turn_tokens: int = 0,
        budget_tokens: int | None = None,
        record: StreamRecord | None = None,
    ) -> StoredTurn:
        """Store a turn's messages, and read the history before them. With `replace_from`, that message and all that
        follow it are replaced."""

        def job(connection: sqlite3.Connection) -> StoredTurn:
            session = sessions.get(connection, principal, session_id)
            check_version(version, session.version)
            begin, turn = stored.begin_turn(
                self._at(connection),
                principal,
                session,
                messages,
                stream_id=stream_id,
                replace_from=replace_from,
            )
            if record is not None:
                self.journal.begin(connection, session, record, turn[-1].message_id)
            again = 0 if messages else estimate_tokens([message.as_chat() for message in turn])
            return StoredTurn(turn, history_before(connection, session, begin, turn_tokens + again, budget_tokens))

        return await self._write(job)

    async def append_completion(
        self,
        principal: str,
        session_id: str,
        completion: StoredCompletion,
        *,
        after: str,
        stream_id: str,
        end: LogEnd | None = None,
    ) -> list[str]:
        """Store what a stream leaves after its turn's last message; does nothing if that message was deleted."""

        def job(connection: sqlite3.Connection) -> list[str]:
            session = sessions.get(connection, principal, session_id)
            message_ids = stored.append_completion(
                self._at(connection), session, completion, after=after, stream_id=stream_id
            )
            if end is not None:
                streams.end(connection, (principal, stream_id), end, message_ids)
            return message_ids

        return await self._write(job)

    async def principals(self) -> list[str]:
        """All principals that have sessions, sorted."""
        return await self._read(sessions.principals)

    async def export(self, principal: str) -> AsyncIterator[ExportedSession]:
        """All of a principal's conversations, oldest first."""
        last = 0

        def job(connection: sqlite3.Connection) -> tuple[int, ExportedSession] | None:
            for row in sessions.first_of(connection, principal, last, 1):
                session = row.as_session()
                return row.pk, ExportedSession.model_construct(
                    **session.__dict__, messages=stored.page(connection, row, None, None)
                )
            return None

        while (found := await self._read(job)) is not None:
            last, exported = found
            yield exported

    async def import_session(self, principal: str, exported: ExportedSession) -> Session:
        """Store an exported conversation."""
        check_exported(exported)

        session = await self._grow(Imported(principal, exported))
        assert session is not None
        return session

    async def backup(self, path: Path) -> None:
        """Write everything that is stored to a new file, while the store is in use."""

        def job(connection: sqlite3.Connection) -> None:
            try:
                copy_to(connection, path)
            except FileExistsError:
                raise InvalidParams(
                    f"path: {path} exists",
                    hint="Name a file that does not exist.",
                    errors=[FieldError(path="path", message="exists")],
                ) from None
            except (OSError, sqlite3.Error) as error:
                raise StorageUnavailable(
                    f"the backup {path} can't be written: {os.strerror(error.errno or 0)}"
                    if isinstance(error, OSError)
                    else f"the backup {path} can't be written: {error}",
                    hint="Check that its folder exists, is writable and has room.",
                    retryable=False,
                ) from error

        # VACUUM INTO does not write to the store's own file, and must not run within a transaction.
        await self._read(job)

    def _at(self, connection: sqlite3.Connection) -> Transaction:
        return Transaction(connection, self._accounts, self._index)

    async def _grow(self, source: Source) -> Session | None:
        """Store a conversation, and return it; None if its source changed meanwhile."""
        hold = Hold()
        part: Part | None = None
        try:
            while True:
                grown = await self._write(partial(self._grown, source, hold, part))
                if not isinstance(grown, Part):
                    return grown
                part = grown
        finally:
            hold.is_left = True

    def _grown(
        self, source: Source, hold: Hold, part: Part | None, connection: sqlite3.Connection
    ) -> Session | Part | None:
        return grow(self._at(connection), self._leftovers, source, hold, part)

    async def _delete(self, rows: Job[Sequence[SessionRow]]) -> int:
        """Delete the sessions of these rows, and return their number. A large one is alone, and is removed step by
        step, once nobody sees it any more."""
        hold = Hold()

        def job(connection: sqlite3.Connection) -> tuple[int, int | None]:
            found = rows(connection)
            if not found:
                return 0, None
            self._database.deleting()
            if len(found) == 1 and found[0].bytes > sessions.DELETED_BYTES_AT_ONCE:
                self._leftovers.put_deleted(connection, found[0], hold)
                return 1, found[0].pk
            sessions.delete(self._at(connection), found)
            self._database.forgotten()
            return len(found), None

        def step(large: int, connection: sqlite3.Connection) -> bool:
            self._database.deleting()
            return self._leftovers.clear(connection, large)

        try:
            count, large = await self._write(job)
            while large is not None and not await self._write(partial(step, large)):
                pass
        finally:
            hold.is_left = True
        return count

    async def _read(self, job: Job[T]) -> T:
        return await self._worker.run(job, writes=False)

    async def _write(self, job: Job[T]) -> T:
        return await self._worker.run(job, writes=True)


def _found(row: FoundRow, query: str) -> FoundMessage:
    _, session_id, message_id, role, content, created_at = row
    return FoundMessage.model_construct(
        session_id=session_id,
        message_id=message_id,
        role=MessageRole(role),
        snippet=snippet(content, query),
        created_at=moment_of(created_at),
    )
