"""The search index: FTS5 if SQLite has it; otherwise a search scans all messages.

A damaged index does not affect conversations: it is not used any more, and rebuilt at the next start.
"""

import sqlite3
from collections.abc import Callable

import structlog

from archer_ws.sessions.storage.refusals import blank_query
from archer_ws.sessions.storage.sqlite import failures
from archer_ws.sessions.storage.sqlite.rows import STEP_BYTES
from archer_ws.sessions.storage.sqlite.schema import INDEX, SEARCH_INDEX
from archer_ws.sessions.storage.sqlite.search_scan import COLUMNS, FoundRow, Told, found_among_newest, found_by_scan
from archer_ws.sessions.storage.words import indexed, indexed_before, terms_of

log = structlog.get_logger(__name__)

#: The entry in the table `meta` that marks the index as incomplete.
_STALE = "index_stale"
#: The entry in `meta` with the highest pk of the messages that an earlier version has added, in its form of a text. A
#: text must be removed in the form in which it was added, so its message's pk decides, which may be used again.
_FORMER = "index_former_until"
#: How many messages are added to a new index in one transaction, and about how many characters.
_BUILD_MESSAGES, _BUILD_CHARS = 1000, 4 * 1024 * 1024
#: The values of the column `hidden` of messages that were replaced: removed from the index, or not yet.
UNINDEXED, STILL_INDEXED = 1, 2
#: What the entries in `meta` begin with that name a session with messages whose column `hidden` is STILL_INDEXED.
_LATER = "index_later "
_INDEXED = (
    f"SELECT {COLUMNS} FROM message_words w CROSS JOIN message m ON m.pk = w.rowid "
    "CROSS JOIN session s ON s.pk = m.session_pk "
    "WHERE message_words MATCH ? AND w.rowid < ? AND m.hidden = 0 AND s.principal_pk = ? "
    "ORDER BY w.rowid DESC LIMIT ?"
)


class SearchIndex:
    """The search index of an open file."""

    def __init__(self) -> None:
        self._is_there = False
        #: Whether `remove_some` may have something to do.
        self.is_later_pending = False
        self._former_until = 0
        #: Whether that is noted in the file. The first process of this version notes it with what it adds, and not when
        #: it opens the file, since the disk may be full.
        self._is_former_noted = False

    def is_damaged(self, connection: sqlite3.Connection, cause: str) -> None:
        """Mark the index for a rebuild, after a check of the file found errors in it."""
        log.error("search_index_damaged", cause=cause, hint="It is rebuilt now.")
        self._mark(connection)

    def open(self, connection: sqlite3.Connection) -> None:
        """Check that the index exists and is complete; rebuild it if not."""
        self._is_there = True
        self.is_later_pending = _first_later(connection) is not None
        is_stale = connection.execute("SELECT 1 FROM meta WHERE name = ?", (_STALE,)).fetchone() is not None
        try:
            if is_stale or not self._is_readable(connection):
                self._build(connection)
            else:
                self._read_former(connection)
        except (sqlite3.Error, MemoryError) as error:
            if failures.is_trouble(error):
                raise
            # This SQLite lacks FTS5, so new messages would be missing in an index that another one has built.
            log.warning("search_without_index", cause=str(error))
            self._is_there = False
            self._mark(connection)

    def _is_readable(self, connection: sqlite3.Connection) -> bool:
        (is_made,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (INDEX,)).fetchone()
        if not is_made:
            return False
        try:
            connection.execute(f"SELECT rowid FROM {INDEX} WHERE {INDEX} MATCH 'a' LIMIT 1").fetchall()
        except (sqlite3.Error, MemoryError) as error:
            if not _is_damage(error):
                raise
            log.error(  # noqa: TRY400 - the message says all
                "search_index_damaged", cause=str(error), hint="It is rebuilt now."
            )
            return False
        return True

    def _begin_current(self, connection: sqlite3.Connection) -> None:
        """Note that the index has, from here on, nothing in an earlier version's form."""
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 0)", (_FORMER,))
        self._former_until = 0

    def _read_former(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT value FROM meta WHERE name = ?", (_FORMER,)).fetchone()
        self._is_former_noted = row is not None
        if row is None:
            row = connection.execute("SELECT coalesce(max(pk), 0) FROM message").fetchone()
        self._former_until = int(row[0])

    def add(self, connection: sqlite3.Connection, pk: int, text: str) -> None:
        """Add a message's text."""
        if self._is_there and text:
            if not self._is_former_noted:
                connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (_FORMER, self._former_until))
            self._change(connection, "INSERT INTO message_words(rowid, text) VALUES (?, ?)", pk, text)

    def remove(self, connection: sqlite3.Connection, pk: int, text: str) -> None:
        """Remove a message's text, which must be the text that was added."""
        if self._is_there and text:
            self._change(
                connection, "INSERT INTO message_words(message_words, rowid, text) VALUES ('delete', ?, ?)", pk, text
            )

    def remove_later(self, connection: sqlite3.Connection, session_pk: int) -> None:
        """Have `remove_some` remove the texts of a session's messages whose column `hidden` is set to STILL_INDEXED."""
        self.is_later_pending = True
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"{_LATER}{session_pk}", session_pk))

    def remove_some(self, connection: sqlite3.Connection) -> None:
        """Remove some texts of replaced messages, about STEP_BYTES of them."""
        session_pk = _first_later(connection)
        if session_pk is None:
            self.is_later_pending = False
            return
        removed: list[tuple[int, int]] = []
        size = 0
        # Read one by one: their texts may take much memory.
        rows = connection.execute(
            "SELECT pk, content, bytes FROM message WHERE session_pk = ? AND hidden = ? ORDER BY position",
            (session_pk, STILL_INDEXED),
        )
        for pk, content, message_bytes in rows:
            self.remove(connection, pk, content)
            removed.append((UNINDEXED, pk))
            size += message_bytes
            if size >= STEP_BYTES:
                break
        rows.close()
        connection.executemany("UPDATE message SET hidden = ? WHERE pk = ?", removed)
        if size < STEP_BYTES:
            connection.execute("DELETE FROM meta WHERE name = ?", (f"{_LATER}{session_pk}",))

    def merge(self, connection: sqlite3.Connection, pages: int) -> bool:
        """Merge the index's segments, so that nothing of removed text is left. Returns whether that is finished.

        Args:
            pages: about how many pages to merge; negative in the first call.
        """
        if not self._is_there:
            return True
        before = connection.total_changes
        try:
            connection.execute("INSERT INTO message_words(message_words, rank) VALUES ('merge', ?)", (pages,))
        except (sqlite3.Error, MemoryError) as error:
            if not _is_damage(error):
                raise
            self._leave(connection, error)
            return True
        # https://sqlite.org/fts5.html#the_merge_command
        return connection.total_changes - before < 2

    def make_anew(self, connection: sqlite3.Connection) -> None:
        """Remove everything from the index, and add all messages again, in one transaction."""
        if not self._is_there:
            return
        former_until = self._former_until
        try:
            connection.execute("BEGIN IMMEDIATE")
            # https://sqlite.org/fts5.html#the_delete_all_command
            connection.execute("INSERT INTO message_words(message_words) VALUES ('delete-all')")
            _none_later(connection)
            self._begin_current(connection)
            last: int | None = 0
            while last is not None:
                last = self._add_some(connection, last)
            connection.execute("COMMIT")
        except (sqlite3.Error, MemoryError) as error:
            self._former_until = former_until
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not _is_damage(error):
                raise
            self._leave(connection, error)

    def found(
        self,
        connection: sqlite3.Connection,
        principal_pk: int,
        query: str,
        before: int,
        limit: int,
        *,
        told: Callable[[FoundRow], Told],
    ) -> tuple[list[Told], int]:
        """The found messages below the pk `before`, the last stored first, at most `limit`.

        Returns what `told` makes of each, so that only one text is in memory at a time, and the pk to search on below:
        where the index can't be used, a call scans for a moment only (SCAN_S). 0 if there is nothing left to search.

        Raises:
            InvalidParams: the query is blank.
        """
        if not query.strip():
            raise blank_query()
        terms = terms_of(query)
        if self._is_there and terms:
            # A prefix costs as much as all words with this prefix, so only the last word, which may be incomplete, is
            # one.
            match = " AND ".join(f'"{" ".join(term)}"' for term in terms) + " *"
            newest, before = found_among_newest(connection, principal_pk, query, before, limit, told=told)
            if not before:
                return newest, 0
            rest = limit - len(newest)
            try:
                rows = [told(row) for row in connection.execute(_INDEXED, (match, before, principal_pk, rest))]
            except (sqlite3.Error, MemoryError) as error:
                if not _is_damage(error):
                    raise
                self._leave(connection, error)
                return newest, before
            return newest + rows, 0
        return found_by_scan(connection, principal_pk, query, before, limit, told=told)

    def _change(self, connection: sqlite3.Connection, statement: str, pk: int, text: str) -> None:
        try:
            connection.execute(statement, (pk, indexed_before(text) if pk <= self._former_until else indexed(text)))
        except (sqlite3.Error, MemoryError) as error:
            if not _is_damage(error):
                raise
            # The error may have rolled back the transaction; then all of it has to run again.
            is_undone = not connection.in_transaction
            self._leave(connection, error)
            if is_undone:
                raise

    def _leave(self, connection: sqlite3.Connection, error: Exception) -> None:
        """Stop using the index until the next start."""
        log.error("search_index_damaged", cause=str(error), hint="It is rebuilt at the next start.")
        self._is_there = False
        self._mark(connection)

    def _mark(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (_STALE,))

    def _build(self, connection: sqlite3.Connection) -> None:
        self._mark(connection)
        _none_later(connection)
        self._begin_current(connection)
        self._is_former_noted = True
        _drop(connection)
        connection.execute(SEARCH_INDEX)
        last: int | None = 0
        while last is not None:
            connection.execute("BEGIN IMMEDIATE")
            last = self._add_some(connection, last)
            connection.execute("COMMIT")
            if not self._is_there:
                return  # It was left, and stays marked.
        connection.execute("DELETE FROM meta WHERE name = ?", (_STALE,))

    def _add_some(self, connection: sqlite3.Connection, after: int) -> int | None:
        """Add the texts of some messages after the pk `after`. Returns the last one's pk; None if there are no more."""
        last, size = None, 0
        # Read one by one: a thousand texts may take gigabytes.
        rows = connection.execute(
            "SELECT pk, content FROM message WHERE pk > ? AND hidden = 0 ORDER BY pk LIMIT ?", (after, _BUILD_MESSAGES)
        )
        for pk, content in rows:
            self.add(connection, pk, content)
            last, size = int(pk), size + len(content)
            if size > _BUILD_CHARS:
                break
        rows.close()
        return last


def _first_later(connection: sqlite3.Connection) -> int | None:
    """A session with messages to be removed from the index; None if there is none."""
    row = connection.execute(f"SELECT value FROM meta WHERE name LIKE '{_LATER}%'").fetchone()
    return None if row is None else int(row[0])


def _none_later(connection: sqlite3.Connection) -> None:
    """Note that the index has no replaced message."""
    while (session_pk := _first_later(connection)) is not None:
        connection.execute(
            "UPDATE message SET hidden = ? WHERE session_pk = ? AND hidden = ?", (UNINDEXED, session_pk, STILL_INDEXED)
        )
        connection.execute("DELETE FROM meta WHERE name = ?", (f"{_LATER}{session_pk}",))


def _is_damage(error: Exception) -> bool:
    """Whether the index is damaged: FTS5 may raise any error, or MemoryError, for random bytes."""
    return not failures.is_trouble(error) and "no such module" not in str(error)


def _drop(connection: sqlite3.Connection) -> None:
    """Remove the index, even if it is so damaged that FTS5 can't open it."""
    try:
        connection.execute(f"DROP TABLE IF EXISTS {INDEX}")
    except (sqlite3.Error, MemoryError) as error:
        if not _is_damage(error):
            raise
        connection.execute("PRAGMA writable_schema = ON")
        try:
            connection.execute("DELETE FROM sqlite_master WHERE name = ?", (INDEX,))
        finally:
            # Also reloads the schema (https://sqlite.org/pragma.html#pragma_writable_schema).
            connection.execute("PRAGMA writable_schema = RESET")
        for part in ("data", "idx", "docsize", "config"):
            connection.execute(f"DROP TABLE IF EXISTS {INDEX}_{part}")
