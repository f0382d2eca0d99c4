"""Streams in the file of the conversations (see storage/journal.py), on the same thread."""

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
        worker: the store's.
        accounts: its limits.
        index: its search index.
    """

    def __init__(self, worker: Worker, accounts: Accounts, index: SearchIndex) -> None:
        self._worker = worker
        self._accounts = accounts
        self._index = index
        #: The number of this process's first stream: those below are an earlier one's.
        self._first: int | None = None

    def begin(self, connection: sqlite3.Connection, session: SessionRow, record: StreamRecord, after: str) -> None:
        """A stream is accepted; within the transaction that stores its turn."""
        number = streams.begin(connection, session, record, after)
        # It stays where the transaction comes to nothing: then the number is given again.
        self._first = number if self._first is None else self._first

    async def put(self, parts: Sequence[LogPart], forgotten: Collection[StreamKey] = ()) -> None:
        """Keep what is new of running streams, and forget others: all of it, or nothing."""

        def job(connection: sqlite3.Connection) -> None:
            streams.put(connection, parts)
            streams.forget(connection, forgotten)

        await self._worker.run(job, writes=True)

    async def withdraw(self, key: StreamKey, request_id: str) -> None:
        """Take out again what a refused request has stored."""

        def job(connection: sqlite3.Connection) -> None:
            streams.withdraw(Transaction(connection, self._accounts, self._index), key, request_id)

        await self._worker.run(job, writes=True)

    async def load(self, key: StreamKey) -> list[LogPiece] | None:
        """A stream's log without its end, in order; None where there is no such stream."""
        return await self._worker.run(lambda connection: streams.load(connection, key), writes=False)

    async def recover(self, end_lost: EndLost, *, writes: bool = True) -> list[KeptStream | WaitingStream]:
        """End what an earlier process left running, but for what waits, and give all of its streams; without `writes`,
        as if that were done."""

        def job(connection: sqlite3.Connection) -> list[KeptStream | WaitingStream]:
            at = Transaction(connection, self._accounts, self._index)
            return streams.recover(at, end_lost, before=self._first, now=utc_now(), writes=writes)

        return await self._worker.run(job, writes=writes)
