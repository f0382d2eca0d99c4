"""Removes deleted text from where SQLite leaves it: the search index's old segments, free pages, and the WAL file.

SQLite overwrites what it deletes (PRAGMA secure_delete), but the index only marks entries as deleted until its segments
are merged, and the WAL file has old pages. The deletions of a minute are processed together. A mark in the table `meta`
makes sure that this is finished after a crash.
"""

import sqlite3
from collections.abc import Callable

from archer_ws.sessions.storage.sqlite.search_index import SearchIndex

_PENDING = "forgetting"
#: The pause after a deletion, and the least pause after the previous run, in seconds.
SOON_S, EVERY_S = 1.0, 60.0
#: How many free pages are returned in one step. A step takes some milliseconds, during which other requests wait.
_VACUUM_PAGES = 256
#: How many pages of the index a step writes: at first the least. What it reads for them depends on how much was
#: deleted, so a step that took longer than _STEP_S seconds halves the number for the next one, and a shorter one
#: doubles it.
#: (Fewer would not be faster: on a slow disk the end of a step takes that long by itself.)
_MERGE_PAGES_MIN, _MERGE_PAGES_MAX = 4, 64
_STEP_S = 0.02
#: If no more than this is stored, in bytes, the index is made anew in one step of about _STEP_S: to merge next to
#: nothing but deleted entries would be few steps, however many there are, and take several times as long.
_ANEW_BYTES = 256 * 1024


class Forgetting:
    """The pending work for deletions.

    Args:
        index: the file's search index.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, index: SearchIndex, clock: Callable[[], float]) -> None:
        self.due_at: float | None = None
        self._index = index
        self._clock = clock
        self._last_end: float | None = None
        #: None between two runs; within one, whether the index is finished.
        self._is_index_done: bool | None = None
        self._is_begun_anew = False
        self._pages = self._pages_min = _MERGE_PAGES_MIN

    def open(self, connection: sqlite3.Connection) -> None:
        """Check whether work of an earlier process is pending."""
        if connection.execute("SELECT 1 FROM meta WHERE name = ?", (_PENDING,)).fetchone() is not None:
            self.due_at = self._clock()

    def begin(self, connection: sqlite3.Connection) -> None:
        """Note a deletion, within its transaction."""
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (_PENDING,))
        self._is_begun_anew = True
        if self.due_at is None:
            earliest = self._clock() + SOON_S
            self.due_at = earliest if self._last_end is None else max(earliest, self._last_end + EVERY_S)

    def step(self, connection: sqlite3.Connection) -> None:
        """Run one step; afterwards `due_at` is None if nothing is left."""
        if self._is_index_done is None:
            self._is_begun_anew = False
            self._pages = self._pages_min
            if _stored_bytes(connection) <= _ANEW_BYTES:
                self._index.make_anew(connection)
                self._is_index_done = True
            else:
                # A negative number makes FTS5 merge all segments into one, beginning with this call.
                self._is_index_done = self._index.merge(connection, -self._pages)
        elif not self._is_index_done:
            began = self._clock()
            self._is_index_done = self._index.merge(connection, self._pages)
            is_long = self._clock() - began > _STEP_S
            self._pages = max(self._pages_min, self._pages // 2) if is_long else min(_MERGE_PAGES_MAX, self._pages * 2)
        elif connection.execute("PRAGMA freelist_count").fetchone()[0]:
            # Not `execute`, which returns after the first page: this pragma gives a row, without columns, for each.
            connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            if not _gives_back(connection):
                self._end(connection)
        else:
            self._end(connection)

    def finish(self, connection: sqlite3.Connection, limit_s: float) -> bool:
        """Run all steps now, for about `limit_s` seconds at most. Returns whether nothing is left.

        Nobody waits for a step any more, so they are large: on a slow disk, the end of each takes longer than _STEP_S,
        however small it is.
        """
        until = self._clock() + limit_s
        self._pages_min = self._pages = _MERGE_PAGES_MAX
        while self.due_at is not None and self._clock() < until:
            self.step(connection)
        self._pages_min = _MERGE_PAGES_MIN
        return self.due_at is None

    def give_up(self) -> None:
        """Stop after a failure, until the next deletion or start."""
        self.due_at = self._is_index_done = None

    def _end(self, connection: sqlite3.Connection) -> None:
        if not self._is_begun_anew:
            connection.execute("DELETE FROM meta WHERE name = ?", (_PENDING,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._is_index_done = None
        self._last_end = self._clock()
        self.due_at = self._last_end + EVERY_S if self._is_begun_anew else None


def _stored_bytes(connection: sqlite3.Connection) -> int:
    """About how much the conversations of all principals take, in bytes."""
    (size,) = connection.execute("SELECT total(bytes) FROM principal").fetchone()
    return int(size)


def _gives_back(connection: sqlite3.Connection) -> bool:
    """Whether the file is in incremental auto_vacuum mode; a file that another program made may not be."""
    return bool(connection.execute("PRAGMA auto_vacuum").fetchone()[0] == 2)
