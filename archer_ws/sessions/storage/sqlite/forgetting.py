"""Makes deletions real: what was deleted goes from the search index's old parts, the free pages and the WAL file.

SQLite overwrites what it deletes (PRAGMA secure_delete), but an index of words only notes that something is gone until
its parts are joined, and the WAL file has pages as they were. Deletions of a while are done together, and a crash in
between loses no deletion's end: `meta` has that it is due.
"""

import sqlite3
from collections.abc import Callable

from archer_ws.sessions.storage.sqlite.search_index import SearchIndex

_PENDING = "forgetting"
#: How long after a deletion it is done, and how long after the last time at the earliest, in seconds.
SOON_S, EVERY_S = 1.0, 60.0
#: Pages of the index that are joined in one go, and free pages that are given back: some milliseconds, in which other
#: requests wait.
_MERGE_PAGES, _VACUUM_PAGES = 64, 256


class Forgetting:
    """What is still to be done for deletions.

    Args:
        index: the search index of the file.
        clock: the monotonic time, in seconds.
    """

    def __init__(self, index: SearchIndex, clock: Callable[[], float]) -> None:
        self.due_at: float | None = None
        self._index = index
        self._clock = clock
        self._last_end: float | None = None
        #: None between two times; else whether the index is done.
        self._is_index_done: bool | None = None
        self._is_begun_anew = False

    def open(self, connection: sqlite3.Connection) -> None:
        """See whether a deletion before this start was not finished."""
        if connection.execute("SELECT 1 FROM meta WHERE name = ?", (_PENDING,)).fetchone() is not None:
            self.due_at = self._clock()

    def begin(self, connection: sqlite3.Connection) -> None:
        """Something is deleted, in the transaction that runs."""
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (_PENDING,))
        self._is_begun_anew = True
        if self.due_at is None:
            earliest = self._clock() + SOON_S
            self.due_at = earliest if self._last_end is None else max(earliest, self._last_end + EVERY_S)

    def step(self, connection: sqlite3.Connection) -> None:
        """Do a bit of it; `due_at` tells whether there is more."""
        if self._is_index_done is None:
            self._is_begun_anew = False
            # The first step takes all parts of the index together.
            self._is_index_done = self._index.merge(connection, -_MERGE_PAGES)
        elif not self._is_index_done:
            self._is_index_done = self._index.merge(connection, _MERGE_PAGES)
        elif connection.execute("PRAGMA freelist_count").fetchone()[0]:
            connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            if not _gives_back(connection):
                self._end(connection)
        else:
            self._end(connection)

    def finish(self, connection: sqlite3.Connection) -> None:
        """Do all of it now."""
        while self.due_at is not None:
            self.step(connection)

    def give_up(self) -> None:
        """It fails: not again before the next deletion or start."""
        self.due_at = self._is_index_done = None

    def _end(self, connection: sqlite3.Connection) -> None:
        if not self._is_begun_anew:
            connection.execute("DELETE FROM meta WHERE name = ?", (_PENDING,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._is_index_done = None
        self._last_end = self._clock()
        self.due_at = self._last_end + EVERY_S if self._is_begun_anew else None


def _gives_back(connection: sqlite3.Connection) -> bool:
    """Whether free pages can be given back at all: a file that another program made may be of another kind."""
    return bool(connection.execute("PRAGMA auto_vacuum").fetchone()[0] == 2)
