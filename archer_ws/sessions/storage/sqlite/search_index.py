"""The index of words: FTS5 where SQLite has it, else every message is looked at.

A damaged index costs no conversation: it is left alone from then on, and built anew at the next start.
"""

import sqlite3
from collections.abc import Iterable

import structlog

from archer_ws.sessions.storage.refusals import blank_query
from archer_ws.sessions.storage.sqlite import failures
from archer_ws.sessions.storage.sqlite.schema import INDEX, SEARCH_INDEX
from archer_ws.sessions.storage.words import QUERY_WORDS_MAX, indexed, terms_of, words_of

log = structlog.get_logger(__name__)

#: Under this name `meta` says that the index is not whole.
_STALE = "index_stale"
#: Messages that are put into a new index in one transaction.
_BUILD_MESSAGES = 1000


class SearchIndex:
    """The index of one open file."""

    def __init__(self) -> None:
        self._is_there = False

    def is_damaged(self, connection: sqlite3.Connection, cause: str) -> None:
        """What a check of the file found wrong with it alone."""
        log.error("search_index_damaged", cause=cause, hint="It is built anew.")
        self._mark(connection)

    def open(self, connection: sqlite3.Connection) -> None:
        """See that it is there and whole, and build it where it is not."""
        self._is_there = True
        is_stale = connection.execute("SELECT 1 FROM meta WHERE name = ?", (_STALE,)).fetchone() is not None
        try:
            if is_stale or not self._is_readable(connection):
                self._build(connection)
        except (sqlite3.Error, MemoryError) as error:
            if failures.is_trouble(error):
                raise
            # This SQLite lacks FTS5: what it stores is not in an index that another one made.
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
            log.error(  # noqa: TRY400 - it tells all
                "search_index_damaged", cause=str(error), hint="It is built anew."
            )
            return False
        return True

    def add(self, connection: sqlite3.Connection, pk: int, text: str) -> None:
        """Take a message's text in."""
        if self._is_there and text:
            self._change(connection, "INSERT INTO message_words(rowid, text) VALUES (?, ?)", pk, text)

    def remove(self, connection: sqlite3.Connection, pk: int, text: str) -> None:
        """Take it out: the same text that was taken in."""
        if self._is_there and text:
            self._change(
                connection, "INSERT INTO message_words(message_words, rowid, text) VALUES ('delete', ?, ?)", pk, text
            )

    def merge(self, connection: sqlite3.Connection, pages: int) -> bool:
        """Go on with joining the index's parts, so that nothing is left of what was taken out; whether that is done.

        Args:
            pages: how much of it at once, about; negative at the beginning.
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

    def found(
        self, connection: sqlite3.Connection, principal_pk: int, query: str, before: int, limit: int
    ) -> Iterable[tuple[int, str, str, str, str, int]]:
        """Of what was found: pk, session, id, role, text and time of each message, the last stored first.

        Raises:
            InvalidParams: the query is blank.
        """
        if not query.strip():
            raise blank_query()
        terms = terms_of(query)
        columns = "m.pk, s.session_id, m.message_id, m.role, m.content, m.created_at"
        if self._is_there and terms:
            # A beginning costs as much as all words that begin so: none but the word that is being typed.
            match = " AND ".join(f'"{" ".join(term)}"' for term in terms) + " *"
            try:
                return connection.execute(
                    f"SELECT {columns} FROM message_words w CROSS JOIN message m ON m.pk = w.rowid "
                    "CROSS JOIN session s ON s.pk = m.session_pk "
                    "WHERE message_words MATCH ? AND w.rowid < ? AND m.hidden = 0 AND s.principal_pk = ? "
                    "ORDER BY w.rowid DESC LIMIT ?",
                    (match, before, principal_pk, limit),
                ).fetchall()
            except (sqlite3.Error, MemoryError) as error:
                if not _is_damage(error):
                    raise
                self._leave(connection, error)
        conditions, wanted = _looked_at(query, has_words=bool(terms))
        return connection.execute(
            f"SELECT {columns} FROM message m CROSS JOIN session s ON s.pk = m.session_pk "
            f"WHERE m.pk < ? AND m.hidden = 0 AND s.principal_pk = ? {conditions} ORDER BY m.pk DESC LIMIT ?",
            (before, principal_pk, *wanted, limit),
        ).fetchall()

    def _change(self, connection: sqlite3.Connection, statement: str, pk: int, text: str) -> None:
        try:
            connection.execute(statement, (pk, indexed(text)))
        except (sqlite3.Error, MemoryError) as error:
            if not _is_damage(error):
                raise
            # It may have undone the whole transaction: then what else belongs to that has to be done again.
            is_undone = not connection.in_transaction
            self._leave(connection, error)
            if is_undone:
                raise

    def _leave(self, connection: sqlite3.Connection, error: Exception) -> None:
        """Use it no more, until the next start."""
        log.error("search_index_damaged", cause=str(error), hint="It is built anew at the next start.")
        self._is_there = False
        self._mark(connection)

    def _mark(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (_STALE,))

    def _build(self, connection: sqlite3.Connection) -> None:
        self._mark(connection)
        _drop(connection)
        connection.execute(SEARCH_INDEX)
        last = 0
        while True:
            rows = connection.execute(
                "SELECT pk, content FROM message WHERE pk > ? AND hidden = 0 ORDER BY pk LIMIT ?",
                (last, _BUILD_MESSAGES),
            ).fetchall()
            if not rows:
                break
            connection.execute("BEGIN IMMEDIATE")
            for pk, content in rows:
                self.add(connection, pk, content)
            connection.execute("COMMIT")
            last = rows[-1][0]
        connection.execute("DELETE FROM meta WHERE name = ?", (_STALE,))


def _is_damage(error: Exception) -> bool:
    """Whether it is the index that is wrong: what FTS5 reads of noise may be called anything, or be a huge size."""
    return not failures.is_trouble(error) and "no such module" not in str(error)


def _drop(connection: sqlite3.Connection) -> None:
    """Remove the index, also one so damaged that its module does not know it any more."""
    try:
        connection.execute(f"DROP TABLE IF EXISTS {INDEX}")
    except (sqlite3.Error, MemoryError) as error:
        if not _is_damage(error):
            raise
        connection.execute("PRAGMA writable_schema = ON")
        try:
            connection.execute("DELETE FROM sqlite_master WHERE name = ?", (INDEX,))
        finally:
            # It reads the schema anew, too (https://sqlite.org/pragma.html#pragma_writable_schema).
            connection.execute("PRAGMA writable_schema = RESET")
        for part in ("data", "idx", "docsize", "config"):
            connection.execute(f"DROP TABLE IF EXISTS {INDEX}_{part}")


def _looked_at(query: str, *, has_words: bool) -> tuple[str, list[str]]:
    """Conditions that every message is looked at by, and their values; without accents and other scripts' cases."""
    if not has_words:
        return "AND instr(m.content, ?)", [query.strip()]
    # LIKE's pattern ends at a zero.
    words = [word for word in query.replace("\x00", " ").split()[:QUERY_WORDS_MAX] if words_of(word)]
    patterns = [f"%{''.join(f'!{sign}' if sign in '%_!' else sign for sign in word)}%" for word in words]
    return " ".join("AND m.content LIKE ? ESCAPE '!'" for _ in patterns), patterns
