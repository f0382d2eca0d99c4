"""Removes step by step, so that other requests run in between, what would take long at once: long conversations that
were deleted or whose storing was given up, and the search index's entries of messages that were replaced.

Such a conversation belongs to NOBODY, so that no request finds it. So does one that is still being stored (growth.py).
While a call goes on with one, it has a Hold; without it, also after a crash, the upkeep removes it.
"""

import contextlib
import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from archer_ws.sessions.storage.sqlite.accounts import Accounts
from archer_ws.sessions.storage.sqlite.forgetting import Forgetting
from archer_ws.sessions.storage.sqlite.rows import STEP_BYTES, SessionRow
from archer_ws.sessions.storage.sqlite.search_index import UNINDEXED, SearchIndex

#: The name of a principal that nobody can have.
NOBODY = ""
#: How often it is looked whether a call has left a conversation behind, in seconds.
_LOOK_EVERY_S = 1.0

_OF_NOBODY = "principal_pk = (SELECT pk FROM principal WHERE name = ?)"


@dataclass(slots=True)
class Hold:
    """A call that goes on with a conversation that is set aside. `is_left` may be set in any thread."""

    is_left: bool = False


class Leftovers:
    """The conversations that are set aside, and the pending work of the search index.

    Args:
        index: the file's search index.
        forgetting: told when a conversation is gone.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, index: SearchIndex, forgetting: Forgetting, clock: Callable[[], float]) -> None:
        self._index = index
        self._forgetting = forgetting
        self._clock = clock
        self._holds: dict[int, Hold] = {}
        self._is_pending = False

    @property
    def due_at(self) -> float | None:
        """When to call `step`, in seconds of the clock; None if nothing is pending."""
        if self._is_pending or self._index.is_later_pending or any(hold.is_left for hold in self._holds.values()):
            return -math.inf
        return self._clock() + _LOOK_EVERY_S if self._holds else None

    def open(self, connection: sqlite3.Connection) -> None:
        """Check whether an earlier process has left something."""
        self._is_pending = self._next(connection) is not None

    def put(self, connection: sqlite3.Connection, session: SessionRow, hold: Hold) -> None:
        """Set a conversation aside. It counts for its owner until it is gone."""
        connection.execute("INSERT OR IGNORE INTO principal (name) VALUES (?)", (NOBODY,))
        connection.execute(
            "UPDATE session SET principal_pk = (SELECT pk FROM principal WHERE name = ?), session_id = ? WHERE pk = ?",
            (NOBODY, f"{session.principal_pk}.{session.pk}", session.pk),
        )
        self._holds[session.pk] = hold

    def put_deleted(self, connection: sqlite3.Connection, session: SessionRow, hold: Hold) -> None:
        """Set a deleted conversation aside: its streams, and what names files, are gone at once."""
        self.put(connection, session, hold)
        connection.execute("DELETE FROM stream WHERE session_pk = ?", (session.pk,))
        connection.execute("DELETE FROM session_file WHERE session_pk = ?", (session.pk,))

    def give_back(self, connection: sqlite3.Connection, session: SessionRow, now: int) -> None:
        """Give a conversation that is whole to its owner, who has it from now on (in microseconds)."""
        connection.execute(
            "UPDATE session SET principal_pk = ?, session_id = ?, created_at = ?, updated_at = ? WHERE pk = ?",
            (session.principal_pk, session.session_id, now, now, session.pk),
        )
        self._holds.pop(session.pk, None)

    def clear(self, connection: sqlite3.Connection, pk: int) -> bool:
        """Remove some messages of a conversation that is set aside, at last the conversation. Returns whether it is
        gone."""
        found = connection.execute(
            f"SELECT session_id, bytes FROM session WHERE pk = ? AND {_OF_NOBODY}", (pk, NOBODY)
        ).fetchone()
        if found is None:
            return True
        gone: list[tuple[int]] = []
        size = 0
        # Read one by one: their texts may take much memory.
        rows = connection.execute(
            "SELECT pk, content, hidden, bytes FROM message WHERE session_pk = ? ORDER BY hidden, position", (pk,)
        )
        for message_pk, content, hidden, message_bytes in rows:
            if hidden != UNINDEXED:
                self._index.remove(connection, message_pk, content)
            gone.append((message_pk,))
            size += message_bytes
            if size >= STEP_BYTES:
                break
        rows.close()
        connection.executemany("DELETE FROM message WHERE pk = ?", gone)
        if size >= STEP_BYTES:
            return False
        session_id, counted = found
        connection.execute("DELETE FROM session WHERE pk = ?", (pk,))
        Accounts.count(connection, int(session_id.split(".")[0]), sessions=-1, size=-counted)
        self._holds.pop(pk, None)
        self._forgetting.begin(connection)
        return True

    def step(self, connection: sqlite3.Connection) -> None:
        """Do some of what is pending, in a transaction; afterwards `due_at` is None if nothing is left."""
        self._is_pending = True
        self._holds = {pk: hold for pk, hold in self._holds.items() if not hold.is_left}
        connection.execute("BEGIN IMMEDIATE")
        try:
            left = self._next(connection)
            self._is_pending = left is not None
            if left is not None:
                self.clear(connection, left)
            else:
                self._index.remove_some(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def finish(self, connection: sqlite3.Connection, limit_s: float) -> bool:
        """Do everything now, for about `limit_s` seconds at most: no call goes on any more. Returns whether nothing is
        left."""
        until = self._clock() + limit_s
        for hold in self._holds.values():
            hold.is_left = True
        while (is_left := self.due_at is not None) and self._clock() < until:
            self.step(connection)
        return not is_left

    def give_up(self) -> None:
        """Stop after a failure, until the next conversation or start."""
        self._is_pending = self._index.is_later_pending = False

    def _next(self, connection: sqlite3.Connection) -> int | None:
        """A conversation that no call goes on with; None if there is none."""
        rows = connection.execute(f"SELECT pk FROM session WHERE {_OF_NOBODY} ORDER BY pk", (NOBODY,))
        return next((pk for (pk,) in rows if pk not in self._holds), None)
