"""Reads and writes the table of messages; each function runs within its caller's transaction."""

import dataclasses
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from archer_ws.core.clock import utc_now
from archer_ws.core.ids import new_id
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.types import ASSISTANT, SYSTEM, TOOL, ChatMessage
from archer_ws.sessions.history import native_turns
from archer_ws.sessions.models import StoredMessage
from archer_ws.sessions.results import check_open
from archer_ws.sessions.storage.cursors import microseconds
from archer_ws.sessions.storage.message import ids_for, left_by, listed_bytes
from archer_ws.sessions.storage.refusals import no_message, nothing_asked, taken_message_id
from archer_ws.sessions.storage.sqlite.history import loop_at_end, tail_before
from archer_ws.sessions.storage.sqlite.rows import (
    MESSAGE_COLUMNS,
    STEP_BYTES,
    VISIBLE,
    MessageRow,
    NewMessage,
    SessionRow,
    file_ids_in,
)
from archer_ws.sessions.storage.sqlite.search_index import STILL_INDEXED, UNINDEXED
from archer_ws.sessions.storage.sqlite.transaction import Transaction
from archer_ws.sessions.storage.values import StoredCompletion
from archer_ws.sessions.storage.words import PREVIEW_MESSAGES, preview

_INSERT = (
    "INSERT INTO message (session_pk, position, message_id, parent_id, role, stream_id, ordinal, after_id, status, "
    "refused, tokens, bytes, created_at, content, said, told, reasoning, native) VALUES (:session_pk, :position, "
    ":message_id, :parent_id, :role, :stream_id, :ordinal, :after_id, :status, :refused, :tokens, :bytes, "
    ":created_at, :content, :said, :told, :reasoning, :native)"
)
#: The messages of a stream's turn, which ends with a certain one: they were stored at one time. Earlier messages may
#: have the same stream id, which may come again once its stream was forgotten.
_OF_TURN = (
    f"{VISIBLE} AND stream_id = ? AND ordinal IS NULL "
    f"AND created_at = (SELECT created_at FROM message WHERE {VISIBLE} AND message_id = ?)"
)
_NAME_FILE = "INSERT OR IGNORE INTO session_file (session_pk, file_id) VALUES (?, ?)"


def page(
    connection: sqlite3.Connection,
    session: SessionRow,
    before: str | None,
    limit: int | None,
    bytes_max: int | None = None,
) -> list[StoredMessage]:
    """The messages in order: those before the message `before`, or all; with a limit the newest of these (see
    SessionStore.detail for `bytes_max`).

    Raises:
        InvalidParams: `before` is not a message of the session.
    """
    condition, values = VISIBLE, [session.pk]
    if before is not None:
        condition += " AND position < ?"
        values.append(position_given(connection, session, before, "cursor"))
    rows = connection.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM message WHERE {condition} ORDER BY position DESC LIMIT ?",
        (*values, -1 if limit is None else limit),
    )
    found: list[StoredMessage] = []
    size = 0
    for row in rows:
        found.append(MessageRow(*row).as_message())
        if bytes_max is not None and (size := size + listed_bytes(found[-1])) > bytes_max and len(found) > 1:
            break
    found.reverse()
    return found


def position_of(connection: sqlite3.Connection, session: SessionRow, message_id: str) -> int | None:
    """The position of a message; None if there is none."""
    row = connection.execute(
        f"SELECT position FROM message WHERE {VISIBLE} AND message_id = ?", (session.pk, message_id)
    ).fetchone()
    return None if row is None else int(row[0])


def position_given(connection: sqlite3.Connection, session: SessionRow, message_id: str, field_name: str) -> int:
    """The position of a message that a client named in a field.

    Raises:
        InvalidParams: there is no such message.
    """
    position = position_of(connection, session, message_id)
    if position is None:
        raise no_message(message_id, field_name)
    return position


def _forget_native(at: Transaction, session: SessionRow) -> int:
    """Remove the native turns of earlier tool loops, which are no longer needed; returns their size in bytes."""
    kept = {native.packed() for native in native_turns(loop_at_end(at.connection, session)).values()}
    rows = at.connection.execute(
        "SELECT pk, native FROM message WHERE session_pk = ? AND native IS NOT NULL", (session.pk,)
    ).fetchall()
    given_back = 0
    for pk, packed in rows:
        if packed not in kept:
            size = NativeTurn.unpacked(packed).size
            at.connection.execute("UPDATE message SET native = NULL, bytes = bytes - ? WHERE pk = ?", (size, pk))
            given_back += size
    return given_back


def begin_turn(
    at: Transaction,
    principal: str,
    session: SessionRow,
    turn: Sequence[ChatMessage],
    *,
    stream_id: str,
    replace_from: str | None,
) -> tuple[int, list[StoredMessage]]:
    """Store a turn, replacing `replace_from` and what follows it. Returns the position of the turn, and its messages.

    Raises:
        InvalidParams, Conflict, StorageFull: see SessionStore.begin_turn.
    """
    kept = None if replace_from is None else position_given(at.connection, session, replace_from, "replace_from")
    begin = None if turn else _asked_before(at.connection, session, kept)
    _check_ids(at.connection, session, turn, kept)
    if turn and turn[0].role is TOOL:
        end = kept if kept is not None else _end(at.connection, session)
        check_open(turn, tail_before(at.connection, session, end, -1, whole_turn=True))
    now = utc_now()
    new = [NewMessage(message.message_id or new_id("msg"), message, stream_id, "completed", now) for message in turn]
    change = Counts.of(new)
    at.accounts.check_bytes(at.connection, principal, change.size)
    if kept is not None:
        change = change.without(hide(at, session, kept))
    position, parent = _last(at.connection, session)
    append(at, session, new, position + 1, parent)
    _changed(at, session, now, change.without(Counts(size=_forget_native(at, session))))
    begin = position + 1 if begin is None else begin
    rows = at.connection.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM message WHERE {VISIBLE} AND position >= ? ORDER BY position",
        (session.pk, begin),
    )
    turn_stored = [MessageRow(*row).as_message() for row in rows]
    _begin_anew(at, session, stream_id, turn_stored[-1].message_id)
    return begin, turn_stored


def _begin_anew(at: Transaction, session: SessionRow, stream_id: str, after: str) -> None:
    """Note that what an earlier stream with this id left after the message is not what the new one leaves there: an id
    may come again once its stream was forgotten, also for the same question."""
    at.connection.execute(
        "UPDATE message SET after_id = NULL WHERE session_pk = ? AND stream_id = ? AND after_id = ? "
        "AND ordinal IS NOT NULL",
        (session.pk, stream_id, after),
    )


def withdraw(at: Transaction, session: SessionRow, stream_id: str, last_id: str) -> bool:
    """Remove a stream's turn, which ends with the message `last_id`, unless other messages follow it. Returns whether
    it is gone."""
    _, message_id = _last(at.connection, session)
    if message_id != last_id:
        return False
    rows = at.connection.execute(
        f"SELECT pk, content, role, bytes, said FROM message WHERE {_OF_TURN}",
        (session.pk, stream_id, session.pk, last_id),
    ).fetchall()
    for pk, content, *_ in rows:
        at.index.remove(at.connection, pk, content)
        at.connection.execute("DELETE FROM message WHERE pk = ?", (pk,))
    for file_id in {file_id for *_, said in rows for file_id in file_ids_in(said)}:
        at.connection.execute(
            "DELETE FROM session_file WHERE session_pk = ? AND file_id = ? "
            "AND NOT EXISTS (SELECT 1 FROM message WHERE session_pk = ? AND instr(said, ?))",
            (session.pk, file_id, session.pk, file_id),
        )
    system = sum(1 for row in rows if row[2] == SYSTEM)
    gone = Counts(len(rows), system, size=sum(row[3] for row in rows))
    _changed(at, session, utc_now(), Counts().without(gone))
    return True


def ids_of_stream(connection: sqlite3.Connection, session: SessionRow, stream_id: str, after: str) -> list[str]:
    """The ids of a stream's messages, in order: of its turn, which ends with the message `after`, and of what it
    left."""
    rows = connection.execute(
        f"SELECT message_id FROM message WHERE {_OF_TURN} OR ({VISIBLE} AND stream_id = ? AND after_id = ?) "
        "ORDER BY position",
        (session.pk, stream_id, session.pk, after, session.pk, stream_id, after),
    )
    return [message_id for (message_id,) in rows]


def append_completion(
    at: Transaction,
    session: SessionRow,
    completion: StoredCompletion,
    *,
    after: str,
    stream_id: str,
) -> list[str]:
    """Store what a stream leaves after the message `after` (see SessionStore.append_completion)."""
    position = _asked_at(at.connection, session, after, stream_id)
    left = left_by(completion)
    if position is None or not left:
        return []
    known = at.connection.execute(
        "SELECT message_id FROM message WHERE session_pk = ? AND stream_id = ? AND after_id = ? "
        "AND ordinal IS NOT NULL ORDER BY ordinal",
        (session.pk, stream_id, after),
    ).fetchall()
    if known:
        return [message_id for (message_id,) in known]
    now = utc_now()
    ids = ids_for(left, lambda message_id: position_of(at.connection, session, message_id) is not None)
    new = [
        NewMessage(message_id, each.chat, stream_id, each.status, now, each.completion, ordinal, after)
        for ordinal, (each, message_id) in enumerate(zip(left, ids, strict=True))
    ]
    follower = at.connection.execute(
        f"SELECT pk FROM message WHERE {VISIBLE} AND position > ? ORDER BY position LIMIT 1", (session.pk, position)
    ).fetchone()
    if follower is not None:
        at.connection.execute(
            f"UPDATE message SET position = position + ? WHERE {VISIBLE} AND position > ?",
            (len(new), session.pk, position),
        )
        at.connection.execute("UPDATE message SET parent_id = ? WHERE pk = ?", (ids[-1], follower[0]))
    append(at, session, new, position + 1, after)
    _changed(at, session, now, Counts.of(new))
    return ids


def _asked_at(connection: sqlite3.Connection, session: SessionRow, after: str, stream_id: str) -> int | None:
    """The position of a stream's question; None if it was deleted or replaced, also if a later stream's question has
    its id."""
    row = connection.execute(
        f"SELECT position FROM message WHERE {VISIBLE} AND message_id = ? AND NOT EXISTS (SELECT 1 FROM stream mine "
        "JOIN stream later ON later.principal_pk = mine.principal_pk AND later.stream_id = message.stream_id "
        "AND later.pk > mine.pk WHERE mine.principal_pk = ? AND mine.stream_id = ?)",
        (session.pk, after, session.principal_pk, stream_id),
    ).fetchone()
    return None if row is None else int(row[0])


def append(
    at: Transaction,
    session: SessionRow,
    new: Sequence[NewMessage],
    position: int,
    parent_id: str | None,
) -> None:
    """Insert new messages at `position` and the following ones, which must be free."""
    for place, message in enumerate(new, position):
        row = message.as_row(session.pk, place, parent_id)
        pk = at.connection.execute(_INSERT, row).lastrowid
        assert pk is not None
        at.index.add(at.connection, pk, message.chat.content)
        at.connection.executemany(_NAME_FILE, [(session.pk, file_id) for file_id in message.chat.file_ids])
        parent_id = message.message_id


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """A change of a session's counts."""

    messages: int = 0
    system: int = 0
    refused: int = 0
    #: Their bytes. Hidden messages still count.
    size: int = 0

    @classmethod
    def of(cls, new: Sequence[NewMessage]) -> "Counts":
        """The counts of new messages."""
        return cls(
            len(new),
            sum(1 for message in new if message.chat.role is SYSTEM),
            sum(1 for message in new if message.is_refused),
            sum(message.bytes for message in new),
        )

    def without(self, gone: "Counts") -> "Counts":
        """These counts minus others."""
        return Counts(
            self.messages - gone.messages, self.system - gone.system, self.refused - gone.refused, self.size - gone.size
        )


def hide(at: Transaction, session: SessionRow, position: int) -> Counts:
    """Hide the messages from a position on, and remove them from the index, if they are many later. Returns their
    counts."""
    gone = f"{VISIBLE} AND position >= ?"
    messages, system, refused, size = at.connection.execute(
        f"SELECT count(*), total(role = 'system'), total(refused), total(bytes) FROM message WHERE {gone}",
        (session.pk, position),
    ).fetchone()
    is_much = size > STEP_BYTES
    if is_much:
        at.index.remove_later(at.connection, session.pk)
    else:
        for pk, content in at.connection.execute(
            f"SELECT pk, content FROM message WHERE {gone}", (session.pk, position)
        ):
            at.index.remove(at.connection, pk, content)
    at.connection.execute(
        f"UPDATE message SET hidden = ? WHERE {gone}", (STILL_INDEXED if is_much else UNINDEXED, session.pk, position)
    )
    return Counts(messages, int(system), int(refused))


def named_files(connection: sqlite3.Connection, session: SessionRow | None) -> set[str]:
    """The ids of the files that messages name, of one session or of all."""
    condition, values = ("", ()) if session is None else (" WHERE session_pk = ?", (session.pk,))
    return {
        file_id for (file_id,) in connection.execute(f"SELECT DISTINCT file_id FROM session_file{condition}", values)
    }


def copy_some(
    at: Transaction, source: SessionRow, target: SessionRow, after: int, before: int | None, *, bytes_max: int
) -> tuple[Counts, int | None]:
    """Copy a session's next messages after a position, those before another one or all, to a new session: about
    `bytes_max`. Returns their counts, and the last one's position; None if there are no others."""
    last, size = after, 0
    rows = at.connection.execute(
        f"SELECT position, bytes FROM message WHERE {VISIBLE} AND position > ? AND (? IS NULL OR position < ?) "
        "ORDER BY position",
        (source.pk, after, before, before),
    )
    for position, message_bytes in rows:
        last, size = position, size + message_bytes
        if size >= bytes_max:
            break
    is_more = rows.fetchone() is not None
    rows.close()
    columns = (
        "position, message_id, parent_id, role, stream_id, ordinal, after_id, status, refused, tokens, bytes, "
        "created_at, content, said, told, reasoning, native"
    )
    at.connection.execute(
        f"INSERT INTO message (session_pk, {columns}) SELECT ?, {columns} FROM message WHERE {VISIBLE} "
        "AND position > ? AND position <= ? ORDER BY position",
        (target.pk, source.pk, after, last),
    )
    copied: list[tuple[str, int]] = []
    for pk, content, role, refused, said in at.connection.execute(
        f"SELECT pk, content, role, refused, said FROM message WHERE {VISIBLE} AND position > ?", (target.pk, after)
    ):
        at.index.add(at.connection, pk, content)
        at.connection.executemany(_NAME_FILE, [(target.pk, file_id) for file_id in file_ids_in(said)])
        copied.append((role, refused))
    change = Counts(len(copied), sum(role == SYSTEM for role, _ in copied), sum(refused for _, refused in copied), size)
    return change, last if is_more else None


def count(at: Transaction, session: SessionRow, change: Counts) -> None:
    """Apply a change of counts to the rows of a session and its principal, and update the preview."""
    at.connection.execute(
        "UPDATE session SET message_count = message_count + ?, system_count = system_count + ?, "
        "refused_count = refused_count + ?, bytes = bytes + ?, preview = ? WHERE pk = ?",
        (
            *(change.messages, change.system, change.refused, change.size),
            *(_preview(at.connection, session), session.pk),
        ),
    )
    at.accounts.count(at.connection, session.principal_pk, size=change.size)


def _changed(at: Transaction, session: SessionRow, now: datetime, change: Counts) -> None:
    count(at, session, change)
    at.connection.execute(
        "UPDATE session SET updated_at = max(updated_at, ?), version = version + 1 WHERE pk = ?",
        (microseconds(now), session.pk),
    )


def _preview(connection: sqlite3.Connection, session: SessionRow) -> str | None:
    rows = connection.execute(
        f"SELECT content FROM message WHERE {VISIBLE} ORDER BY position DESC LIMIT ?", (session.pk, PREVIEW_MESSAGES)
    )
    return next((shown for (content,) in rows if (shown := preview(content)) is not None), None)


def _last(connection: sqlite3.Connection, session: SessionRow) -> tuple[int, str | None]:
    """The position and id of the last message; position 0 if there is none."""
    row = connection.execute(
        f"SELECT position, message_id FROM message WHERE {VISIBLE} ORDER BY position DESC LIMIT 1", (session.pk,)
    ).fetchone()
    return (0, None) if row is None else (row[0], row[1])


def _end(connection: sqlite3.Connection, session: SessionRow) -> int:
    return _last(connection, session)[0] + 1


def _asked_before(connection: sqlite3.Connection, session: SessionRow, position: int | None) -> int:
    """The position of the question of the completion at `position`.

    Raises:
        InvalidParams: there is no completion at `position`, or no question before it.
    """
    (role,) = connection.execute(
        f"SELECT role FROM message WHERE {VISIBLE} AND position = ?", (session.pk, position)
    ).fetchone() or (None,)
    row = connection.execute(
        f"SELECT position FROM message WHERE {VISIBLE} AND position < ? AND role = 'user' "
        "ORDER BY position DESC LIMIT 1",
        (session.pk, position),
    ).fetchone()
    if role != ASSISTANT or row is None:
        raise nothing_asked()
    return int(row[0])


def _check_ids(
    connection: sqlite3.Connection, session: SessionRow, turn: Sequence[ChatMessage], kept: int | None
) -> None:
    """Refuse a message whose id another message has.

    Raises:
        Conflict: with the path of the id.
    """
    seen: set[str] = set()
    for place, message in enumerate(turn):
        if message.message_id is None:
            continue
        position = position_of(connection, session, message.message_id)
        if message.message_id in seen or (position is not None and (kept is None or position < kept)):
            raise taken_message_id(message.message_id, place)
        seen.add(message.message_id)
