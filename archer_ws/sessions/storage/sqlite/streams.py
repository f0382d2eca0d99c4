"""Reads and writes the tables of streams and their logs; each function runs within its caller's transaction."""

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import structlog

from archer_ws.sessions.storage.cursors import microseconds, moment_of
from archer_ws.sessions.storage.journal import (
    EndLost,
    KeptStream,
    LogEnd,
    LogPart,
    LogPiece,
    StreamKey,
    StreamRecord,
    WaitingStream,
)
from archer_ws.sessions.storage.sqlite import messages, sessions
from archer_ws.sessions.storage.sqlite.rows import SessionRow
from archer_ws.sessions.storage.sqlite.transaction import Transaction

log = structlog.get_logger(__name__)

_OF_KEY = "stream_id = ? AND principal_pk = (SELECT pk FROM principal WHERE name = ?)"
_RECORD = (
    "SELECT stream.pk, principal.name, stream.stream_id, session.session_id, provider, model, request_id, fingerprint, "
    "stream.created_at, status, after_id, waiting, ended_at, ended FROM stream "
    "JOIN principal ON principal.pk = stream.principal_pk JOIN session ON session.pk = stream.session_pk "
)
#: How long the rows of ended streams are kept over restarts, in microseconds: a day. After a restart, a stream is
#: retained as if it had ended at the start; without this limit, repeated restarts would retain it for ever.
_KEPT_US = 24 * 3600 * 1_000_000


def begin(connection: sqlite3.Connection, session: SessionRow, record: StreamRecord, after: str) -> int:
    """Insert a stream for the turn that ends with the message `after`, and return its number.

    An older stream with its id, which has been forgotten by now, is deleted.
    """
    forget(connection, [(record.principal, record.stream_id)])
    made = connection.execute(
        "INSERT INTO stream (principal_pk, stream_id, session_pk, after_id, provider, model, request_id, fingerprint, "
        "status, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'running', ?)",
        (
            *(session.principal_pk, record.stream_id, session.pk, after, record.provider, record.model),
            *(record.request_id, record.fingerprint, microseconds(record.created_at)),
        ),
    ).lastrowid
    assert made is not None
    return made


def put(connection: sqlite3.Connection, parts: Sequence[LogPart]) -> None:
    """Store the new parts of running streams, and the ends among them."""
    # One statement that looks up each stream by itself: there are many streams with little text each.
    connection.executemany(
        "INSERT OR REPLACE INTO chunk (stream_pk, first_seq, last_seq, kind, ends, text) "
        f"SELECT pk, ?, ?, ?, ?, ? FROM stream WHERE {_OF_KEY} AND ended IS NULL",
        [
            (piece.first_seq, piece.last_seq, piece.kind, piece.ends, piece.text.decode(), stream_id, principal)
            for (principal, stream_id), pieces, *_ in parts
            for piece in pieces
        ],
    )
    for part in parts:
        if part.loop is not None:
            principal, stream_id = part.key
            connection.execute(
                f"UPDATE stream SET waiting = ? WHERE {_OF_KEY} AND ended IS NULL", (part.loop, stream_id, principal)
            )
        if part.end is not None:
            end(connection, part.key, part.end, ())


def end(connection: sqlite3.Connection, key: StreamKey, its_end: LogEnd, message_ids: Sequence[str]) -> None:
    """Store a stream's end, with the ids of the messages that it left."""
    principal, stream_id = key
    row = connection.execute(
        f"SELECT pk FROM stream WHERE {_OF_KEY} AND ended IS NULL", (stream_id, principal)
    ).fetchone()
    if row is not None:
        _put_pieces(connection, row[0], its_end.pieces)
        _end(connection, row[0], its_end, message_ids)


def _put_pieces(connection: sqlite3.Connection, pk: int, pieces: Sequence[LogPiece]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO chunk (stream_pk, first_seq, last_seq, kind, ends, text) VALUES (?, ?, ?, ?, ?, ?)",
        [(pk, piece.first_seq, piece.last_seq, piece.kind, piece.ends, piece.text.decode()) for piece in pieces],
    )


def _end(connection: sqlite3.Connection, pk: int, its_end: LogEnd, message_ids: Sequence[str]) -> str:
    ended = its_end.ended(message_ids)
    connection.execute("DELETE FROM chunk WHERE stream_pk = ? AND first_seq >= ?", (pk, its_end.seq))
    connection.execute(
        "UPDATE stream SET status = ?, ended_at = ?, ended = ?, waiting = NULL WHERE pk = ?",
        (its_end.status, microseconds(its_end.ended_at), ended, pk),
    )
    return ended


def forget(connection: sqlite3.Connection, keys: Collection[StreamKey]) -> None:
    """Delete streams and their logs."""
    connection.executemany(
        f"DELETE FROM stream WHERE {_OF_KEY}", [(stream_id, principal) for principal, stream_id in keys]
    )


def withdraw(at: Transaction, key: StreamKey, request_id: str, *, has_replaced: bool) -> bool:
    """Remove the stream of a refused request, and its turn (see messages.withdraw), unless that has replaced messages,
    which could not be restored. Returns whether nothing of the turn is stored."""
    principal, stream_id = key
    row = at.connection.execute(
        "SELECT stream.pk, session.session_id, after_id FROM stream JOIN session ON session.pk = stream.session_pk "
        "WHERE stream_id = ? AND stream.principal_pk = (SELECT pk FROM principal WHERE name = ?) AND request_id = ? "
        "AND ended IS NULL",
        (stream_id, principal, request_id),
    ).fetchone()
    if row is None:
        return True
    pk, session_id, last = row
    is_gone = not has_replaced and messages.withdraw(
        at, sessions.get(at.connection, principal, session_id), stream_id, last
    )
    at.connection.execute("DELETE FROM stream WHERE pk = ?", (pk,))
    return is_gone


def load(connection: sqlite3.Connection, key: StreamKey) -> list[LogPiece] | None:
    """The pieces of a stream's log without its end; None if there is no such stream."""
    principal, stream_id = key
    row = connection.execute(f"SELECT pk FROM stream WHERE {_OF_KEY}", (stream_id, principal)).fetchone()
    return None if row is None else _pieces(connection, row[0])


def _pieces(connection: sqlite3.Connection, pk: int) -> list[LogPiece]:
    rows = connection.execute(
        "SELECT first_seq, last_seq, kind, text, ends FROM chunk WHERE stream_pk = ? ORDER BY first_seq", (pk,)
    )
    return [LogPiece(first, last, kind, text.encode(), ends) for first, last, kind, text, ends in rows]


def recover(
    at: Transaction, end_lost: EndLost, *, before: int | None, now: datetime, writes: bool
) -> list[KeptStream | WaitingStream]:
    """End the unfinished streams with numbers below `before` (by default all), and return all with such numbers. With
    `writes=False` nothing is written, but the result is the same."""
    connection = at.connection
    if writes:
        connection.execute("DELETE FROM stream WHERE ended_at < ?", (microseconds(now) - _KEPT_US,))
    last = 2**63 - 1 if before is None else before
    rows = connection.execute(f"{_RECORD} WHERE stream.pk < ? ORDER BY stream.pk", (last,)).fetchall()
    return [_kept(at, end_lost, row, writes=writes) for row in rows]


def _kept(at: Transaction, end_lost: EndLost, row: tuple[Any, ...], *, writes: bool) -> KeptStream | WaitingStream:
    pk, status, after, loop, ended_at, ended = row[0], *row[9:]
    known = (*row[1:8], moment_of(row[8]))
    record = StreamRecord(*known)
    if ended is not None:
        return KeptStream(record, status, moment_of(ended_at), ended)
    pieces = _pieces(at.connection, pk)
    lost = end_lost(record, pieces, loop)
    if lost is None:
        # Its row stays as it is, and this process goes on with it.
        return WaitingStream(record, pieces, loop)
    completion, its_end = lost
    session = sessions.get(at.connection, record.principal, record.session_id)
    if writes:
        messages.append_completion(at, session, completion, after=after, stream_id=record.stream_id)
    message_ids = messages.ids_of_stream(at.connection, session, record.stream_id, after)
    ended = _end(at.connection, pk, its_end, message_ids) if writes else its_end.ended(message_ids)
    return KeptStream(record, its_end.status, its_end.ended_at, ended)
