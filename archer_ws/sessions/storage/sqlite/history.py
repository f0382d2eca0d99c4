"""Reads the history before a turn from the table of messages: from its end, and only as far as needed."""

import dataclasses
import sqlite3
from collections.abc import Iterator, Sequence

from archer_ws.core.limits import HISTORY_TOKENS_MAX
from archer_ws.llm_gateway.native_replay import loop_length
from archer_ws.llm_gateway.types import ASSISTANT, SYSTEM, TOOL, USER, ChatMessage
from archer_ws.sessions.history import History, begin_of_turn, fit_history, native_turns, without_refused
from archer_ws.sessions.storage.sqlite.rows import HISTORY_COLUMNS, VISIBLE, HistoryRow, SessionRow

#: How many messages are read at once: at first, and afterwards.
_READ_FIRST, _READ_AT_ONCE = 32, 256
#: The turns of so many refusals are looked for one by one; if there are more, all messages are read.
_REFUSED_FEW = 32


def history_before(
    connection: sqlite3.Connection, session: SessionRow, position: int, turn_tokens: int, budget_tokens: int | None
) -> History:
    """The history before the turn that begins at a position, cut to the budget (see history.fit_history)."""
    (role,) = connection.execute(
        f"SELECT role FROM message WHERE {VISIBLE} AND position = ?", (session.pk, position)
    ).fetchone()
    goes_on = role == TOOL
    system: list[HistoryRow] = []
    if session.system_count:
        rows = connection.execute(
            f"SELECT {HISTORY_COLUMNS} FROM message WHERE session_pk = ? AND hidden = 0 AND role = 'system' "
            "AND position < ? ORDER BY position",
            (session.pk, position),
        )
        system = [HistoryRow.of(row) for row in rows]
    budget = HISTORY_TOKENS_MAX if budget_tokens is None else budget_tokens
    room = budget - turn_tokens - sum(message.tokens for message in system)
    tail = tail_before(connection, session, position, room, whole_turn=goes_on)
    told = without_refused(tail) if session.refused_count else tail
    fitting = fit_history(told, system, turn_tokens, budget_tokens, goes_on=goes_on)
    return dataclasses.replace(
        fitting,
        dropped=_count(connection, session, position) - len(fitting.messages),
        native_turns=native_turns(loop_at_end(connection, session)),
    )


def tail_before(
    connection: sqlite3.Connection, session: SessionRow, position: int, room: int, *, whole_turn: bool
) -> list[HistoryRow]:
    """The messages before a position, read from the end: all of them, or just more than fit into `room` tokens. With
    `whole_turn`, at least the last turn."""
    found: list[HistoryRow] = []
    rows = connection.execute(
        f"SELECT {HISTORY_COLUMNS} FROM message WHERE {VISIBLE} AND position < ? ORDER BY position DESC",
        (session.pk, position),
    )
    taken, most = 0, _READ_FIRST
    while read := rows.fetchmany(most):
        new = [HistoryRow.of(row) for row in read]
        found += new
        if session.refused_count:
            # A refusal hides messages that were read before it, so all are counted again: of twice as many each time.
            taken, most = _tokens(without_refused(found[::-1])), max(_READ_AT_ONCE, len(found))
        else:
            taken, most = taken + _tokens(new), _READ_AT_ONCE
        is_whole = not whole_turn or any(message.chat.role is USER for message in found)
        if taken > room and is_whole:
            break
    found.reverse()
    return found


def _tokens(messages: Sequence[HistoryRow]) -> int:
    return sum(message.tokens for message in messages if message.chat.role is not SYSTEM)


def _count(connection: sqlite3.Connection, session: SessionRow, position: int) -> int:
    """The number of messages before a position, without refused turns."""
    if session.refused_count <= _REFUSED_FEW:
        (count,) = connection.execute(
            f"SELECT count(*) FROM message WHERE {VISIBLE} AND position < ?", (session.pk, position)
        ).fetchone()
        return int(count) - (_count_refused(connection, session, position) if session.refused_count else 0)
    rows = connection.execute(
        f"SELECT role, stream_id, created_at, refused, tokens, '', NULL, NULL FROM message WHERE {VISIBLE} "
        "AND position < ? ORDER BY position",
        (session.pk, position),
    )
    return len(without_refused([HistoryRow.of(row) for row in rows]))


def _count_refused(connection: sqlite3.Connection, session: SessionRow, position: int) -> int:
    """The number of messages before a position that `without_refused` leaves out."""
    gone: set[int] = set()
    refused = connection.execute(
        f"SELECT position FROM message WHERE {VISIBLE} AND refused != 0 AND position < ?", (session.pk, position)
    )
    for (last,) in refused.fetchall():
        rows = connection.execute(
            "SELECT position, role, stream_id, created_at, refused, tokens, '', NULL, NULL FROM message "
            f"WHERE {VISIBLE} AND position BETWEEN ? AND ? ORDER BY position",
            (session.pk, _before_turn(connection, session, last), last),
        ).fetchall()
        begin = begin_of_turn([HistoryRow.of(row) for _, *row in rows], len(rows) - 1)
        gone.update(place for place, role, *_ in rows[begin:] if role != SYSTEM)
    return len(gone)


def _before_turn(connection: sqlite3.Connection, session: SessionRow, position: int) -> int:
    """The position of a message before the turn of the answer at a position, as far back as begin_of_turn looks; 0 if
    the turn is the first: that of the last message before the question that is not of its stream, or, without streams,
    that answers."""
    asked = connection.execute(
        f"SELECT position, coalesce(stream_id, '') FROM message WHERE {VISIBLE} AND position <= ? AND role = ? "
        "ORDER BY position DESC LIMIT 1",
        (session.pk, position, USER),
    ).fetchone()
    if asked is None:
        return 0
    question, stream_id = asked
    before = connection.execute(
        f"SELECT position FROM message WHERE {VISIBLE} AND position < ? AND (coalesce(stream_id, '') != ? "
        "OR ? = '' AND role IN (?, ?)) ORDER BY position DESC LIMIT 1",
        (session.pk, question, stream_id, stream_id, ASSISTANT, TOOL),
    ).fetchone()
    return 0 if before is None else int(before[0])


def loop_at_end(connection: sqlite3.Connection, session: SessionRow) -> list[HistoryRow]:
    """The end of the session with the tool loop of its last message; empty if the session has no native turns."""
    if not connection.execute(
        "SELECT 1 FROM message WHERE session_pk = ? AND native IS NOT NULL LIMIT 1", (session.pk,)
    ).fetchone():
        return []
    found: list[HistoryRow] = []
    rows = connection.execute(
        f"SELECT {HISTORY_COLUMNS} FROM message WHERE {VISIBLE} ORDER BY position DESC", (session.pk,)
    )

    def newest_first() -> Iterator[ChatMessage]:
        for row in rows:
            found.append(HistoryRow.of(row))
            yield found[-1].chat

    # Reads only as many rows as loop_length consumes.
    loop_length(newest_first())
    found.reverse()
    return found
