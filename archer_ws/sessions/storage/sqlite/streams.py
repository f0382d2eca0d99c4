"""What is done with streams and their logs in an open file, each function within a transaction of its caller's."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
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
#: How long a stream is kept that ended before this process began, whatever a clock says, in microseconds: a day. They
#: are kept as those that ended at the start are; this only bounds what restarts in a row would keep for ever.
_KEPT_US = 24 * 3600 * 1_000_000


def begin(connection: sqlite3.Connection, session: SessionRow, record: StreamRecord, after: str) -> int:
    """A stream is accepted, for the turn that ends with the message `after`; its number.

    Another of its id is no longer known by now: it goes.
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


def put(connection: sqlite3.Connection, part: LogPart) -> None:
    """Keep what is new of a running stream, and its end where that is told."""
    principal, stream_id = part.key
    row = connection.execute(
        f"SELECT pk FROM stream WHERE {_OF_KEY} AND ended IS NULL", (stream_id, principal)
    ).fetchone()
    if row is not None:
        _put_pieces(connection, row[0], part.pieces)
        if part.loop is not None:
            connection.execute("UPDATE stream SET waiting = ? WHERE pk = ?", (part.loop, row[0]))
        if part.end is not None:
            _end(connection, row[0], part.end, ())


def end(connection: sqlite3.Connection, key: StreamKey, its_end: LogEnd, message_ids: Sequence[str]) -> None:
    """A stream has ended, and has left these messages."""
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


def load(connection: sqlite3.Connection, key: StreamKey) -> list[LogPiece] | None:
    """A stream's log without its end; None where there is no such stream."""
    principal, stream_id = key
    row = connection.execute(f"SELECT pk FROM stream WHERE {_OF_KEY}", (stream_id, principal)).fetchone()
    return None if row is None else _pieces(connection, row[0])


def _pieces(connection: sqlite3.Connection, pk: int) -> list[LogPiece]:
    rows = connection.execute(
        "SELECT first_seq, last_seq, kind, text, ends FROM chunk WHERE stream_pk = ? ORDER BY first_seq", (pk,)
    )
    return [LogPiece(first, last, kind, text.encode(), ends) for first, last, kind, text, ends in rows]


def recover(
    at: Transaction, end_lost: EndLost, *, before: int | None, now: datetime
) -> list[KeptStream | WaitingStream]:
    """End what runs no more, of the streams with numbers below `before` (all, by default), and give these streams."""
    connection = at.connection
    connection.execute("DELETE FROM stream WHERE ended_at < ?", (microseconds(now) - _KEPT_US,))
    last = 2**63 - 1 if before is None else before
    rows = connection.execute(f"{_RECORD} WHERE stream.pk < ? ORDER BY stream.pk", (last,)).fetchall()
    return [kept for row in rows for kept in _kept(at, end_lost, row)]


def _kept(at: Transaction, end_lost: EndLost, row: tuple[Any, ...]) -> Iterator[KeptStream | WaitingStream]:
    pk, status, after, loop, ended_at, ended = row[0], *row[9:]
    known = (*row[1:8], moment_of(row[8]))
    record = StreamRecord(*known)
    if ended is not None:
        yield KeptStream(record, status, moment_of(ended_at), ended)
        return
    pieces = _pieces(at.connection, pk)
    lost = end_lost(record, pieces, loop)
    if lost is None:
        # Its row goes on, as if this process had begun it.
        yield WaitingStream(record, pieces, loop)
        return
    answer, its_end = lost
    session = sessions.get(at.connection, record.principal, record.session_id)
    messages.append_answer(at, session, answer, after=after, stream_id=record.stream_id)
    stored = at.connection.execute(
        "SELECT message_id FROM message WHERE session_pk = ? AND stream_id = ? AND hidden = 0 ORDER BY position",
        (session.pk, record.stream_id),
    )
    ended = _end(at.connection, pk, its_end, [message_id for (message_id,) in stored])
    yield KeptStream(record, its_end.status, its_end.ended_at, ended)
