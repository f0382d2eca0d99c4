"""Searches messages one by one, without the search index."""

import sqlite3
import time
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from archer_ws.sessions.storage.words import QUERY_WORDS_MAX, finder, terms_of, words_of

#: A found message: pk, session id, message id, role, text and time; and its columns.
FoundRow: TypeAlias = tuple[int, str, str, str, str, int]
COLUMNS = "m.pk, s.session_id, m.message_id, m.role, m.content, m.created_at"
Told = TypeVar("Told")

#: How long one request scans messages, in seconds; other requests wait meanwhile.
SCAN_S = 0.01
#: In a file with more messages than this, a search looks at the newest ones first, for so many seconds: what many
#: messages have is in these, too, and the index takes a second per million messages that have the beginning of a word.
LOOK_FROM, LOOK_S = 20_000, 0.02
#: How many of a message's first characters are looked at first. If nothing is found there, and it has more than the
#: second number, it is left to the index, and so are those before it.
_HEAD_CHARS, _LOOK_CHARS = 2048, 16 * 1024
#: Of a principal with fewer bytes than this, only its own messages are looked at; of one with more, those of others are
#: passed over.
_OWN_BYTES = 4 * 1024 * 1024
#: All messages; those that are not found without their text.
_SCANNED = (
    "SELECT m.pk, s.session_id, m.message_id, m.role, "
    "CASE WHEN m.hidden = 0 AND s.principal_pk = ? {conditions} THEN m.content END, m.created_at "
    "FROM message m CROSS JOIN session s ON s.pk = m.session_pk WHERE m.pk < ? ORDER BY m.pk DESC"
)
_OWN = (
    f"SELECT {COLUMNS} FROM message m CROSS JOIN session s ON s.pk = m.session_pk WHERE m.pk IN "
    "(SELECT own.pk FROM session CROSS JOIN message own ON own.session_pk = session.pk "
    "WHERE session.principal_pk = ? AND own.hidden = 0) AND m.pk < ? ORDER BY m.pk DESC"
)


def found_by_scan(
    connection: sqlite3.Connection,
    principal_pk: int,
    query: str,
    before: int,
    limit: int,
    *,
    told: Callable[[FoundRow], Told],
) -> tuple[list[Told], int]:
    """As `SearchIndex.found`, by a scan of all messages below `before`, for SCAN_S.

    Unlike the index, a scan does not ignore accents, and ignores case only for ASCII.
    """
    until = time.monotonic() + SCAN_S
    conditions, wanted = _conditions(query)
    found: list[Told] = []
    for row in connection.execute(_SCANNED.format(conditions=conditions), (principal_pk, *wanted, before)):
        if row[4] is not None:
            found.append(told(row))
            if len(found) == limit:
                break
        if time.monotonic() > until:
            return found, row[0]
    return found, 0


def found_among_newest(
    connection: sqlite3.Connection,
    principal_pk: int,
    query: str,
    before: int,
    limit: int,
    *,
    told: Callable[[FoundRow], Told],
) -> tuple[list[Told], int]:
    """As `SearchIndex.found`, but without the index, and only of the newest messages below `before`, if the file has
    many."""
    (last,) = connection.execute("SELECT max(pk) FROM message").fetchone()
    if last is None or last <= LOOK_FROM:
        return [], before
    (size,) = connection.execute("SELECT total(bytes) FROM principal WHERE pk = ?", (principal_pk,)).fetchone()
    statement = _OWN if size < _OWN_BYTES else _SCANNED.format(conditions="")
    until, has = time.monotonic() + LOOK_S, finder(query)
    found: list[Told] = []
    for row in connection.execute(statement, (principal_pk, before)):
        pk, *_, text, _ = row
        if text is not None:
            if has(_head(text)) or (_HEAD_CHARS < len(text) <= _LOOK_CHARS and has(text)):
                found.append(told(row))
                if len(found) == limit:
                    break
            elif len(text) > _LOOK_CHARS:
                return found, pk + 1
        if time.monotonic() > until:
            return found, pk
    return found, 0


def _conditions(query: str) -> tuple[str, list[str]]:
    """SQL conditions for what is found, and their values."""
    if not terms_of(query):
        return "AND instr(m.content, ?)", [query.strip()]
    # A pattern of LIKE ends at a NUL character.
    words = [word for word in query.replace("\x00", " ").split()[:QUERY_WORDS_MAX] if words_of(word)]
    patterns = [f"%{''.join(f'!{sign}' if sign in '%_!' else sign for sign in word)}%" for word in words]
    return " ".join("AND m.content LIKE ? ESCAPE '!'" for _ in patterns), patterns


def _head(text: str) -> str:
    """The whole words in the first characters of a text."""
    return text if len(text) <= _HEAD_CHARS else text[: text.rfind(" ", 0, _HEAD_CHARS) + 1]
