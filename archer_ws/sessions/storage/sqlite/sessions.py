"""Reads and writes the table of sessions; each function runs within its caller's transaction."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from archer_ws.core.clock import utc_now
from archer_ws.core.ids import new_id
from archer_ws.core.limits import PAGE_BYTES_MAX
from archer_ws.sessions.models import ExportedSession, Session, SessionPage
from archer_ws.sessions.storage.conversation import SESSION_LISTED_BYTES
from archer_ws.sessions.storage.cursors import SessionPlace, cursor_of, microseconds, ordinal_of, place_of
from archer_ws.sessions.storage.refusals import check_version, no_session
from archer_ws.sessions.storage.sqlite.rows import SESSION_COLUMNS, SessionRow, described_bytes, metadata_text
from archer_ws.sessions.storage.sqlite.search_index import UNINDEXED
from archer_ws.sessions.storage.sqlite.transaction import Transaction
from archer_ws.sessions.storage.values import SessionOrder

#: SQLite's largest integer.
NUMBER_MAX = 2**63 - 1
#: How much `delete_all` deletes in one transaction: so many sessions, or so many bytes as sessions count, which takes
#: about 50 ms, during which other requests wait; but at least one session.
DELETED_AT_ONCE, DELETED_BYTES_AT_ONCE = 100, 1024 * 1024

_OF_PRINCIPAL = "principal_pk = (SELECT pk FROM principal WHERE name = ?)"


def find(connection: sqlite3.Connection, principal: str, session_id: str) -> SessionRow | None:
    """The session; None if there is none."""
    row = connection.execute(
        f"SELECT {SESSION_COLUMNS} FROM session WHERE {_OF_PRINCIPAL} AND session_id = ?", (principal, session_id)
    ).fetchone()
    return None if row is None else SessionRow(*row)


def get(connection: sqlite3.Connection, principal: str, session_id: str) -> SessionRow:
    """The session.

    Raises:
        SessionNotFound: there is no such session.
    """
    row = find(connection, principal, session_id)
    if row is None:
        raise no_session(session_id)
    return row


def create(
    at: Transaction,
    principal: str,
    session_id: str | None,
    title: str | None,
    metadata: dict[str, Any] | None,
) -> SessionRow:
    """Insert a new session.

    Raises:
        Overloaded, StorageFull: there is no room for it.
    """
    session_id = session_id or new_id("ses")
    at.accounts.check_session(at.connection, principal)
    described = metadata_text(metadata)
    size = described_bytes(title, described)
    at.accounts.check_bytes(at.connection, principal, size)
    principal_pk = at.accounts.make(at.connection, principal)
    now = microseconds(utc_now())
    at.connection.execute(
        "INSERT INTO session (principal_pk, session_id, title, metadata, created_at, updated_at, bytes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (principal_pk, session_id, title, described, now, now, size),
    )
    at.accounts.count(at.connection, principal_pk, sessions=1, size=size)
    return get(at.connection, principal, session_id)


def page(
    connection: sqlite3.Connection,
    principal: str,
    limit: int,
    cursor: str | None,
    *,
    order: SessionOrder,
    archived: bool | None,
) -> SessionPage:
    """A page of sessions, newest first, of at most PAGE_BYTES_MAX, but at least one session.

    Raises:
        InvalidParams: the cursor is not valid, or belongs to another order.
    """
    conditions, values = [_OF_PRINCIPAL], [principal]  # type: list[str], list[Any]
    if archived is not None:
        conditions.append("archived = ?")
        values.append(int(archived))
    if order == "created":
        by = "pk DESC"
        if cursor is not None:
            conditions.append("pk < ?")
            values.append(min(ordinal_of(cursor), NUMBER_MAX))
    else:
        by = "updated_at DESC, pk DESC"
        if cursor is not None:
            conditions.append("(updated_at, pk) < (?, ?)")
            values += place_of(cursor)
    rows = connection.execute(
        f"SELECT {SESSION_COLUMNS} FROM session WHERE {' AND '.join(conditions)} ORDER BY {by} LIMIT ?",
        (*values, limit + 1),
    )
    items: list[Session] = []
    last, size = "", 0
    for row in map(SessionRow._make, rows):
        size += SESSION_LISTED_BYTES + described_bytes(row.title, row.metadata)
        if len(items) == limit or (items and size > PAGE_BYTES_MAX):
            return SessionPage.model_construct(items=items, next_cursor=last)
        items.append(row.as_session())
        last = str(row.pk) if order == "created" else cursor_of(SessionPlace(row.updated_at, row.pk))
    return SessionPage.model_construct(items=items)


def update(
    at: Transaction,
    principal: str,
    session_id: str,
    *,
    title: str | None,
    metadata: dict[str, Any] | None,
    archived: bool | None,
    version: int | None,
) -> Session:
    """Change what is not None, and return the session.

    Raises:
        SessionNotFound: there is no such session.
        Conflict: it has another version.
        StorageFull: there is no room for the change.
    """
    row = get(at.connection, principal, session_id)
    check_version(version, row.version)
    title = row.title if title is None else title
    described = row.metadata if metadata is None else metadata_text(metadata)
    change = described_bytes(title, described) - described_bytes(row.title, row.metadata)
    at.accounts.check_bytes(at.connection, principal, change)
    at.connection.execute(
        "UPDATE session SET title = ?, metadata = ?, archived = ?, bytes = bytes + ?, "
        "updated_at = max(updated_at, ?), version = version + 1 WHERE pk = ?",
        (
            title,
            described,
            row.archived if archived is None else int(archived),
            change,
            microseconds(utc_now()),
            row.pk,
        ),
    )
    at.accounts.count(at.connection, row.principal_pk, size=change)
    return get(at.connection, principal, session_id).as_session()


def delete(at: Transaction, rows: Sequence[SessionRow]) -> None:
    """Delete these sessions, their messages, and their entries in the search index."""
    for row in rows:
        indexed = at.connection.execute(
            "SELECT pk, content FROM message WHERE session_pk = ? AND hidden != ?", (row.pk, UNINDEXED)
        )
        for pk, content in indexed:
            at.index.remove(at.connection, pk, content)
        at.connection.execute("DELETE FROM session WHERE pk = ?", (row.pk,))
        at.accounts.count(at.connection, row.principal_pk, sessions=-1, size=-row.bytes)


def first_of(connection: sqlite3.Connection, principal: str, after: int, limit: int) -> list[SessionRow]:
    """The principal's sessions with numbers above `after`, oldest first, at most `limit`."""
    rows = connection.execute(
        f"SELECT {SESSION_COLUMNS} FROM session WHERE {_OF_PRINCIPAL} AND pk > ? ORDER BY pk LIMIT ?",
        (principal, after, limit),
    )
    return [SessionRow(*row) for row in rows]


def to_delete(connection: sqlite3.Connection, principal: str) -> list[SessionRow]:
    """The principal's first sessions, as many as are deleted at once."""
    found: list[SessionRow] = []
    size = 0
    for row in first_of(connection, principal, 0, DELETED_AT_ONCE):
        size += row.bytes
        if found and size > DELETED_BYTES_AT_ONCE:
            break
        found.append(row)
    return found


def principals(connection: sqlite3.Connection) -> list[str]:
    """All principals that have sessions, sorted."""
    return [name for (name,) in connection.execute("SELECT name FROM principal WHERE sessions > 0 ORDER BY name")]


def date(connection: sqlite3.Connection, row: SessionRow, exported: ExportedSession) -> None:
    """Set the times, the version and `archived` of an imported session."""
    connection.execute(
        "UPDATE session SET created_at = ?, updated_at = ?, version = ?, archived = ? WHERE pk = ?",
        (
            microseconds(exported.created_at),
            microseconds(exported.updated_at),
            exported.version or 1,
            int(bool(exported.archived)),
            row.pk,
        ),
    )
