"""The journal of streams in the same file and thread as the conversations (see storage/journal.py)."""

import sqlite3
from collections.abc import Collection, Sequence

from archer_ws.core.clock import utc_now
from archer_ws.sessions.storage.journal import (
    EndLost,
    KeptStream,
    LogPart,
    LogPiece,
    StreamKey,
    StreamRecord,
    WaitingStream,
)
from archer_ws.sessions.storage.sqlite import streams
from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.rows import SessionRow
from archer_ws.sessions.storage.sqlite.search_index import SearchIndex
from archer_ws.sessions.storage.sqlite.transaction import Transaction
from archer_ws.sessions.storage.sqlite.worker import Worker


class SqliteJournal:
    """The journal of a store.

    Args:
        worker: the store's thread.
        accounts: the store's limits.
        index: the store's search index.
    """

    def __init__(self, worker: Worker, accounts: Accounts, index: SearchIndex) -> None:
        self._worker = worker
        self._accounts = accounts
        self._index = index
        #: The lowest number of this process's streams: those with lower numbers belong to earlier processes. A number
        #: is used again once its stream and those with higher ones are deleted.
        self._first: int | None = None

    def begin(self, connection: sqlite3.Connection, session: SessionRow, record: StreamRecord, after: str) -> None:
        """Insert a stream, within the transaction that stores its turn."""
        number = streams.begin(connection, session, record, after)
        # Stays correct if the transaction is rolled back: then the number is used again.
        self._first = number if self._first is None else min(self._first, number)

    async def put(self, parts: Sequence[LogPart], forgotten: Collection[StreamKey] = ()) -> None:
        """Store the new parts of running streams, and delete the forgotten ones, in one transaction."""

        def job(connection: sqlite3.Connection) -> None:
            streams.put(connection, parts)
            streams.forget(connection, forgotten)

        await self._worker.run(job, writes=True)

    async def withdraw(self, key: StreamKey, request_id: str, *, has_replaced: bool = False) -> bool:
        """Remove what a refused request has stored; its messages stay if they have replaced others."""

        def job(connection: sqlite3.Connection) -> bool:
            at = Transaction(connection, self._accounts, self._index)
            return streams.withdraw(at, key, request_id, has_replaced=has_replaced)

        return await self._worker.run(job, writes=True)

    async def load(self, key: StreamKey) -> list[LogPiece] | None:
        """The pieces of a stream's log without its end, in order; None if there is no such stream."""
        return await self._worker.run(lambda connection: streams.load(connection, key), writes=False)

    async def recover(self, end_lost: EndLost, *, writes: bool = True) -> list[KeptStream | WaitingStream]:
        """End the streams that earlier processes left running, except waiting ones, and return all of their streams.
        With `writes=False` nothing is written, but the result is the same."""

        def job(connection: sqlite3.Connection) -> list[KeptStream | WaitingStream]:
            at = Transaction(connection, self._accounts, self._index)
            return streams.recover(at, end_lost, before=self._first, now=utc_now(), writes=writes)

        return await self._worker.run(job, writes=writes)
